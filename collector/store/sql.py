"""A store in a SQL database: every statement of the collector, by name."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Select, Table, func, select, update
from sqlalchemy.exc import DBAPIError

from collector.store import checking, removing, rows, tables
from collector.store.base import Aside, Check, DeviceRow, Entry, Refusals, Removal, Spoken, TrialQuery
from collector.store.job_tables import JobTables
from collector.store.writing import Writer, count_of, receipt
from collector.stored import EpochCount, StoredTrial, TelemetryHour
from phasewatt.errors import StoreUnavailable
from phasewatt.fields import Kind
from phasewatt.messages import KEY_HELD_REASONS, Batch, Facts, Receipt, Status
from phasewatt.records import Trial
from phasewatt.traces import Telemetry, Trace

_ROWS_AT_ONCE = 1000
WRITE_S = 30  # that one collector may hold rows which another one waits for
_TRIES = 5
# Of PostgreSQL: a circle of waiting transactions, and keys that another collector wrote at this moment.
_MET_ANOTHER = ("40001", "40P01", "23505")
_Made = TypeVar("_Made")


# A collector that stops in the middle of a transaction, frozen or cut off, must not keep the others from its boards.
def patience(seconds: int) -> str:
    """The statement that bounds how long a transaction of PostgreSQL is idle, and waits for another one."""
    settings = ("idle_in_transaction_session_timeout", "lock_timeout")
    return "SELECT " + ", ".join(f"set_config('{name}', '{seconds}s', true)" for name in settings)


_PATIENCE = patience(WRITE_S)

_REMEDIES = {
    "malformed": "; restore a backup, or move the file away and let boards and exports fill a new one",
    "disk is full": "; free some space, boards keep what is not stored",
    "is locked": "; another program holds it, such as a copy or an editor of databases",
}


class SqlStore:
    """A store on an engine that `opening` has prepared."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(sqlite_begin="IMMEDIATE")
        with self._reading() as connection:
            self._generation = _generation(connection)
        self.jobs = JobTables(self._reading, self._writing)

    @property
    def name(self) -> str:
        """The URL, its password hidden."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def generation(self) -> str:
        """As of the last write: `db restore` may draw another while this store is open."""
        return self._generation

    def take(self, entries: Sequence[Entry], received_unix_s: float) -> list[Receipt | None]:
        """Judged before the transaction, which then is short."""
        judged = [rows.judged(entry) if isinstance(entry, Batch) else None for entry in entries]
        for _ in range(_TRIES - 1):
            with contextlib.suppress(_MetAnother):
                return self._take(entries, judged, received_unix_s)
        return self._take(entries, judged, received_unix_s)

    def _take(
        self, entries: Sequence[Entry], judged: Sequence[rows.Judged | None], received_unix_s: float
    ) -> list[Receipt | None]:
        devices = {device for entry in entries if (device := _device_of(entry)) is not None}
        with self._writing() as connection:
            writer = Writer(connection, devices, received_unix_s)
            receipts = [writer.take(entry, verdicts) for entry, verdicts in zip(entries, judged, strict=True)]
            writer.finish()
        self._generation = writer.generation
        return receipts

    def ingest(self, batch: Batch, received_unix_s: float) -> Receipt:
        """One transaction; the receipt after it."""
        (answer,) = self.take([batch], received_unix_s)
        assert answer is not None
        return answer

    def quarantine(self, device: str | None, topic: str, payload: bytes, reason: str, received_unix_s: float) -> None:
        """Counted under a device that need not be known yet."""
        self.take([Aside(device, topic, payload, reason)], received_unix_s)

    def receipt_for(self, device: str, epoch: str) -> Receipt:
        """The high-water mark alone."""
        with self._reading() as connection:
            count = count_of(connection, device, epoch) or EpochCount(epoch, 0, 0, 0, 0, 0, 0, None, 0.0, 0.0)
            return receipt(_generation(connection), device, count)

    def put_status(self, status: Status, received_unix_s: float, live: bool = True) -> None:
        """Presence, unless it is a late will."""
        self.take([Spoken(status, live)], received_unix_s)

    def put_facts(self, facts: Facts, received_unix_s: float) -> None:
        """The description, whole."""
        self.take([facts], received_unix_s)

    def devices(self) -> list[DeviceRow]:
        """Boards with their counts; of what grows with the records, an index at most is read."""
        table, trial, aside = tables.device, tables.trial, tables.quarantine
        trials = select(trial.c.device, func.count().label("n")).group_by(trial.c.device).subquery()
        conflicts = func.sum(aside.c.occurrences).filter(aside.c.reason.in_(KEY_HELD_REASONS))
        put_aside = (
            select(aside.c.device, func.sum(aside.c.occurrences).label("n"), conflicts.label("key_conflicts"))
            .group_by(aside.c.device)
            .subquery()
        )
        counts = (trials.c.n.label("trials"), put_aside.c.n.label("quarantined"), put_aside.c.key_conflicts)
        query = (
            select(table, *counts)
            .outerjoin_from(table, trials, trials.c.device == table.c.device)
            .outerjoin(put_aside, put_aside.c.device == table.c.device)
            .order_by(table.c.device)
        )
        with self._reading() as connection:
            epochs = _by_device(connection, tables.epoch, tables.epoch.c.last_unix_s, rows.epoch_count)
            lives = _by_device(connection, tables.life, tables.life.c.turn, rows.life_of)
            return [
                rows.device_row(row, epochs.get(row.device, ()), lives.get(row.device, ()))
                for row in connection.execute(query)
            ]

    def refusals(self) -> list[Refusals]:
        """The quarantine without its samples."""
        table = tables.quarantine
        columns = [table.c[field] for field in Refusals._fields]
        query = select(*columns).order_by(table.c.device, table.c.occurrences.desc(), table.c.reason)
        with self._reading() as connection:
            return [Refusals(*row) for row in connection.execute(query)]

    def trials(self, query: TrialQuery) -> list[StoredTrial]:
        """Decoded from their bodies; those that this version cannot read are left out and logged."""
        table = tables.trial
        wanted = query._asdict() | {"limit": None, "outcome": query.outcome and query.outcome.value}
        found = (
            select(table.c.record_id, table.c.schema, table.c.body)
            .where(*(table.c[column] == value for column, value in wanted.items() if value is not None))
            .order_by(table.c.started_unix_s.desc(), table.c.record_id)
            .limit(query.limit)
        )
        with self._reading() as connection:
            return [
                StoredTrial(row.record_id, trial)
                for row in connection.execute(found)
                if isinstance(trial := rows.record_of(Kind.TRIAL, row), Trial)
            ]

    def traces(self, ids: Sequence[str]) -> list[Trace]:
        """Looked up one by one: a trial names few, and their order matters."""
        table = tables.trace
        found: list[Trace] = []
        with self._reading() as connection:
            for record_id in ids:
                row = connection.execute(select(table).where(table.c.record_id == record_id)).one_or_none()
                if row is not None and isinstance(trace := rows.record_of(Kind.TRACE, row), Trace):
                    found.append(trace)
        return found

    def batches(self, device: str | None = None) -> Iterator[Batch]:
        """Read as they are asked for, in one transaction."""
        query = select(tables.arrival).where(tables.arrival.c.kept).order_by(tables.arrival.c.id)
        if device is not None:
            query = query.where(tables.arrival.c.device == device)
        with self._reading() as connection:
            for arrival in connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}):
                batch = rows.batch_of(arrival, connection.execute(_items(arrival.id, Kind(arrival.kind))))
                if batch.items:
                    yield batch

    def remove(self, kind: Kind, before_unix_s: float) -> Removal:
        """A few arrivals, so that boards need not wait."""
        with self._writing() as connection:
            return removing.remove(connection, kind, before_unix_s)

    def telemetry(self, device: str, since_unix_s: float) -> Iterator[Telemetry]:
        """Read as they are asked for, in one transaction."""
        table = tables.telemetry
        query = (
            select(table.c.record_id, table.c.schema, table.c.body)
            .where(table.c.device == device, table.c.started_unix_s >= since_unix_s)
            .order_by(table.c.started_unix_s)
        )
        with self._reading() as connection:
            for row in connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}):
                if isinstance(record := rows.record_of(Kind.TELEMETRY, row), Telemetry):
                    yield record

    def newest_telemetry(self, received_since_unix_s: Mapping[str, float]) -> dict[str, Telemetry]:
        """Which records these are is read without their bodies."""
        if not received_since_unix_s:
            return {}
        arrival, ledger, table = tables.arrival, tables.ledger, tables.telemetry
        came = (
            select(arrival.c.device, arrival.c.received_unix_s, table.c.started_unix_s, table.c.record_id)
            .join_from(arrival, ledger, ledger.c.arrival == arrival.c.id)
            .join(table, table.c.record_id == ledger.c.record_id)
            .where(arrival.c.kind == Kind.TELEMETRY.value, arrival.c.kept)
            .where(arrival.c.received_unix_s >= min(received_since_unix_s.values()))
            .order_by(table.c.started_unix_s)
        )
        bodies = select(table.c.record_id, table.c.schema, table.c.body)
        with self._reading() as connection:
            newest = {
                row.device: row.record_id
                for row in connection.execute(came)
                if row.received_unix_s >= received_since_unix_s.get(row.device, math.inf)
            }
            found = {
                device: rows.record_of(
                    Kind.TELEMETRY, connection.execute(bodies.where(table.c.record_id == record)).one()
                )
                for device, record in newest.items()
            }
        return {device: record for device, record in found.items() if isinstance(record, Telemetry)}

    def telemetry_hours(self, device: str) -> list[TelemetryHour]:
        """By hour, then by name."""
        table = tables.telemetry_hour
        columns = [table.c[field] for field in TelemetryHour._fields]
        query = select(*columns).where(table.c.device == device).order_by(table.c.hour_unix_s, table.c.name)
        with self._reading() as connection:
            return [TelemetryHour(*row) for row in connection.execute(query)]

    def check(self) -> Check:
        """In one transaction, so that what comes meanwhile does not look like a fault."""
        with self._reading() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return checking.check(connection)

    def compact(self) -> None:
        """SQLite is written anew; PostgreSQL makes the space free for other rows."""
        # Outside of any transaction, which each driver spells its own way.
        alone = {"sqlite_begin": None} if self._engine.dialect.name == "sqlite" else {"isolation_level": "AUTOCOMMIT"}
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**alone).exec_driver_sql("VACUUM")
        except DBAPIError as error:
            raise unavailable(self.name, error) from error

    def renew(self) -> str:
        """At once, also for collectors that have this database open."""
        self._generation = secrets.token_hex(16)
        with self._writing() as connection:
            connection.execute(update(tables.store_meta).values(generation=self._generation))
        return self._generation

    def close(self) -> None:
        """All connections."""
        self._engine.dispose()

    def _reading(self) -> contextlib.AbstractContextManager[Connection]:
        return self._transaction(self._engine)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._transaction(self._writer) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(_PATIENCE)
            yield connection

    @contextlib.contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            met_another = getattr(error.orig, "sqlstate", None) in _MET_ANOTHER
            raise unavailable(self.name, error, _MetAnother if met_another else StoreUnavailable) from error


class _MetAnother(StoreUnavailable):
    """Another collector wrote the same at the same moment: nothing was stored, and it goes well the next time."""


def unavailable(name: str, error: DBAPIError, sort: type[StoreUnavailable] = StoreUnavailable) -> StoreUnavailable:
    """What a database said, in one line, without the statement and its parameters."""
    line = next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in line), "")
    return sort(f"database {name}: {line}{remedy}")


def _generation(connection: Connection) -> str:
    generation: str = connection.execute(select(tables.store_meta.c.generation)).scalar_one()
    return generation


def _device_of(entry: Entry) -> str | None:
    match entry:
        case Spoken():
            return entry.status.device
        case Facts():
            return entry.host.device
    return entry.device


def _by_device(
    connection: Connection, table: Table, newest: Any, made: Callable[[Any], _Made]
) -> dict[str, list[_Made]]:
    found = connection.execute(select(table).order_by(table.c.device, newest.desc()))
    return {device: [made(row) for row in group] for device, group in groupby(found, lambda row: row.device)}


def _items(arrival: int, kind: Kind) -> Select[Any]:
    """What came first with this arrival, in order."""
    ledger, record = tables.ledger, tables.RECORDS[kind]
    return (
        select(ledger.c.seq, record.c.schema, record.c.body)
        .join_from(ledger, record, record.c.record_id == ledger.c.record_id)
        .where(ledger.c.arrival == arrival)
        .order_by(ledger.c.seq)
    )
