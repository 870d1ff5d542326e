"""What a board under test wrote down beside its outbox, so that the collector's store can be held against it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from phasewatt import codec
from phasewatt.codec import SentRecord
from phasewatt.fields import Kind

_PLAN, _KEPT, _REFUSED = "plan", "kept", "refused"


class Key(NamedTuple):
    """Where a row stands: in whose outbox, and there under which number."""

    device: str
    epoch: str
    seq: int


class Row(NamedTuple):
    """What a row holds."""

    kind: Kind
    digest: str


class Told(NamedTuple):
    """All lives of one board: rows whose commit was seen to return, and rows of which nobody knows."""

    kept: dict[Key, Row]
    open: frozenset[str]  # digests: killed between the plan and the commit's return
    refused: frozenset[str]  # digests: the outbox said that it did not take them


class Journal:
    """Lines that are on disk when the call returns; a kill leaves at most a plan without its outcome."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write()  # ends what a kill may have cut

    def plan(self, records: Iterable[SentRecord]) -> None:
        """Note what is about to be appended."""
        self._write(_PLAN, *(f"{row.kind.value}:{row.digest}" for row in map(row_of, records)))

    def kept(self, epoch: str, seqs: Iterable[int]) -> None:
        """Note that the last plan was committed under these keys."""
        self._write(_KEPT, epoch, *map(str, seqs))

    def refused(self) -> None:
        """Note that nothing of the last plan was committed."""
        self._write(_REFUSED)

    def _write(self, *words: str) -> None:
        os.write(self._file, (" ".join(words) + "\n").encode())
        os.fsync(self._file)


def read(path: Path, device: str) -> Told:
    """What the journal of `device` tells."""
    kept: dict[Key, Row] = {}
    refused: set[str] = set()
    opened: set[str] = set()
    planned: Sequence[Row] = ()
    for line in path.read_text().splitlines() if path.exists() else ():
        word, _, rest = line.partition(" ")
        if word == _PLAN:
            planned = [Row(Kind(kind), digest) for kind, _, digest in (part.partition(":") for part in rest.split())]
            opened |= {row.digest for row in planned}
        elif word == _KEPT:
            epoch, *seqs = rest.split()
            kept.update({Key(device, epoch, int(seq)): row for seq, row in zip(seqs, planned, strict=True)})
            opened -= {row.digest for row in planned}
        elif word == _REFUSED:
            refused |= {row.digest for row in planned}
            opened -= {row.digest for row in planned}
    return Told(kept, frozenset(opened), frozenset(refused))


def row_of(record: SentRecord) -> Row:
    """The row that `record` becomes."""
    return Row(codec.KINDS[type(record)], digest(codec.encode(record)))


def digest(body: bytes) -> str:
    """By which bodies are compared."""
    return hashlib.sha256(body).hexdigest()
