"""Where the collector keeps what boards sent: one contract, SQLite by default, PostgreSQL by the same code."""

from __future__ import annotations

from collector.store.base import DeviceRow, Store, TrialQuery

__all__ = ["DeviceRow", "Store", "TrialQuery", "open_store"]


def open_store(url: str, create: bool = False) -> Store:
    """The store at `url`; with `create`, it is made, or its tables are brought up to date, where need be.

    Raises:
        StoreUnavailable: it cannot be opened, is not phasewatt's, or is of another version; one line with the remedy.
    """
    from collector.store.opening import open_sql

    return open_sql(url, create)
