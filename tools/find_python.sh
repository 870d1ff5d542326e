#!/bin/sh
# Prints a Python that phasewatt is tested on, 3.10 to 3.13, with its venv module; $PYTHON, where set, is the only choice.

usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if usable "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done

found=$("${PYTHON:-python3}" --version 2>&1) || found="no ${PYTHON:-python3}"
echo "phasewatt needs Python 3.10 to 3.13 with its venv module; found $found." \
    "Install one (Debian: apt-get install python3-venv), or name it: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
