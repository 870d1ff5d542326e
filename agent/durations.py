"""How long cells and loads took on this host, kept in the state directory for the next estimate of the same."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.cells import Cell, Measure

FILE = "durations.json"
_MOST = 5000  # the oldest go first


class Took(Struct, frozen=True, forbid_unknown_fields=True):
    """One duration; not `whole`: it was cut off, and would have taken longer."""

    seconds: float
    whole: bool


class Durations:
    """The file; one that is absent, damaged or cannot be written costs estimates and nothing else."""

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._known: dict[str, Took] = {}
        with suppress(OSError, msgspec.MsgspecError):
            self._known = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Took])

    def get(self, key: str) -> Took | None:
        """What was noted last under `key`."""
        return self._known.get(key)

    def note(self, key: str, took: Took) -> None:
        """Keep a duration."""
        self._known.pop(key, None)
        self._known[key] = took
        for oldest in list(self._known)[: max(0, len(self._known) - _MOST)]:
            del self._known[oldest]
        draft = self._file.with_name(f"{FILE}.part")
        with suppress(OSError):
            draft.write_bytes(msgspec.json.encode(self._known))
            draft.replace(self._file)


def cell_key(cell: Cell, measure: Measure) -> str:
    """What a cell's duration depends on, the meters of this host aside."""
    return _key(["cell", cell.label, msgspec.structs.replace(measure, repeats=1, ceilings=False)])


def load_key(cell: Cell) -> str:
    """What a load's duration depends on."""
    return _key(["load", *cell.load_key])


def _key(content: list[object]) -> str:
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]
