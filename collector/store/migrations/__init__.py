"""The Alembic environment of the store, run by `collector.store.opening` alone."""
