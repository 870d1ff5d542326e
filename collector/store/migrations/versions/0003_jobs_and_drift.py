"""Jobs, what became of them, and changes of level."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "job",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_unix_s", sa.Double, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("last_due_unix_s", sa.Double),
    )
    op.create_table(
        "execution",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, nullable=False, index=True),
        sa.Column("due_unix_s", sa.Double),
        sa.Column("created_unix_s", sa.Double, nullable=False),
        sa.Column("expires_unix_s", sa.Double),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("cells", sa.BigInteger),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("cancel", sa.Boolean, nullable=False),
        sa.Column("changed_unix_s", sa.Double, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "drift",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("series", sa.Text, primary_key=True),
        sa.Column("since_unix_s", sa.Double, primary_key=True),
        sa.Column("found_unix_s", sa.Double, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
