"""Where the collector keeps what boards sent: one contract, SQLite by default, PostgreSQL by the same code."""

from __future__ import annotations

from collector.store.base import Aside, DeviceRow, Entry, Refusals, Removal, Spoken, Store, TrialQuery

__all__ = [
    "Aside",
    "DeviceRow",
    "Entry",
    "Refusals",
    "Removal",
    "Spoken",
    "Store",
    "TrialQuery",
    "open_store",
    "upgrade_store",
]


def open_store(url: str, create: bool = False) -> Store:
    """The store at `url`; with `create`, it is made, or its tables are brought up to date, where need be.

    Raises:
        StoreUnavailable: it cannot be opened, is not phasewatt's, or is of another version; one line with the remedy.
    """
    from collector.store.opening import open_sql

    return open_sql(url, create)


def upgrade_store(url: str) -> Store:
    """The store at `url`, with its tables brought up to date; none is made.

    Raises:
        StoreUnavailable: as `open_store`.
    """
    from collector.store.opening import open_sql

    return open_sql(url, create=False, upgrade=True)
