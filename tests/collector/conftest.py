"""Databases to test stores on: a file, and a PostgreSQL server of the tests' own where its programs are."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from collector.store import Store, open_store

_DEBIAN = Path("/usr/lib/postgresql")


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with contextlib.closing(open_store(store_url, create=True)) as store:
        yield store


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """For what does not depend on the database."""
    with contextlib.closing(open_store(f"sqlite:///{tmp_path / 'store.db'}", create=True)) as store:
        yield store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a store, empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    new_database: Callable[[], str] = request.getfixturevalue("new_database")
    return new_database()


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[], str]]:
    """Makes an empty database on a server that listens on a socket of its own, and gives its URL."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="phasewatt-pg-") as directory:
        # PostgreSQL refuses to run as root.
        user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        shutil.chown(directory, user)

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [programs / program, *arguments], user=user, cwd=directory, check=True, stdout=subprocess.DEVNULL
            )

        run("initdb", "-D", f"{directory}/data", "-U", "phasewatt", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {directory} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-D", f"{directory}/data", "-w", "-l", f"{directory}/log", "-o", options, "start")
        try:
            yield _maker(directory)
        finally:
            run("pg_ctl", "-D", f"{directory}/data", "-w", "-m", "immediate", "stop")


def _programs() -> Path:
    """The folder with all of the server's programs, of which Debian links only some into PATH."""
    folders = sorted(_DEBIAN.glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    pytest.skip("no PostgreSQL server is installed")


def _maker(directory: str) -> Callable[[], str]:
    def url(name: str) -> str:
        return f"postgresql+psycopg://phasewatt@/{name}?host={directory}"

    names = (f"store_{number}" for number in range(10_000))

    def make() -> str:
        name = next(names)
        engine = sqlalchemy.create_engine(url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return url(name)

    return make
