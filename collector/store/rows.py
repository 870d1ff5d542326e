"""Records to rows and back: the items of a batch judged one by one, and stored bodies read again. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import Raw

from collector.store.base import DeviceRow
from collector.stored import BatchClock, EpochCount, Life
from phasewatt import codec, identity
from phasewatt.codec import SentRecord
from phasewatt.errors import RecordNewer, RecordRejected
from phasewatt.fields import Kind
from phasewatt.messages import Batch, Clock, Facts, Item, Status
from phasewatt.records import Event, Trial
from phasewatt.traces import Telemetry, Trace

SAMPLE_BYTES = 16 * 1024  # of a quarantined payload
_REASON_CHARACTERS = 200  # a receipt has one for each refused item, and a sender may choose the words in it

logger = logging.getLogger(__name__)
_Message = TypeVar("_Message", Status, Facts)


class Accepted(NamedTuple):
    """A valid record: its number in the outbox, and the columns of its kind's table."""

    seq: int
    record_id: str
    columns: dict[str, Any]


class Refused(NamedTuple):
    """An item, or a whole message, that will not be stored."""

    seq: int
    body: bytes
    reason: str


class Judged(NamedTuple):
    """The items of a batch: valid, refused, and those that only a later version can judge."""

    accepted: list[Accepted]
    refused: list[Refused]
    withheld: list[int]  # their seqs


def judged(batch: Batch) -> Judged:
    """The items of `batch`, each judged alone."""
    verdicts = [_judged(batch, item, bytes(item.body)) for item in batch.items]
    return Judged(
        accepted=[verdict for verdict in verdicts if isinstance(verdict, Accepted)],
        refused=[verdict for verdict in verdicts if isinstance(verdict, Refused)],
        withheld=[verdict for verdict in verdicts if isinstance(verdict, int)],
    )


def _judged(batch: Batch, item: Item, body: bytes) -> Accepted | Refused | int:
    try:
        return _accepted(batch, item, body)
    except RecordNewer as error:
        logger.debug("%s: row %d is left to its board: %s", batch.device, item.seq, error)
        return item.seq
    except RecordRejected as error:
        return Refused(item.seq, body, str(error)[:_REASON_CHARACTERS])


def _accepted(batch: Batch, item: Item, body: bytes) -> Accepted:
    record = codec.decode_record(batch.kind, item.schema, body)
    if record.device != batch.device:
        raise RecordRejected(f"a record of device {record.device} in a batch of {batch.device}")
    if b"\n" in body or b"\r" in body:
        raise RecordRejected("a record of several lines: no agent writes one, and no export file can hold it")
    record_id = identity.record_id(batch.kind, body)
    columns = {"record_id": record_id, "schema": item.schema, "body": body, "device": record.device}
    return Accepted(item.seq, record_id, columns | _found_by(record))


def _found_by(record: SentRecord) -> dict[str, Any]:
    match record:
        case Trial():
            return _found_by_of_trial(record)
        case Trace():
            return {"meter": record.meter}
        case Telemetry():
            return {"started_unix_s": record.started_unix_s}
        case Event():
            return {"name": record.name, "time_unix_s": record.time_unix_s}


def _found_by_of_trial(trial: Trial) -> dict[str, Any]:
    work = trial.work
    return {
        "campaign": trial.campaign,
        "suite": trial.suite,
        "cell": trial.cell,
        "engine": trial.conditions.engine,
        "model": work and work.task.architecture.name,
        "task_id": work and identity.task_id(work.task),
        "work_id": work and identity.work_id(work),
        "outcome": trial.outcome.value,
        "started_unix_s": trial.started_unix_s,
    }


def arrival_row(batch: Batch, received_unix_s: float) -> dict[str, Any]:
    """The envelope of `batch`."""
    return {
        "device": batch.device,
        "epoch": batch.epoch,
        "kind": batch.kind.value,
        "boot_id": batch.boot_id,
        "session": batch.session,
        "clock_synchronised": batch.clock.synchronised,
        "clock_offset_bound_s": batch.clock.offset_bound_s,
        "sent_unix_s": batch.sent_unix_s,
        "received_unix_s": received_unix_s,
        "kept": True,
    }


def clock_columns(batch: Batch, received_unix_s: float) -> dict[str, Any]:
    """What the last batch of a device says of its clock."""
    return {
        "batch_sent_unix_s": batch.sent_unix_s,
        "batch_received_unix_s": received_unix_s,
        "clock_synchronised": batch.clock.synchronised,
        "clock_offset_bound_s": batch.clock.offset_bound_s,
    }


def batch_of(arrival: Any, items: Iterable[Any]) -> Batch:
    """The batch that came with this envelope, less what was held before it came."""
    return Batch(
        device=arrival.device,
        epoch=arrival.epoch,
        boot_id=arrival.boot_id,
        session=arrival.session,
        clock=Clock(synchronised=arrival.clock_synchronised, offset_bound_s=arrival.clock_offset_bound_s),
        sent_unix_s=arrival.sent_unix_s,
        kind=Kind(arrival.kind),
        items=tuple(Item(seq=item.seq, schema=item.schema, body=Raw(item.body)) for item in items),
    )


def quarantine_row(device: str, topic: str, payload: bytes, reason: str, now_unix_s: float) -> dict[str, Any]:
    """A reason that has not been met yet, with `payload` as its sample."""
    return {
        "device": device,
        "reason": reason,
        "topic": topic,
        "sample": payload[:SAMPLE_BYTES],
        "sample_bytes": len(payload),
        "occurrences": 0,
        "first_unix_s": now_unix_s,
        "last_unix_s": now_unix_s,
    }


def device_row(row: Any, epochs: Sequence[EpochCount], lives: Sequence[Life]) -> DeviceRow:
    """A board from its row with the counts, its outboxes and its lives."""
    facts = message_of(row.facts, Facts)
    return DeviceRow(
        device=row.device,
        first_seen_unix_s=row.first_seen_unix_s,
        last_seen_unix_s=row.last_seen_unix_s,
        facts=None if facts is None else facts.host,
        status=message_of(row.status, Status),
        trials=row.trials or 0,
        quarantined=int(row.quarantined or 0),  # PostgreSQL sums to a decimal
        key_conflicts=int(row.key_conflicts or 0),
        clock=_clock(row),
        epochs=tuple(epochs),
        lives=tuple(lives),
    )


def _clock(row: Any) -> BatchClock | None:
    if row.batch_received_unix_s is None:
        return None
    return BatchClock(
        synchronised=row.clock_synchronised,
        offset_bound_s=row.clock_offset_bound_s,
        sent_unix_s=row.batch_sent_unix_s,
        received_unix_s=row.batch_received_unix_s,
    )


def epoch_count(row: Any) -> EpochCount:
    """The counters of an outbox."""
    return EpochCount(**{field: getattr(row, field) for field in EpochCount._fields})


def life_of(row: Any) -> Life:
    """A life of a device."""
    return Life(**{field: getattr(row, field) for field in Life._fields})


def message_of(body: bytes | None, message: type[_Message]) -> _Message | None:
    """What a board said of itself; None if nothing, or in a form that this version does not know."""
    if body is None:
        return None
    try:
        return codec.decode(body, message)
    except RecordRejected as error:
        logger.warning("stored %s is of another version: %s", message.__name__, error)
        return None


def record_of(kind: Kind, row: Any) -> SentRecord | None:
    """The record in a row; None if it is of a version that this one does not know."""
    try:
        return codec.decode_record(kind, row.schema, row.body)
    except RecordRejected as error:
        logger.warning("stored %s %s is left out: %s", kind.value, row.record_id, error)
        return None
