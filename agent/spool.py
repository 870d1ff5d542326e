"""The SQLite file under the outbox: opened, checked, and set aside when it is damaged.

Write-ahead log, synced at every commit: one sync a commit where a rollback journal needs several (SD cards
wear), and another process can read an export while the agent writes.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from phasewatt.errors import StoreUnavailable

logger = logging.getLogger(__name__)

NAME = "outbox.db"
LOG_BYTES = 4 * 1024 * 1024  # what the write-ahead log may take beside the rows
_VERSION = 2
_NO_VERSION = 1000  # from here on the number is damage, not a version
_APPLICATION_ID = 0x70776F62  # "pwob"
_PAGE_BYTES = 1024
_DOUBT = "-doubt"
_SET_ASIDE_KEPT = 2  # a failing card must not fill itself with spools that were set aside
CHECK_S = 2.0  # for the bodies: to read all of them takes a minute on a slow card
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
    reason TEXT,
    body INTEGER, -- the number of its bytes in `body`; none: that of the row
    moves INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX row_by_state ON row (state, kind, seq);
-- Apart from `row`, so that a receipt or another seq writes a few bytes and not the whole record again.
CREATE TABLE body (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE dropped (kind TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE generation (id TEXT PRIMARY KEY, high_water INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE session (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
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

# From format 1. It did not note its sessions: the row with no name forgives one that is not known.
_UPGRADE = f"""
BEGIN;
ALTER TABLE row ADD COLUMN body INTEGER;
ALTER TABLE row ADD COLUMN moves INTEGER NOT NULL DEFAULT 0;
CREATE TABLE IF NOT EXISTS session (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
INSERT INTO session (name) VALUES ('');
PRAGMA user_version = {_VERSION};
COMMIT;
"""


class Spool(NamedTuple):
    """An open spool, and where its damaged predecessor went, if there was one."""

    path: Path
    db: sqlite3.Connection
    set_aside: Path | None


def open_spool(directory: Path, clock: Callable[[], float] = time.time, check_s: float = CHECK_S) -> Spool:
    """The spool in `directory`, made if there is none; one where `check_s` shows damage is set aside first.

    Raises:
        StoreUnavailable: written by a newer version, or the directory or disk does not allow it.
    """
    path = directory / NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        set_aside = None if _is_sound(path, check_s) else _move_aside(path, clock())
        return Spool(path, _writable(path), set_aside)
    except (OSError, sqlite3.Error) as error:
        note_damage(path, error)
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
        if not _is_sound(path, CHECK_S):
            raise StoreUnavailable(f"outbox {path} is damaged: the agent sets it aside at its next start")
        return Spool(path, _readable(path), None)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"outbox {path} cannot be read: {error}") from error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether `error` tells of bytes in the file that are not as they were written."""
    return "malformed" in str(error) or "not a database" in str(error)


def note_damage(path: Path, error: Exception) -> None:
    """If `error` tells of damage, have the spool at `path` checked whole at the next start, however long that takes."""
    if isinstance(error, sqlite3.Error) and is_damage(error):
        with suppress(OSError):  # a reader may not write here, and a disk may be full
            _beside(path, _DOUBT).touch()


def is_doubted(directory: Path) -> bool:
    """Whether damage was met in the spool of `directory` since its last start."""
    return _beside(directory / NAME, _DOUBT).exists()


def value(db: sqlite3.Connection, query: str, *parameters: Any) -> Any:
    """The only column of the first row, or None."""
    row = db.execute(query, parameters).fetchone()
    return None if row is None else row[0]


def _is_sound(path: Path, check_s: float) -> bool:
    if not path.exists() or not path.stat().st_size:
        log = _beside(path, "-wal")
        return not log.exists() or not log.stat().st_size
    # Read-only, so that a spool of a newer version is left exactly as it was.
    with closing(_connected(path, "ro")) as db:
        try:
            return _is_ours(db, path, None if is_doubted(path.parent) else check_s)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if any(condition in str(error) for condition in _NOT_DAMAGE):
                raise
            return False


def _is_ours(db: sqlite3.Connection, path: Path, check_s: float | None) -> bool:
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
        and _is_whole(db, check_s)
        and bool(_EPOCH.fullmatch(value(db, "SELECT value FROM fact WHERE name = 'epoch'") or ""))
    )


def _is_whole(db: sqlite3.Connection, check_s: float | None) -> bool:
    """Whether the rows are whole, and no damage was found in `check_s` among their bodies; None: however long it takes.

    Damage among bodies that was not reached is found when they are read, and costs those alone.
    """
    # The rows are a fiftieth of a large spool, and without them nothing can be delivered.
    return _shows("integrity_check('row')", db, None) and _shows("integrity_check(1)", db, check_s)


def _shows(check: str, db: sqlite3.Connection, most_s: float | None) -> bool:
    """Whether `check` found nothing, or did not end in time; 0: it does not begin."""
    if most_s == 0:
        return True
    if most_s is None:
        return bool(value(db, f"PRAGMA {check}") == "ok")
    watch = threading.Timer(most_s, db.interrupt)
    watch.start()
    try:
        return bool(value(db, f"PRAGMA {check}") == "ok")
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return True
    finally:
        watch.cancel()
        watch.join()


def _writable(path: Path) -> sqlite3.Connection:
    db = _connected(path, "rwc")
    try:
        db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new file: a receipt changes a few bytes of a few pages
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or it has no effect
        db.execute("PRAGMA journal_mode = WAL")
        # EXTRA is FULL in WAL mode, and on a file system without WAL it syncs the directory as well.
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES // 4}")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // 4 // value(db, 'PRAGMA page_size')}")
        if not value(db, "SELECT count(*) FROM sqlite_master"):
            db.executescript(_SCHEMA.replace(":epoch", f"'{uuid.uuid4().hex}'"))
        elif value(db, "PRAGMA user_version") == 1:
            db.executescript(_UPGRADE)
        _beside(path, _DOUBT).unlink(missing_ok=True)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _readable(path: Path) -> sqlite3.Connection:
    db = _connected(path, "ro")
    if value(db, "PRAGMA user_version") == 1:  # no agent of this version began here yet
        db.execute("CREATE TEMP VIEW row AS SELECT *, NULL AS body FROM main.row")
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
