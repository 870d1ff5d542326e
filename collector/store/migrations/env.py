"""What Alembic runs to migrate: on the connection that the caller opened, in its transaction."""

from __future__ import annotations

from alembic import context

# SQLite rolls tables back too, once a transaction is really begun, as `opening` sees to.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
