"""What boards committed against what a collector stored, row by row."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from collector.store import open_store
from phasewatt.fields import Kind
from tests.faults.journal import Key, Row, Told, digest

Stored = list[tuple[Key, Row]]


class Account(NamedTuple):
    """Rows by what is wrong with them; without faults only `right` counts."""

    right: int  # committed, and stored under their key with their body
    missing: tuple[tuple[Key, Row], ...]  # committed, not stored
    altered: tuple[Key, ...]  # stored with another body
    twice: tuple[tuple[Key, Row], ...]  # stored under more keys than one, or one key more than once
    foreign: tuple[tuple[Key, Row], ...]  # no board knows of them, or was told that they were refused

    @property
    def missing_by_kind(self) -> Counter[str]:
        """How many of each kind are missing."""
        return Counter(row.kind.value for _, row in self.missing)

    def faults(self, dropped: Mapping[str, int] | None = None) -> list[str]:
        """What is wrong, in words; up to `dropped` rows of each kind may be missing. Empty: nothing."""
        unexplained = self.missing_by_kind - Counter(dropped or {})
        counts = {
            "missing and not counted as dropped": sum(unexplained.values()),
            "stored with another body": len(self.altered),
            "stored twice": len(self.twice),
            "stored and never committed": len(self.foreign),
        }
        examples = [*self.missing[:2], *self.altered[:2], *self.twice[:2], *self.foreign[:2]]
        found = [f"{count} {what}" for what, count in counts.items() if count]
        return [*found, f"such as {examples}"] if found else []


def stored_in(url: str) -> Stored:
    """Every row of a collector's store."""
    with contextlib.closing(open_store(url)) as store:
        return [
            (Key(batch.device, batch.epoch, item.seq), Row(batch.kind, digest(bytes(item.body))))
            for batch in store.batches()
            for item in batch.items
        ]


def account_of(told: Iterable[Told], stored: Stored) -> Account:
    """The rows of all journals against those of the store."""
    boards = list(told)
    kept = {key: row for board in boards for key, row in board.kept.items()}
    possible = {known for board in boards for known in board.open}
    held = dict(stored)
    copies = Counter(row.digest for _, row in stored)
    keys = Counter(key for key, _ in stored)
    return Account(
        right=sum(held.get(key) == row for key, row in kept.items()),
        missing=tuple((key, row) for key, row in kept.items() if key not in held),
        altered=tuple(key for key, row in kept.items() if key in held and held[key] != row),
        twice=tuple((key, row) for key, row in stored if copies[row.digest] > 1 or keys[key] > 1),
        foreign=tuple((key, row) for key, row in stored if key not in kept and row.digest not in possible),
    )


def kinds_of(told: Told) -> set[Kind]:
    """The kinds that a board has committed."""
    return {row.kind for row in told.kept.values()}
