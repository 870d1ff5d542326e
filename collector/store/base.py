"""The contract of a store, documented once; implementations need few words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from collector.stored import BatchClock, EpochCount, Life, StoredTrial, TelemetryHour
from phasewatt.fields import Kind, Outcome
from phasewatt.hosts import HostFacts
from phasewatt.messages import Batch, Facts, Presence, Receipt, Status
from phasewatt.traces import Telemetry, Trace

if TYPE_CHECKING:
    from collector.store.job_tables import JobTables


class Spoken(NamedTuple):
    """A board's word on its presence; `live`: said now, and not found retained by the broker."""

    status: Status
    live: bool = True


class Aside(NamedTuple):
    """A message that cannot be read, to be counted under its device (None: not known) and reason."""

    device: str | None
    topic: str
    payload: bytes
    reason: str


Entry: TypeAlias = Batch | Spoken | Facts | Aside


class DeviceRow(NamedTuple):
    """A board as the store knows it."""

    device: str
    first_seen_unix_s: float
    last_seen_unix_s: float | None  # when something of it was last accepted; None: never
    facts: HostFacts | None  # None: it has not described itself
    status: Status | None  # None: it has not announced itself, as where all came by import
    trials: int
    quarantined: int  # messages and records of it that were put aside
    key_conflicts: int = 0  # among these, records whose key is held with another body
    clock: BatchClock | None = None  # None: no batch came yet
    epochs: tuple[EpochCount, ...] = ()  # its outboxes, the one that was heard of last first
    lives: tuple[Life, ...] = ()  # the newest few, the one that spoke last first

    @property
    def holds_records(self) -> bool:
        """Whether it is online and said that it has records without a receipt."""
        return self.status is not None and self.status.presence is Presence.ONLINE and self.status.pending > 0


class TrialQuery(NamedTuple):
    """Which trials are asked for; None: any."""

    device: str | None = None
    suite: str | None = None
    campaign: str | None = None
    model: str | None = None
    engine: str | None = None
    outcome: Outcome | None = None
    limit: int | None = None  # the newest so many


class Removal(NamedTuple):
    """What one step of retention removed; no arrivals: nothing is left to remove."""

    arrivals: int
    keys: int


class Refusals(NamedTuple):
    """Messages and records that were put aside for one reason."""

    device: str  # "": they named none that can be one
    reason: str
    topic: str  # of the first one
    occurrences: int
    first_unix_s: float
    last_unix_s: float


class Gap(NamedTuple):
    """Seqs of one outbox that were neither stored nor rejected, both ends included."""

    device: str
    epoch: str
    first: int
    last: int


class Check(NamedTuple):
    """What a look at everything found."""

    faults: tuple[str, ...]  # in words; none: the store is sound
    records: dict[Kind, int]  # bodies that are there
    gaps: tuple[Gap, ...]  # the first so many; what came is sound, and something did not come


class Store(Protocol):
    """Everything that boards sent, each record once, and what could not be read, counted.

    Writes are atomic, and durable when the call returns. Calls may come from several threads. Every method raises
    StoreUnavailable when the database fails; then nothing of that call was stored.
    """

    @property
    def jobs(self) -> JobTables:
        """Jobs, and what boards say of them."""

    @property
    def name(self) -> str:
        """The database as messages call it: its URL without a password."""

    @property
    def generation(self) -> str:
        """Drawn when the store was made, copied by `db backup` or put back: another generation may hold less."""

    def take(self, entries: Sequence[Entry], received_unix_s: float) -> list[Receipt | None]:
        """Store all of `entries`, in order and in one transaction; after commit, the receipt that each is owed, if any.

        A batch is owed one, and so is a board that comes online. See the methods below for what each entry does.
        """

    def ingest(self, batch: Batch, received_unix_s: float) -> Receipt:
        """Store the items of `batch`, and give the receipt after commit.

        Each item is judged alone. One that is no valid record of the batch's kind and device, or whose key
        (device, epoch, seq) is held with another body, is put into quarantine and rejected with the reason. One that
        is held already is acknowledged again, though its body may have gone by age; a record that came under several
        keys is one record. A record of a newer schema is counted and neither stored nor rejected, so that its board
        keeps it for a later version of this program.
        """

    def quarantine(self, device: str | None, topic: str, payload: bytes, reason: str, received_unix_s: float) -> None:
        """Count a message that cannot be read under its device and reason, with the first such payload as a sample."""

    def receipt_for(self, device: str, epoch: str) -> Receipt:
        """What is held of one outbox: no ranges, the present high-water mark."""

    def put_status(self, status: Status, received_unix_s: float, live: bool = True) -> None:
        """Keep a board's presence; a late will of an earlier session changes nothing.

        A status that is not `live`, but was found retained by the broker, is no sign of life.
        """

    def put_facts(self, facts: Facts, received_unix_s: float) -> None:
        """Keep a board's description of itself."""

    def devices(self) -> list[DeviceRow]:
        """All boards, by name."""

    def refusals(self) -> list[Refusals]:
        """All that was put aside, by device and reason, the most frequent first."""

    def trials(self, query: TrialQuery) -> list[StoredTrial]:
        """The trials that match, newest first."""

    def traces(self, ids: Sequence[str]) -> list[Trace]:
        """The traces with these record ids, in that order; those not held are left out."""

    def batches(self, device: str | None = None) -> Iterator[Batch]:
        """Every record once for each key that it came under, in the batches they came in, oldest first."""

    def remove(self, kind: Kind, before_unix_s: float) -> Removal:
        """Remove bodies of `kind` that were received before then, oldest first: a small step, in one transaction.

        The keys stay. Telemetry is first added to the sums of its hours.
        """

    def telemetry(self, device: str, since_unix_s: float) -> Iterator[Telemetry]:
        """Records of telemetry that began at that time or later by the board's clock, oldest first."""

    def newest_telemetry(self, received_since_unix_s: Mapping[str, float]) -> dict[str, Telemetry]:
        """Of each of these boards the record that began last, among those that were received at its time or later."""

    def telemetry_hours(self, device: str) -> list[TelemetryHour]:
        """What is left of telemetry whose bodies went by age, oldest first."""

    def check(self) -> Check:
        """Read everything, and say what does not fit together."""

    def compact(self) -> None:
        """Give space that is free inside the database back to the disk, as far as the database does that."""

    def renew(self) -> str:
        """Draw a new generation, and give it: every board then sends what it still keeps."""

    def close(self) -> None:
        """Let go of the database."""
