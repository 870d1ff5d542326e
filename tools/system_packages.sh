#!/bin/sh
# Installs what is missing of the named Debian packages, as root where apt-get is; says what else will be skipped.
# Never fails: a test that lacks its program skips itself, and `--no-skips` is what makes that a failure.

PATH="$PATH:/usr/sbin:/sbin:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')"

program_of() {
    case "$1" in
        postgresql) echo initdb ;;
        systemd-container) echo systemd-nspawn ;;
        qemu-user-static) echo qemu-aarch64-static ;;
        *) echo "$1" ;;
    esac
}

missing=""
for package in "$@"; do
    command -v "$(program_of "$package")" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing with apt-get:$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086 # one word a package
    if { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing; } \
        >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        exit 0
    fi
    why="apt-get failed: $(grep '^E:' "$log" | tail -n 1)"
    rm -f "$log"
else
    why="not root, or no apt-get"
fi
echo "missing, and not installed ($why):$missing. Tests that need it are skipped; install it with your package manager."
exit 0
