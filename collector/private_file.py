"""Files that nobody else may read: whole under their name or not there, and never readable for a moment."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from phasewatt.errors import ConfigInvalid

SECRET = 0o600
SHOWN = 0o644


def make_folder(folder: Path) -> None:
    """A folder that only its owner may look into; one that is there keeps its owner and mode.

    Raises:
        ConfigInvalid: the disk does not take it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigInvalid(f"{folder}: cannot be made: {error.strerror}") from error


def write(path: Path, content: bytes, mode: int = SECRET) -> None:
    """Put `content` in the place of what is there, for the owner of the folder.

    Raises:
        ConfigInvalid: the disk does not take it.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        draft.unlink(missing_ok=True)  # one left behind may have another mode
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _give_to_owner_of(path.parent, draft)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise ConfigInvalid(f"{path}: cannot be written: {error.strerror}") from error


def _give_to_owner_of(folder: Path, path: Path) -> None:
    """Root writes into the folder of a broker that runs as another user, who must read it."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)
