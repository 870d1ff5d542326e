"""The contract of a store, documented once; implementations need few words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from collector.stored import StoredTrial
from phasewatt.messages import Batch, Facts, Receipt, Status
from phasewatt.records import HostFacts, Outcome, Trace


class DeviceRow(NamedTuple):
    """A board as the store knows it."""

    device: str
    first_seen_unix_s: float
    last_seen_unix_s: float | None  # when something of it was last accepted; None: never
    facts: HostFacts | None  # None: it has not described itself
    status: Status | None  # None: it has not announced itself, as where all came by import
    trials: int
    quarantined: int  # messages and records of it that were put aside


class TrialQuery(NamedTuple):
    """Which trials are asked for; None: any."""

    device: str | None = None
    suite: str | None = None
    campaign: str | None = None
    model: str | None = None
    engine: str | None = None
    outcome: Outcome | None = None
    limit: int | None = None  # the newest so many


class Store(Protocol):
    """Everything that boards sent, each record once, and what could not be read, counted.

    Writes are atomic, and durable when the call returns. Calls may come from several threads. Every method raises
    StoreUnavailable when the database fails; then nothing of that call was stored.
    """

    @property
    def name(self) -> str:
        """The database as messages call it: its URL without a password."""

    @property
    def generation(self) -> str:
        """Drawn when the store was made: another generation may hold less."""

    def ingest(self, batch: Batch, received_unix_s: float) -> Receipt:
        """Store the items of `batch`, and give the receipt after commit.

        Each item is judged alone. One that is no valid record of the batch's kind and device, or whose key
        (device, epoch, seq) is held with another body, is put into quarantine and rejected with the reason. One that
        is held already is acknowledged again; a record that came under several keys is one record.
        """

    def quarantine(self, device: str | None, topic: str, payload: bytes, reason: str, received_unix_s: float) -> None:
        """Count a message that cannot be read under its device and reason, with the first such payload as a sample."""

    def receipt_for(self, device: str, epoch: str) -> Receipt:
        """What is held of one outbox: no ranges, the present high-water mark."""

    def put_status(self, status: Status, received_unix_s: float) -> None:
        """Keep a board's presence; a late will of an earlier session changes nothing."""

    def put_facts(self, facts: Facts, received_unix_s: float) -> None:
        """Keep a board's description of itself."""

    def devices(self) -> list[DeviceRow]:
        """All boards, by name."""

    def trials(self, query: TrialQuery) -> list[StoredTrial]:
        """The trials that match, newest first."""

    def traces(self, ids: Sequence[str]) -> list[Trace]:
        """The traces with these record ids, in that order; those not held are left out."""

    def batches(self, device: str | None = None) -> Iterator[Batch]:
        """Every record once for each key that it came under, in the batches they came in, oldest first."""

    def close(self) -> None:
        """Let go of the database."""
