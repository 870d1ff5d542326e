"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "store_meta",
        sa.Column("generation", sa.Text, primary_key=True),
        sa.Column("created_unix_s", sa.Double, nullable=False),
    )
    op.create_table(
        "device",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("first_seen_unix_s", sa.Double, nullable=False),
        sa.Column("last_seen_unix_s", sa.Double),
        sa.Column("status", sa.LargeBinary),
        sa.Column("facts", sa.LargeBinary),
    )
    op.create_table(
        "arrival",
        sa.Column("id", _long_key(), primary_key=True),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("boot_id", sa.Text, nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("clock_synchronised", sa.Boolean),
        sa.Column("clock_offset_bound_s", sa.Double),
        sa.Column("sent_unix_s", sa.Double, nullable=False),
        sa.Column("received_unix_s", sa.Double, nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("epoch", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("arrival", _long_key(), sa.ForeignKey("arrival.id"), nullable=False, index=True),
        sa.Column("record_id", sa.Text, nullable=False),
    )
    _create_records(
        "trial",
        sa.Column("campaign", sa.Text, nullable=False),
        sa.Column("suite", sa.Text, nullable=False),
        sa.Column("cell", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("task_id", sa.Text),
        sa.Column("work_id", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("started_unix_s", sa.Double, nullable=False),
    )
    op.create_index("trial_device_started", "trial", ["device", "started_unix_s"])
    op.create_index("trial_work", "trial", ["work_id"])
    _create_records("trace", sa.Column("meter", sa.Text, nullable=False))
    _create_records("telemetry", sa.Column("started_unix_s", sa.Double, nullable=False))
    op.create_index("telemetry_device_started", "telemetry", ["device", "started_unix_s"])
    _create_records(
        "event", sa.Column("name", sa.Text, nullable=False), sa.Column("time_unix_s", sa.Double, nullable=False)
    )
    op.create_index("event_device_time", "event", ["device", "time_unix_s"])
    op.create_table(
        "quarantine",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("sample", sa.LargeBinary, nullable=False),
        sa.Column("sample_bytes", sa.BigInteger, nullable=False),
        sa.Column("occurrences", sa.BigInteger, nullable=False),
        sa.Column("first_unix_s", sa.Double, nullable=False),
        sa.Column("last_unix_s", sa.Double, nullable=False),
    )


def _create_records(name: str, *found_by: sa.Column[str] | sa.Column[float]) -> None:
    op.create_table(
        name,
        sa.Column("record_id", sa.Text, primary_key=True),
        sa.Column("schema", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        *found_by,
    )


def _long_key() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")
