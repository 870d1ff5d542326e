"""Copies of a SQLite store: made while it is in use, and put back.

A copy gets a generation of its own when it is made. So whoever puts it back, with `db restore` or by hand, has a store
of a generation that boards do not know, and they send again what they still keep.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from collector.store.opening import is_ours, open_sql, parsed
from collector.whole_file import draft_of
from phasewatt.errors import ConfigInvalid, StoreUnavailable

_TIMEOUT_S = 30


def back_up(url: str, path: Path) -> None:
    """Copy the store at `url` to `path` as of one moment; nobody who uses it has to wait.

    Raises:
        ConfigInvalid: the store is PostgreSQL's, or `path` cannot be written.
        StoreUnavailable: the store cannot be opened or read.
    """
    source = _file_of(url, "pg_dump --format=custom --file=FILE")
    open_sql(url, create=False).close()
    if path.resolve() == source.resolve():
        raise ConfigInvalid(f"{path}: this is the store itself; name another file")
    with draft_of(path) as draft:
        draft.unlink(missing_ok=True)
        _copy(source, draft)
        _renew(draft)


def restore(url: str, path: Path) -> None:
    """Put the copy in `path` in the place of what is in the store at `url`, with a generation of its own.

    It is one transaction, which a collector that serves meanwhile takes as any other. The copy is checked, and brought
    up to date, before.

    Raises:
        ConfigInvalid: the store is PostgreSQL's.
        StoreUnavailable: the copy or the store is not phasewatt's or is damaged.
    """
    target = _file_of(url, "pg_restore, and then `phasewatt-collector db restore` without a file")
    is_ours(path, create=False)
    is_ours(target, create=True)
    draft = target.with_name(f"{target.name}.restoring")
    try:
        _copy(path, draft)
        _check(draft, path)
        open_sql(f"sqlite:///{draft}", create=False, upgrade=True).close()
        _renew(draft)
        open_sql(url, create=True).close()  # so that it has our mark, its log, and nobody else's tables
        _copy(draft, target)
    finally:
        for suffix in ("", "-wal", "-shm"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _file_of(url: str, instead: str) -> Path:
    target = parsed(url)
    if target.get_backend_name() != "sqlite":
        raise ConfigInvalid(f"database {target.render_as_string(hide_password=True)}: use {instead}")
    return Path(str(target.database))


def _copy(source: Path, target: Path) -> None:
    # All pages in one step: SQLite begins anew with every write that comes between two.
    with _connected(source) as reading, _connected(target) as writing:
        reading.backup(writing)


def _check(draft: Path, path: Path) -> None:
    with _connected(draft, path) as connection:
        (word,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if word != "ok":
        raise StoreUnavailable(f"{path} is damaged: {word}; put back another copy")


def _renew(draft: Path) -> None:
    with _connected(draft) as connection, connection:
        connection.execute("UPDATE store_meta SET generation = ?", (secrets.token_hex(16),))


@contextlib.contextmanager
def _connected(path: Path, name: Path | None = None) -> Iterator[sqlite3.Connection]:
    """A connection to `path`, which messages call `name`."""
    try:
        connection = sqlite3.connect(path, timeout=_TIMEOUT_S)
        with contextlib.closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise StoreUnavailable(f"database {name or path}: {error}") from error
