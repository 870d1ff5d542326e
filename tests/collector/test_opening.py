"""Opening a store: what is ours is brought up to date, and what is not is named and left as it was."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from collector.store import TrialQuery, open_store, opening, tables, upgrade_store
from phasewatt.errors import StoreUnavailable
from tests.fixtures import records, wire

NOW = 1_800_000_000.0


def refusal(url: str, create: bool) -> str:
    """The line with which a store is refused."""
    with pytest.raises(StoreUnavailable) as caught:
        open_store(url, create)
    line = str(caught.value)
    assert "\n" not in line
    return line


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def tree(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def execute(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_migrated_tables_are_those_that_the_code_names(store, store_url):
    engine = sqlalchemy.create_engine(store_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()


def test_generation_is_drawn_once(store, store_url):
    assert store.generation
    with contextlib.closing(open_store(store_url, create=True)) as again:
        assert again.generation == store.generation


def test_two_stores_are_two_generations(tmp_path):
    names = (tmp_path / "a.db", tmp_path / "b.db")
    stores = [open_store(url_of(path), create=True) for path in names]
    assert stores[0].generation != stores[1].generation
    for store in stores:
        store.close()


def test_database_without_tables_is_made_on_request_only(store_url):
    assert "`phasewatt-collector serve` or `import`" in refusal(store_url, create=False)
    open_store(store_url, create=True).close()
    open_store(store_url).close()


def test_another_that_sets_it_up_at_the_same_time_is_waited_for(tmp_path, monkeypatch):
    """SQLite refuses the change of journal at once while another one writes, whatever time-out is set."""
    path = tmp_path / "store.db"
    refused: list[str] = []

    class Beside(sqlite3.Connection):
        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
            if "journal_mode" not in statement or refused:
                return super().execute(statement, *values)
            with contextlib.closing(sqlite3.connect(path)) as other:
                other.execute("BEGIN IMMEDIATE")
                try:
                    return super().execute(statement, *values)
                except sqlite3.OperationalError as error:
                    refused.append(str(error))
                    raise

    monkeypatch.setattr(opening.sqlite3, "connect", partial(sqlite3.connect, factory=Beside))
    open_store(url_of(path), create=True).close()
    assert refused == ["database is locked"]
    monkeypatch.undo()
    open_store(url_of(path)).close()


def test_set_up_that_was_cut_short_is_done_again(tmp_path):
    """A crash between the making of the file and its tables leaves a file that is ours and empty."""
    path = tmp_path / "store.db"
    open_store(url_of(path), create=True).close()
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        connection.execute(f"DROP TABLE {name}")
    connection.commit()
    connection.close()
    assert "no tables of this version" in refusal(url_of(path), create=False)
    open_store(url_of(path), create=True).close()


def older_store(url: str) -> None:
    """A store as the first version left it, with four keys of one outbox."""
    with contextlib.closing(open_store(url, create=True)) as store:
        store.ingest(wire.batch_of(*wire.events(3)), NOW)
        store.ingest(wire.batch_of(wire.telemetry(), first_seq=6), NOW + 5)
    execute(url, "DROP INDEX arrival_kept")
    execute(url, "ALTER TABLE arrival DROP COLUMN kept")
    for column in ("batch_sent_unix_s", "batch_received_unix_s", "clock_synchronised", "clock_offset_bound_s"):
        execute(url, f"ALTER TABLE device DROP COLUMN {column}")
    for table in ("epoch", "refusal", "life", "telemetry_hour", "job", "execution", "drift"):
        execute(url, f"DROP TABLE {table}")
    execute(url, "UPDATE alembic_version SET version_num = '0001'")


def test_older_store_is_refused_with_the_remedy_until_it_is_upgraded(store_url):
    older_store(store_url)
    assert "`phasewatt-collector db upgrade` or `serve` brings it up to date" in refusal(store_url, create=False)
    with contextlib.closing(upgrade_store(store_url)) as store:
        (row,) = store.devices()
        (count,) = row.epochs
        assert (count.high_water, count.top, count.stored, count.missing) == (6, 6, 4, 2)
        assert (count.first_unix_s, count.last_unix_s) == (NOW, NOW + 5)
        assert store.check().faults == ()
        assert store.ingest(wire.batch_of(*wire.events(3)), NOW + 9).ranges == ((1, 3),)
        assert sum(len(batch.items) for batch in store.batches()) == 4
    open_store(store_url).close()


def test_serving_upgrades_and_gives_the_same_tables_as_a_new_store(store_url):
    older_store(store_url)
    open_store(store_url, create=True).close()
    engine = sqlalchemy.create_engine(store_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()


def test_upgrading_makes_no_store(tmp_path):
    with pytest.raises(StoreUnavailable, match="does not exist"):
        upgrade_store(url_of(tmp_path / "a.db"))
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("create", [True, False])
def test_newer_schema_is_refused(store_url, create):
    open_store(store_url, create=True).close()
    execute(store_url, "UPDATE alembic_version SET version_num = '9999'")
    assert "upgrade phasewatt" in refusal(store_url, create)


@pytest.mark.postgres
@pytest.mark.parametrize("create", [True, False])
def test_tables_of_others_are_left_alone(new_database, create):
    url = new_database()
    execute(url, "CREATE TABLE theirs (id integer)")
    assert "a database of its own" in refusal(url, create)
    engine = sqlalchemy.create_engine(url)
    assert sqlalchemy.inspect(engine).get_table_names() == ["theirs"]
    engine.dispose()


@pytest.mark.postgres
def test_absent_database_is_one_line_without_the_password(new_database):
    url = new_database().replace("phasewatt@/store_", "phasewatt:secret@/absent_")
    line = refusal(url, create=True)
    assert "absent_" in line
    assert "secret" not in line


def test_plain_postgresql_url_means_the_driver_that_the_extra_brings():
    """Where the driver is missing the line names the extra; where it is there, nothing listens on that socket."""
    line = refusal("postgresql://phasewatt@/store?host=/nonexistent", create=True)
    assert "phasewatt[postgres]" in line or "postgresql+psycopg://" in line


@pytest.mark.parametrize("url", ["store.db", "", "mysql://host/store", "sqlite://", "sqlite:///:memory:"])
def test_url_of_another_form_is_refused(url):
    assert "expected sqlite:///FILE or postgresql+psycopg://" in refusal(url, create=True)


def test_missing_directory_is_named(tmp_path):
    assert f"directory {tmp_path / 'absent'} does not exist" in refusal(url_of(tmp_path / "absent" / "a.db"), True)


def test_missing_file_is_not_made_without_request(tmp_path):
    assert "does not exist" in refusal(url_of(tmp_path / "a.db"), create=False)
    assert tree(tmp_path) == {}


def test_directory_is_no_database(tmp_path):
    assert "directory" in refusal(url_of(tmp_path), create=True)


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
@pytest.mark.parametrize("create", [True, False])
def test_sqlite_file_of_others_is_not_touched(tmp_path, create, journal):
    path = tmp_path / "theirs.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("CREATE TABLE trial (id integer)")
    connection.close()
    before = tree(tmp_path)
    assert "is not a phasewatt database" in refusal(url_of(path), create)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("content", [b"hello", b"SQLite format 3\0", b"\0" * 4096], ids=["text", "cut short", "zeros"])
@pytest.mark.parametrize("create", [True, False])
def test_file_that_is_no_database_is_not_touched(tmp_path, create, content):
    path = tmp_path / "a.db"
    path.write_bytes(content)
    assert "is not a phasewatt database" in refusal(url_of(path), create)
    assert tree(tmp_path) == {"a.db": content}


def test_empty_file_becomes_a_database_on_request_only(tmp_path):
    path = tmp_path / "a.db"
    path.touch()
    assert "is not a phasewatt database" in refusal(url_of(path), create=False)
    open_store(url_of(path), create=True).close()
    open_store(url_of(path)).close()


def test_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "a.db"
    with contextlib.closing(open_store(url_of(path), create=True)) as store:
        store.ingest(wire.batch_of(*wire.events(2000)), NOW)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    assert str(path) in refusal(url_of(path), create=False)


def test_damage_that_opening_does_not_meet_is_one_line_later(tmp_path):
    path = tmp_path / "a.db"
    with contextlib.closing(open_store(url_of(path), create=True)) as store:
        store.ingest(wire.batch_of(*(records.trial(cell=f"cell {n}") for n in range(2000))), NOW)
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + b"\xa5" * (len(whole) - half))
    with (
        contextlib.closing(open_store(url_of(path))) as store,
        pytest.raises(StoreUnavailable, match="malformed; restore"),
    ):
        store.trials(TrialQuery())


def test_what_is_receipted_survives_the_death_of_the_collector(tmp_path):
    """The log is written through to the disk before a receipt is given."""
    path = tmp_path / "a.db"
    died_after_receipt = """
import os, sys
from collector.store import open_store
from tests.fixtures import wire
receipt = open_store(sys.argv[1], create=True).ingest(wire.batch_of(*wire.events(7)), 1.0)
os._exit(receipt.high_water)
"""
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", died_after_receipt, url_of(path)], check=False, cwd=root)
    assert run.returncode == 7
    with contextlib.closing(open_store(url_of(path))) as store:
        assert sum(len(batch.items) for batch in store.batches()) == 7


def test_commits_reach_the_disk_in_a_log_that_readers_do_not_wait_for(tmp_path):
    path = tmp_path / "a.db"
    with contextlib.closing(open_store(url_of(path), create=True)) as store, store._reading() as connection:
        full, log = 2, "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == log
        store.ingest(wire.batch_of(*wire.events(1)), NOW)


def test_copy_of_a_closed_store_is_a_store(tmp_path):
    with contextlib.closing(open_store(url_of(tmp_path / "a.db"), create=True)) as store:
        store.ingest(wire.batch_of(*wire.events(3)), NOW)
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    with contextlib.closing(open_store(url_of(tmp_path / "b.db"))) as copy:
        assert copy.receipt_for(wire.DEVICE, wire.EPOCH).high_water == 3
