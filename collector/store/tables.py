"""The tables. Bodies are bytes exactly as received; the columns beside them only serve to find them.

A record's key, (device, epoch, seq), stands in `ledger`, and names the record by its id; the same record under
another key is another row there and the same row in its own table. `arrival` keeps the envelope of each batch. Keys
stay when bodies go by age, so that a record which comes again is acknowledged and not stored again.
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

from phasewatt.fields import Kind


class Plain(TypeDecorator[str]):
    """Text without U+0000, which PostgreSQL refuses."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """`value` as both databases take it."""
        return None if value is None else plain(value)


def plain(text: str) -> str:
    """`text` as it is stored; keys that become the same by it must be taken as one."""
    return text.replace("\0", "\ufffd")


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
    # Of the last batch; the two times are labels of two clocks.
    Column("batch_sent_unix_s", Double),
    Column("batch_received_unix_s", Double),
    Column("clock_synchronised", Boolean),
    Column("clock_offset_bound_s", Double),
)

# Counters over the ledger, kept in its transactions, so that gaps are found without reading it.
epoch = Table(
    "epoch",
    metadata,
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("high_water", BigInteger, nullable=False),  # highest seq stored, 0: none
    Column("top", BigInteger, nullable=False),  # highest seq stored or rejected, 0: none
    Column("stored", BigInteger, nullable=False),  # keys, also those whose bodies went by age
    Column("rejected", BigInteger, nullable=False),  # keys that are not stored
    Column("withheld", BigInteger, nullable=False),  # keys of records of a newer schema, not stored and not answered
    Column("removed", BigInteger, nullable=False),  # keys whose bodies went by age
    Column("dropped", BigInteger),  # rows that the board says it gave up; None: it never spoke of this epoch
    Column("first_unix_s", Double, nullable=False),
    Column("last_unix_s", Double, nullable=False),
)

# Keys that were met and not stored, each to be counted once however often it comes.
refusal = Table(
    "refusal",
    metadata,
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("withheld", Boolean, nullable=False),
)

# One boot of one machine with one outbox, as it was online; the newest few of each device.
life = Table(
    "life",
    metadata,
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("boot_id", Plain, primary_key=True),
    Column("session", Text, nullable=False),  # the last one
    Column("since_unix_s", Double, nullable=False),  # of its last word, by its own clock
    Column("turn", BigInteger, nullable=False),  # rises each time that another life speaks
    Column("returns", BigInteger, nullable=False),  # how often it spoke after another life had
    Column("returned_unix_s", Double),
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
    Column("kept", Boolean, nullable=False),  # False: its bodies went by age
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

Index("arrival_kept", arrival.c.kind, arrival.c.kept, arrival.c.received_unix_s)
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

# What is left of telemetry that went by age: one row a device, hour and series.
telemetry_hour = Table(
    "telemetry_hour",
    metadata,
    Column("device", Text, primary_key=True),
    Column("hour_unix_s", BigInteger, primary_key=True),  # its beginning, by the board's clock
    Column("name", Plain, primary_key=True),
    Column("unit", Plain, primary_key=True),
    Column("samples", BigInteger, nullable=False),
    Column("lowest", Double, nullable=False),
    Column("highest", Double, nullable=False),
    Column("total", Double, nullable=False),
)

# Jobs as they were submitted; what became of each occurrence on each board.
job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("created_unix_s", Double, nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("last_due_unix_s", Double),
)
execution = Table(
    "execution",
    metadata,
    Column("id", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("job", Text, nullable=False, index=True),
    Column("due_unix_s", Double),
    Column("created_unix_s", Double, nullable=False),
    Column("expires_unix_s", Double),
    Column("state", Text, nullable=False, index=True),
    Column("version", BigInteger, nullable=False),  # the board's
    Column("reason", Plain),
    Column("cells", BigInteger),
    Column("done", BigInteger, nullable=False),
    Column("cancel", Boolean, nullable=False),
    Column("changed_unix_s", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),  # of the row
)

# Changes of level of a device's canaries, as they were found.
drift = Table(
    "drift",
    metadata,
    Column("device", Text, primary_key=True),
    Column("series", Plain, primary_key=True),
    Column("since_unix_s", Double, primary_key=True),  # of the first night at the new level
    Column("found_unix_s", Double, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
