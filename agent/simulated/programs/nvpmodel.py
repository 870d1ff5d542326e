"""`nvpmodel -q` of a simulated board: the power mode by name and id, as the real one prints it."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def main(arguments: list[str], root: Path) -> int:
    """Print the mode; nothing else is simulated."""
    if not {"-q", "--query"} & set(arguments):
        sys.stderr.write("nvpmodel (simulated): only -q is known\n")
        return 1
    status = (root / "var/lib/nvpmodel/status").read_text(encoding="ascii")
    number = int(status.partition(":")[2])
    modes = re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+)", (root / "etc/nvpmodel.conf").read_text(encoding="ascii"))
    sys.stdout.write(f"NV Power Mode: {dict(modes)[str(number)]}\n{number}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[2]))
