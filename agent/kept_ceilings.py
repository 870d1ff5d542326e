"""The newest ceilings of this host, kept in the state directory, so that they go with its facts after a restart too."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from phasewatt.fields import Record
from phasewatt.profiles import Ceiling

FILE = "ceilings.json"


class Kept(Record, frozen=True):
    """When they were measured, and they."""

    measured_unix_s: float
    ceilings: tuple[Ceiling, ...]


def load(state: Path) -> Kept | None:
    """What was kept last; None: nothing, or a file that cannot be read, which the next campaign writes anew."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((state / FILE).read_bytes(), type=Kept)
    return None


def keep(state: Path, kept: Kept) -> None:
    """Write them whole or not at all; a disk that takes none costs facts and nothing else."""
    draft = state / f"{FILE}.part"
    with suppress(OSError):
        draft.write_bytes(msgspec.json.encode(kept))
        draft.replace(state / FILE)
