"""The SQLite file under the outbox: opened, checked, and set aside when it is damaged.

Write-ahead log, synced at every commit: one sync a commit where a rollback journal needs several (SD cards
wear), and another process can read an export while the agent writes.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from phasewatt.errors import StoreUnavailable

logger = logging.getLogger(__name__)

NAME = "outbox.db"
LOG_BYTES = 4 * 1024 * 1024  # what the write-ahead log may take beside the rows
_VERSION = 1
_NO_VERSION = 1000  # from here on the number is damage, not a version
_APPLICATION_ID = 0x70776F62  # "pwob"
_PAGE_BYTES = 4096
_SET_ASIDE_KEPT = 2  # a failing card must not fill itself with spools that were set aside
_EPOCH = re.compile(r"[0-9a-f]{32}")

# Conditions of the host or the disk: the file may be whole, so it stays where it is.
_NOT_DAMAGE = ("locked", "busy", "unable to open", "readonly", "disk I/O", "disk is full", "out of memory")

_SCHEMA = f"""
BEGIN;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE row (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('event', 'trial', 'telemetry', 'trace')),
    schema INTEGER NOT NULL,
    size INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
    receipt INTEGER,
    reason TEXT
);
CREATE INDEX row_by_state ON row (state, kind, seq);
-- Apart from `row`, so that a receipt writes a few bytes and not the whole record again.
CREATE TABLE body (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE dropped (kind TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE generation (id TEXT PRIMARY KEY, high_water INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE campaign (
    id TEXT PRIMARY KEY,
    suite TEXT NOT NULL,
    started_unix_s REAL NOT NULL,
    closed_unix_s REAL
) WITHOUT ROWID;
CREATE TABLE cell (
    campaign TEXT NOT NULL,
    cell TEXT NOT NULL,
    outcome TEXT NOT NULL,
    record_id TEXT,
    done_unix_s REAL NOT NULL,
    PRIMARY KEY (campaign, cell)
) WITHOUT ROWID;
INSERT INTO fact VALUES ('epoch', :epoch);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""


class Spool(NamedTuple):
    """An open spool, and where its damaged predecessor went, if there was one."""

    path: Path
    db: sqlite3.Connection
    set_aside: Path | None


def open_spool(directory: Path, clock: Callable[[], float] = time.time) -> Spool:
    """The spool in `directory`, made if there is none; a damaged one is set aside first.

    Raises:
        StoreUnavailable: written by a newer version, or the directory or disk does not allow it.
    """
    path = directory / NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        set_aside = None if _is_sound(path) else _move_aside(path, clock())
        return Spool(path, _writable(path), set_aside)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"outbox {path} cannot be opened: {error}; check its owner and the disk") from error


def read_spool(directory: Path) -> Spool:
    """The spool in `directory` for reading only, also while an agent writes it.

    Raises:
        StoreUnavailable: there is none, or it is not sound.
    """
    path = directory / NAME
    try:
        if not path.is_file():
            raise StoreUnavailable(f"no outbox in {directory}: nothing was measured with this state directory yet")
        if not _is_sound(path):
            raise StoreUnavailable(f"outbox {path} is damaged: the agent sets it aside at its next start")
        return Spool(path, _connected(path, "ro"), None)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"outbox {path} cannot be read: {error}") from error


def value(db: sqlite3.Connection, query: str, *parameters: Any) -> Any:
    """The only column of the first row, or None."""
    row = db.execute(query, parameters).fetchone()
    return None if row is None else row[0]


def _is_sound(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        log = _beside(path, "-wal")
        return not log.exists() or not log.stat().st_size
    # Read-only, so that a spool of a newer version is left exactly as it was.
    with closing(_connected(path, "ro")) as db:
        try:
            return _is_ours(db, path)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if any(condition in str(error) for condition in _NOT_DAMAGE):
                raise
            return False


def _is_ours(db: sqlite3.Connection, path: Path) -> bool:
    version = value(db, "PRAGMA user_version")
    ours = value(db, "PRAGMA application_id") == _APPLICATION_ID
    if ours and _VERSION < version < _NO_VERSION:
        raise StoreUnavailable(
            f"outbox {path} was written by a newer phasewatt (format {version}, this one reads {_VERSION}): upgrade"
        )
    if not value(db, "SELECT count(*) FROM sqlite_master"):
        return True  # the power went before the tables were made
    return (
        ours
        and value(db, "PRAGMA integrity_check(1)") == "ok"
        and bool(_EPOCH.fullmatch(value(db, "SELECT value FROM fact WHERE name = 'epoch'") or ""))
    )


def _writable(path: Path) -> sqlite3.Connection:
    db = _connected(path, "rwc")
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or it has no effect
        db.execute("PRAGMA journal_mode = WAL")
        # EXTRA is FULL in WAL mode, and on a file system without WAL it syncs the directory as well.
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES // 4}")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // 4 // _PAGE_BYTES}")
        if not value(db, "SELECT count(*) FROM sqlite_master"):
            db.executescript(_SCHEMA.replace(":epoch", f"'{uuid.uuid4().hex}'"))
    except sqlite3.Error:
        db.close()
        raise
    return db


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    # No implicit transactions: the outbox says where one begins and ends.
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)


def _move_aside(path: Path, now_unix_s: float) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_unix_s))
    target = path.with_name(f"{NAME}.damaged-{stamp}-{uuid.uuid4().hex[:6]}")
    # The file last: if the power goes in between, what is left is still seen as damaged.
    for suffix in ("-shm", "-wal", ""):
        source = _beside(path, suffix)
        if source.exists():
            source.rename(_beside(target, suffix))
    logger.error("outbox %s was damaged; set aside as %s", path, target.name)
    _forget_oldest(path.parent)
    return target


def _forget_oldest(directory: Path) -> None:
    found = directory.glob(f"{NAME}.damaged-*")
    spools = sorted({path.name.removesuffix("-shm").removesuffix("-wal") for path in found})
    for name in spools[:-_SET_ASIDE_KEPT]:
        for suffix in ("-shm", "-wal", ""):
            _beside(directory / name, suffix).unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
