"""Small files of the kernel: what one says, or None where it is absent, gated or forbidden."""

from __future__ import annotations

import re
from pathlib import Path

MOST_CHARACTERS = 1 << 20  # /var/lib/dpkg/status is larger than a file of the kernel
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)  # more digits than any register has are no figure


def text(path: Path, most_characters: int = MOST_CHARACTERS) -> str | None:
    """Content without the zero byte or line end after it; None also where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(most_characters).strip("\0\n ") or None
    except OSError:
        return None


def whole_number(said: str) -> int:
    """What a file of the kernel said, as a whole number.

    Raises:
        ValueError: it is none that a register could have.
    """
    if not _NUMBER.fullmatch(said):
        raise ValueError(f"expected a whole number, got {said[:40]!r}")
    return int(said)


def number(path: Path) -> int | None:
    """Content as a whole number."""
    said = text(path, 64)
    try:
        return None if said is None else whole_number(said)
    except ValueError:
        return None


def matching(folder: Path, pattern: str) -> list[Path]:
    """Paths under a folder that match, in order; none where it may not be looked into."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []
