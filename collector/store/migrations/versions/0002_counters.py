"""Counters by epoch, lives of devices, keys that were refused, and what retention needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and columns, and count what is stored already."""
    for name, kind in (
        ("batch_sent_unix_s", sa.Double),
        ("batch_received_unix_s", sa.Double),
        ("clock_synchronised", sa.Boolean),
        ("clock_offset_bound_s", sa.Double),
    ):
        op.add_column("device", sa.Column(name, kind))
    op.add_column("arrival", sa.Column("kept", sa.Boolean, nullable=False, server_default=sa.true()))
    op.create_index("arrival_kept", "arrival", ["kind", "kept", "received_unix_s"])
    _create_epoch()
    op.create_table(
        "refusal",
        *_key(),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("withheld", sa.Boolean, nullable=False),
    )
    op.create_table(
        "life",
        *_key(),
        sa.Column("boot_id", sa.Text, primary_key=True),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("since_unix_s", sa.Double, nullable=False),
        sa.Column("turn", sa.BigInteger, nullable=False),
        sa.Column("returns", sa.BigInteger, nullable=False),
        sa.Column("returned_unix_s", sa.Double),
    )
    op.create_table(
        "telemetry_hour",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("hour_unix_s", sa.BigInteger, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("unit", sa.Text, primary_key=True),
        sa.Column("samples", sa.BigInteger, nullable=False),
        sa.Column("lowest", sa.Double, nullable=False),
        sa.Column("highest", sa.Double, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
    )


def _create_epoch() -> None:
    op.create_table(
        "epoch",
        *_key(),
        sa.Column("high_water", sa.BigInteger, nullable=False),
        sa.Column("top", sa.BigInteger, nullable=False),
        sa.Column("stored", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("withheld", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.BigInteger),
        sa.Column("first_unix_s", sa.Double, nullable=False),
        sa.Column("last_unix_s", sa.Double, nullable=False),
    )
    # What was rejected before was not kept by key, so it shows as missing.
    op.execute(
        """
        INSERT INTO epoch (
            device, epoch, high_water, top, stored, rejected, withheld, removed, first_unix_s, last_unix_s
        )
        SELECT ledger.device, ledger.epoch, max(seq), max(seq), count(*), 0, 0, 0,
            min(received_unix_s), max(received_unix_s)
        FROM ledger JOIN arrival ON arrival.id = ledger.arrival
        GROUP BY ledger.device, ledger.epoch
        """
    )


def _key() -> tuple[sa.Column[str], sa.Column[str]]:
    return sa.Column("device", sa.Text, primary_key=True), sa.Column("epoch", sa.Text, primary_key=True)
