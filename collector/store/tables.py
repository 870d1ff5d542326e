"""The tables. Bodies are bytes exactly as received; the columns beside them only serve to find them.

A record's key, (device, epoch, seq), stands in `ledger`, and names the record by its id; the same record under
another key is another row there and the same row in its own table. `arrival` keeps the envelope of each batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

from phasewatt.records import Kind


class Plain(TypeDecorator[str]):
    """Text without U+0000, which PostgreSQL refuses."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """`value` as both databases take it."""
        return None if value is None else value.replace("\0", "\ufffd")


metadata = MetaData()

store_meta = Table(
    "store_meta",
    metadata,
    Column("generation", Text, primary_key=True),
    Column("created_unix_s", Double, nullable=False),
)

device = Table(
    "device",
    metadata,
    Column("device", Text, primary_key=True),
    Column("first_seen_unix_s", Double, nullable=False),
    Column("last_seen_unix_s", Double),
    Column("status", LargeBinary),
    Column("facts", LargeBinary),
)

arrival = Table(
    "arrival",
    metadata,
    # Only INTEGER is a rowid in SQLite, and PostgreSQL's is too short for years of batches.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("device", Text, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("boot_id", Plain, nullable=False),
    Column("session", Text, nullable=False),
    Column("clock_synchronised", Boolean),
    Column("clock_offset_bound_s", Double),
    Column("sent_unix_s", Double, nullable=False),
    Column("received_unix_s", Double, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("arrival", ForeignKey("arrival.id"), nullable=False, index=True),
    Column("record_id", Text, nullable=False),
)


def _records(name: str, *found_by: Column[str] | Column[float]) -> Table:
    return Table(
        name,
        metadata,
        Column("record_id", Text, primary_key=True),
        Column("schema", BigInteger, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("device", Text, nullable=False),
        *found_by,
    )


trial = _records(
    "trial",
    Column("campaign", Plain, nullable=False),
    Column("suite", Plain, nullable=False),
    Column("cell", Plain, nullable=False),
    Column("engine", Plain, nullable=False),
    Column("model", Plain),
    Column("task_id", Text),
    Column("work_id", Text),
    Column("outcome", Text, nullable=False),
    Column("started_unix_s", Double, nullable=False),
)
trace = _records("trace", Column("meter", Plain, nullable=False))
telemetry = _records("telemetry", Column("started_unix_s", Double, nullable=False))
event = _records("event", Column("name", Plain, nullable=False), Column("time_unix_s", Double, nullable=False))

Index("trial_device_started", trial.c.device, trial.c.started_unix_s)
Index("trial_work", trial.c.work_id)
Index("telemetry_device_started", telemetry.c.device, telemetry.c.started_unix_s)
Index("event_device_time", event.c.device, event.c.time_unix_s)

RECORDS: Mapping[Kind, Table] = {
    Kind.TRIAL: trial,
    Kind.TRACE: trace,
    Kind.TELEMETRY: telemetry,
    Kind.EVENT: event,
}

quarantine = Table(
    "quarantine",
    metadata,
    Column("device", Text, primary_key=True),  # "": not known
    Column("reason", Plain, primary_key=True),
    Column("topic", Plain, nullable=False),
    Column("sample", LargeBinary, nullable=False),  # of the first one
    Column("sample_bytes", BigInteger, nullable=False),  # its whole length
    Column("occurrences", BigInteger, nullable=False),
    Column("first_unix_s", Double, nullable=False),
    Column("last_unix_s", Double, nullable=False),
)
