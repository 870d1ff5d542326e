"""What the collector holds and keeps of boards, as it is handed around. Pure."""

from __future__ import annotations

from typing import NamedTuple

from phasewatt.records import Trial


class StoredTrial(NamedTuple):
    """A trial with its record id; `origin` is "store", or "reference" for those shipped with phasewatt."""

    record_id: str
    trial: Trial
    origin: str = "store"


class EpochCount(NamedTuple):
    """What came of one outbox, by its keys."""

    epoch: str
    high_water: int  # highest seq stored, 0: none
    top: int  # highest seq stored or rejected, 0: none
    stored: int
    rejected: int
    withheld: int  # of a newer schema: not stored, not answered, and kept by the board
    removed: int  # of the stored ones, those whose bodies went by age
    dropped: int | None  # rows that the board says it gave up; None: it never spoke of this outbox
    first_unix_s: float
    last_unix_s: float

    @property
    def missing(self) -> int:
        """Seqs up to `top` that were neither stored nor rejected: given up, lost, or still to come."""
        return self.top - self.stored - self.rejected


class Life(NamedTuple):
    """One boot of one machine with one outbox, as it was online."""

    epoch: str
    boot_id: str
    session: str  # the last one
    turn: int  # rises each time that another life of the device speaks
    returns: int  # how often it spoke again after another life had
    returned_unix_s: float | None


class BatchClock(NamedTuple):
    """What the last batch said of its board's clock; the two times are labels of two clocks, not to be subtracted."""

    synchronised: bool | None  # None: the board does not tell
    offset_bound_s: float | None
    sent_unix_s: float
    received_unix_s: float


class TelemetryHour(NamedTuple):
    """One series over one hour by the board's clock."""

    hour_unix_s: int
    name: str
    unit: str
    samples: int
    lowest: float
    highest: float
    total: float

    @property
    def mean(self) -> float:
        """In the series' unit."""
        return self.total / self.samples
