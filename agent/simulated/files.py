"""Files of a simulated board: each appears whole, is absent, or fails when it is read."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from pathlib import Path

_ASIDE = ".writing"  # in the board's folder, so that no pattern of a reader finds half a file


class Trouble(enum.Enum):
    """What may be in place of a file's text."""

    ABSENT = "absent"
    UNREADABLE = "unreadable"  # opens, and fails with an I/O error when it is read


Content = str | bytes | Trouble


class Files:
    """Writes what changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = root / _ASIDE
        self._aside.mkdir(parents=True, exist_ok=True)
        self._written: dict[str, Content] = {}

    def put(self, contents: Mapping[str, Content]) -> None:
        """Make files of these paths, relative to the root, be so."""
        for path, content in contents.items():
            if self._written.get(path) != content:
                self._put(self._root / path, content)
                self._written[path] = content

    def link(self, links: Mapping[str, str]) -> None:
        """Make folders be found under other paths too, as the kernel does."""
        for path, target in links.items():
            self._symlink(self._root / path, os.path.relpath(self._root / target, (self._root / path).parent))

    def program(self, path: str, text: str) -> None:
        """Make an executable."""
        self.put({path: text})
        (self._root / path).chmod(0o755)

    def _put(self, path: Path, content: Content) -> None:
        if content is Trouble.ABSENT:
            path.unlink(missing_ok=True)
        elif content is Trouble.UNREADABLE:
            self._symlink(path, "/proc/self/mem")  # its first bytes belong to nobody: reading them is an I/O error
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = self._aside / path.name
            new.write_bytes(content.encode() if isinstance(content, str) else content)
            new.replace(path)

    def _symlink(self, path: Path, target: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = self._aside / path.name
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(path)
