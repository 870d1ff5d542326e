"""What travels over MQTT around the records: batches up, receipts down, and the retained states."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, Raw

from phasewatt.fields import Count, Identifier, Kind, Label, Record, Text
from phasewatt.hosts import HostFacts
from phasewatt.traces import Telemetry

Sequence = Annotated[int, Meta(ge=1, le=2**53)]


class Clock(Record, frozen=True):
    """How far a batch's wall-clock labels can be believed."""

    synchronised: bool | None  # None: this host does not tell
    offset_bound_s: float | None


class Item(Record, frozen=True):
    """One record in its own schema version; `body` stays the bytes that the outbox holds."""

    seq: Sequence
    schema: Count
    body: Raw


class Batch(Record, frozen=True):
    """Records of one kind from one board; (device, epoch, seq) is the key that makes them arrive once."""

    device: Identifier
    epoch: Identifier  # of the outbox; a new outbox is a new epoch
    boot_id: Label
    session: Identifier  # of the connection
    clock: Clock
    sent_unix_s: float
    kind: Kind
    items: tuple[Item, ...]


class Rejection(Record, frozen=True):
    """A record that will never be stored as it is, and why."""

    seq: Sequence
    reason: Text


KEY_HELD = "key_held: its key is held already, with another body"
_KEY_HELD_BEFORE = "its key is held already, with another body"  # of collectors until then
KEY_HELD_REASONS = (KEY_HELD, _KEY_HELD_BEFORE)


def tells_of_held_key(reason: str) -> bool:
    """Whether a record was rejected for its key alone: under another key it may be stored."""
    return reason.startswith("key_held:") or reason == _KEY_HELD_BEFORE


class Receipt(Record, frozen=True):
    """The collector's word, after commit, on what it holds of one outbox."""

    device: Identifier
    epoch: Identifier
    generation: Identifier  # of the store; another generation may hold less
    ranges: tuple[tuple[Sequence, Sequence], ...]  # committed now or before, both ends included
    rejected: tuple[Rejection, ...]
    high_water: Count  # highest seq stored of this epoch, 0: none


class Presence(enum.Enum):
    """Whether a board's agent is connected."""

    ONLINE = "online"
    OFFLINE = "offline"


class Status(Record, frozen=True):
    """Retained, and the agent's last will; a will of an older session says nothing of a newer one."""

    device: Identifier
    presence: Presence
    session: Identifier
    boot_id: Label
    epoch: Identifier
    since_unix_s: float
    telemetry_interval_s: float | None  # how often a batch is due at the latest; None: none is sent
    pending: Count  # rows not receipted yet
    dropped: dict[str, Count]  # by kind, given up at the disk cap since this epoch began


class Facts(Record, frozen=True):
    """Retained: the host, and the newest record schema that its agent writes."""

    schema: Count
    host: HostFacts


class Watch(Record, frozen=True):
    """Asks a board for its live telemetry; it ends by itself unless it is asked for again."""

    watcher: Identifier
    for_s: Annotated[float, Meta(gt=0, le=60)]


class Live(Record, frozen=True):
    """Telemetry as it was just sampled; not stored, and no loss if it is lost."""

    schema: Count
    telemetry: Telemetry


class CollectorState(Record, frozen=True):
    """Retained, and the collector's last will."""

    collector: Identifier
    presence: Presence
    generation: Identifier
    schema: Count
    since_unix_s: float
    group: Identifier | None = None  # whose members share the batches, and one store; None: it gets all of them


class ExportHeader(Record, frozen=True):
    """First line of an export file; every further line is a Batch."""

    phasewatt: Label  # always "export"
    schema: Count
    device: Identifier | None  # None: of several devices
