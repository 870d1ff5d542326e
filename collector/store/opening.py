"""Open a database and make sure that it is ours: nothing is written to one that is not."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from collector.store import tables
from collector.store.sql import SqlStore, unavailable
from phasewatt.errors import StoreUnavailable

_EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
_MAKERS = "`phasewatt-collector serve` or `import`"
_APPLICATION_ID = 0x70687761  # "phwa": the mark by which a SQLite file is known without opening it
_HEADER_BYTES = 72
_LOCK_TIMEOUT_S = 30
_LOCK_PAUSE_S = 0.02
# A server that is cut off is noticed in half a minute: what a collector cannot store, another one may.
_NETWORK = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def open_sql(url: str, create: bool, upgrade: bool = False) -> SqlStore:
    """The store at `url`, see `open_store`; `upgrade` brings tables up to date that are there, and makes none."""
    target = parsed(url)
    name = target.render_as_string(hide_password=True)
    engine = _engine(target, create)
    begin = "IMMEDIATE" if create or upgrade else "DEFERRED"
    try:
        with engine.execution_options(sqlite_begin=begin).begin() as connection:
            if begin == "IMMEDIATE" and connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_APPLICATION_ID})")  # one makes the tables
            _check_schema(connection, name, create, upgrade)
        return SqlStore(engine)
    except DBAPIError as error:
        engine.dispose()
        raise unavailable(name, error) from error
    except StoreUnavailable:
        engine.dispose()
        raise


def parsed(url: str) -> URL:
    """The parts of `url`, with the driver that we use.

    Raises:
        StoreUnavailable: neither SQLite's form nor PostgreSQL's.
    """
    try:
        target = make_url(url)
    except (ArgumentError, ValueError) as error:  # the latter for a port that is no number
        raise StoreUnavailable(f"database {url!r}: {_EXPECTED}") from error
    if target.get_backend_name() == "postgresql":
        return target.set(drivername="postgresql+psycopg")
    if target.get_backend_name() != "sqlite" or target.database in {None, "", ":memory:"}:
        raise StoreUnavailable(f"database {target.render_as_string(hide_password=True)}: {_EXPECTED}")
    return target


def _engine(target: URL, create: bool) -> Engine:
    if target.get_backend_name() == "sqlite":
        return _sqlite(target, Path(str(target.database)), create)
    try:
        engine = create_engine(target, connect_args=_NETWORK)
        # One statement for many rows, and not a pipeline of many: a server cannot end the transaction of a client that
        # stands still in the middle of a pipeline.
        engine.dialect.use_insertmanyvalues_wo_returning = True
        return engine
    except ModuleNotFoundError as error:
        raise StoreUnavailable("the PostgreSQL driver is not installed: pip install 'phasewatt[postgres]'") from error


def _sqlite(target: URL, path: Path, create: bool) -> Engine:
    if not is_ours(path, create):
        _mark(path)
    engine = create_engine(target, connect_args={"timeout": _LOCK_TIMEOUT_S})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def is_ours(path: Path, create: bool) -> bool:
    """True: a database of phasewatt; False: none yet, and one is to be made.

    Raises:
        StoreUnavailable: another file, or none and `create` is not set.
    """
    if not path.parent.is_dir():
        raise StoreUnavailable(f"database {path}: directory {path.parent} does not exist; make it, or name another")
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError as error:
        if create:
            return False
        raise StoreUnavailable(f"database {path} does not exist; {_MAKERS} makes one") from error
    except OSError as error:
        raise StoreUnavailable(f"database {path}: {error.strerror}") from error
    if not header and create:
        return False
    if not header.startswith(b"SQLite format 3\0") or header[68:72] != _APPLICATION_ID.to_bytes(4, "big"):
        raise StoreUnavailable(f"{path} is not a phasewatt database, or its first page is damaged; name another file")
    return True


def _mark(path: Path) -> None:
    """Make the file, with the mark in its header before the log takes over writing; others may be at it too."""
    deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S)) as connection:
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.Error as error:
            # SQLite refuses at once, whatever the time-out, where two that read both want to write.
            if "locked" not in str(error) or time.monotonic() > deadline_s:
                raise StoreUnavailable(f"database {path}: {error}") from error
        time.sleep(_LOCK_PAUSE_S)


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions late, and not at all for DDL
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _on_begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    if mode is not None:
        connection.exec_driver_sql(f"BEGIN {mode}")


def _check_schema(connection: Connection, name: str, create: bool, upgrade: bool) -> None:
    """Leave the tables at this version's revision, or refuse."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    present = MigrationContext.configure(connection).get_current_revision()
    names = inspect(connection).get_table_names()
    if names and tables.store_meta.name not in names:
        raise StoreUnavailable(f"database {name} holds other tables; give phasewatt a database of its own")
    if present is not None and present not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreUnavailable(f"database {name} is of a newer version (schema {present}); upgrade phasewatt")
    if present == scripts.get_current_head():
        return
    if present is None and not create:
        raise StoreUnavailable(f"database {name} has no tables of this version yet; {_MAKERS} makes them")
    if not create and not upgrade:
        raise StoreUnavailable(
            f"database {name} is of an older version (schema {present}); "
            "`phasewatt-collector db upgrade` or `serve` brings it up to date"
        )
    command.upgrade(config, "head")
    if present is None:
        meta = {"generation": secrets.token_hex(16), "created_unix_s": time.time()}
        connection.execute(insert(tables.store_meta).values(meta))
