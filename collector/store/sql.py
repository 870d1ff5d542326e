"""A store in a SQL database: every statement of the collector, by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from collector.store import rows, tables
from collector.store.base import DeviceRow, TrialQuery
from collector.store.rows import Accepted, Refused
from collector.stored import StoredTrial
from phasewatt import codec, topics
from phasewatt.errors import StoreUnavailable
from phasewatt.messages import Batch, Facts, Presence, Receipt, Rejection, Status
from phasewatt.records import Kind, Trace, Trial

REASONS_TOLD_APART = 100  # of one device, so that no sender can fill the disk with quarantine
OTHER_REASONS = f"a reason beyond the first {REASONS_TOLD_APART} of this device"
_ROWS_AT_ONCE = 1000

# The one place where dialects differ: an insert that may meet its row. Both spell it alike.
_UPSERT: Mapping[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class SqlStore:
    """A store on an engine that `opening` has prepared."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(sqlite_begin="IMMEDIATE")
        self._upsert = _UPSERT[engine.dialect.name]
        with self._reading() as connection:
            self._generation: str = connection.execute(select(tables.store_meta.c.generation)).scalar_one()

    @property
    def name(self) -> str:
        """The URL, its password hidden."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def generation(self) -> str:
        """Drawn when the tables were made."""
        return self._generation

    def ingest(self, batch: Batch, received_unix_s: float) -> Receipt:
        """One transaction; the receipt after it."""
        accepted, refused = rows.judged(batch)
        with self._writing() as connection:
            # First, because it locks the device's row, so that two collectors cannot judge one key at once.
            self._touch(connection, batch.device, received_unix_s)
            held = _held(connection, batch)
            fresh: list[Accepted] = []
            committed: list[int] = []
            for row in accepted:
                if row.seq not in held:
                    held[row.seq] = row.record_id
                    fresh.append(row)
                if held[row.seq] == row.record_id:
                    committed.append(row.seq)
                else:
                    refused.append(Refused(row.seq, row.columns["body"], "its key is held already, with another body"))
            self._insert(connection, batch, fresh, received_unix_s)
            topic = topics.batch(batch.device, batch.kind)
            self._put_aside(connection, batch.device, topic, refused, received_unix_s)
            high_water = _high_water(connection, batch.device, batch.epoch)
        return self._receipt(batch.device, batch.epoch, high_water, committed, refused)

    def quarantine(self, device: str | None, topic: str, payload: bytes, reason: str, received_unix_s: float) -> None:
        """Counted under a device that need not be known yet."""
        with self._writing() as connection:
            if device is not None:
                new = self._upsert(tables.device).values(device=device, first_seen_unix_s=received_unix_s)
                connection.execute(new.on_conflict_do_nothing())
            self._put_aside(connection, device or "", topic, [Refused(0, payload, reason)], received_unix_s)

    def receipt_for(self, device: str, epoch: str) -> Receipt:
        """The high-water mark alone."""
        with self._reading() as connection:
            return self._receipt(device, epoch, _high_water(connection, device, epoch))

    def put_status(self, status: Status, received_unix_s: float) -> None:
        """Presence, unless it is a late will."""
        body = codec.encode(status)
        with self._writing() as connection:
            if status.presence is Presence.ONLINE:
                self._touch(connection, status.device, received_unix_s, status=body)
            elif not _outlived(connection, status):
                # A will is no sign of life, so the time of the last one stays.
                self._describe(connection, status.device, received_unix_s, status=body)

    def put_facts(self, facts: Facts, received_unix_s: float) -> None:
        """The description, whole."""
        with self._writing() as connection:
            self._touch(connection, facts.host.device, received_unix_s, facts=codec.encode(facts))

    def devices(self) -> list[DeviceRow]:
        """Boards with their counts."""
        table, trial, aside = tables.device, tables.trial, tables.quarantine
        trials = select(trial.c.device, func.count().label("n")).group_by(trial.c.device).subquery()
        put_aside = select(aside.c.device, func.sum(aside.c.occurrences).label("n")).group_by(aside.c.device).subquery()
        query = (
            select(table, trials.c.n.label("trials"), put_aside.c.n.label("quarantined"))
            .outerjoin_from(table, trials, trials.c.device == table.c.device)
            .outerjoin(put_aside, put_aside.c.device == table.c.device)
            .order_by(table.c.device)
        )
        with self._reading() as connection:
            return [rows.device_row(row) for row in connection.execute(query)]

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
        query = select(tables.arrival).order_by(tables.arrival.c.id)
        if device is not None:
            query = query.where(tables.arrival.c.device == device)
        with self._reading() as connection:
            for arrival in connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}):
                yield rows.batch_of(arrival, connection.execute(_items(arrival.id, Kind(arrival.kind))))

    def close(self) -> None:
        """All connections."""
        self._engine.dispose()

    def _reading(self) -> contextlib.AbstractContextManager[Connection]:
        return self._transaction(self._engine)

    def _writing(self) -> contextlib.AbstractContextManager[Connection]:
        return self._transaction(self._writer)

    @contextlib.contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise unavailable(self.name, error) from error

    def _touch(self, connection: Connection, device: str, now_unix_s: float, **columns: bytes) -> None:
        """Note a sign of life of `device`, and what it said of itself."""
        self._describe(connection, device, now_unix_s, last_seen_unix_s=now_unix_s, **columns)

    def _describe(self, connection: Connection, device: str, now_unix_s: float, **columns: Any) -> None:
        new = self._upsert(tables.device).values(device=device, first_seen_unix_s=now_unix_s, **columns)
        connection.execute(new.on_conflict_do_update(index_elements=["device"], set_=columns))

    def _insert(self, connection: Connection, batch: Batch, fresh: list[Accepted], received_unix_s: float) -> None:
        if not fresh:
            return
        envelope = insert(tables.arrival).values(rows.arrival_row(batch, received_unix_s))
        arrival = connection.execute(envelope.returning(tables.arrival.c.id)).scalar_one()
        key = {"device": batch.device, "epoch": batch.epoch, "arrival": arrival}
        entries = [{**key, "seq": row.seq, "record_id": row.record_id} for row in fresh]
        connection.execute(insert(tables.ledger), entries)
        record = self._upsert(tables.RECORDS[batch.kind]).on_conflict_do_nothing()
        connection.execute(record, [row.columns for row in fresh])

    def _put_aside(
        self, connection: Connection, device: str, topic: str, refused: Sequence[Refused], now_unix_s: float
    ) -> None:
        if not refused:
            return
        table = tables.quarantine
        met = set(connection.scalars(select(table.c.reason).where(table.c.device == device)))
        entries: dict[str, dict[str, Any]] = {}
        for item in refused:
            reason = item.reason if item.reason in met or len(met) < REASONS_TOLD_APART else OTHER_REASONS
            met.add(reason)
            entry = entries.setdefault(reason, rows.quarantine_row(device, topic, item.body, reason, now_unix_s))
            entry["occurrences"] += 1
        new = self._upsert(table)
        counted = {
            "occurrences": table.c.occurrences + new.excluded.occurrences,
            "last_unix_s": new.excluded.last_unix_s,
        }
        count = new.on_conflict_do_update(index_elements=["device", "reason"], set_=counted)
        connection.execute(count, list(entries.values()))

    def _receipt(
        self,
        device: str,
        epoch: str,
        high_water: int,
        committed: Iterable[int] = (),
        refused: Iterable[Refused] = (),
    ) -> Receipt:
        return Receipt(
            device=device,
            epoch=epoch,
            generation=self._generation,
            ranges=_ranges(committed),
            rejected=tuple(Rejection(seq=item.seq, reason=item.reason) for item in refused),
            high_water=high_water,
        )


def unavailable(name: str, error: DBAPIError) -> StoreUnavailable:
    """What a database said, in one line, without the statement and its parameters."""
    line = next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
    remedy = "; restore a backup, or move the file away and let boards and exports fill a new one"
    return StoreUnavailable(f"database {name}: {line}{remedy if 'malformed' in line else ''}")


def _outlived(connection: Connection, will: Status) -> bool:
    """Whether `will` ends a session that began before the one which is online now."""
    held = connection.scalar(select(tables.device.c.status).where(tables.device.c.device == will.device))
    now = rows.message_of(held, Status)
    if now is None or now.presence is Presence.OFFLINE or now.session == will.session:
        return False
    return will.since_unix_s < now.since_unix_s


def _held(connection: Connection, batch: Batch) -> dict[int, str]:
    """Record ids that are stored under keys of `batch`, by seq."""
    table = tables.ledger
    query = select(table.c.seq, table.c.record_id).where(
        table.c.device == batch.device,
        table.c.epoch == batch.epoch,
        table.c.seq.in_({item.seq for item in batch.items}),
    )
    return {row.seq: row.record_id for row in connection.execute(query)}


def _high_water(connection: Connection, device: str, epoch: str) -> int:
    table = tables.ledger
    query = select(func.max(table.c.seq)).where(table.c.device == device, table.c.epoch == epoch)
    return connection.scalar(query) or 0


def _items(arrival: int, kind: Kind) -> Select[Any]:
    """What came first with this arrival, in order."""
    ledger, record = tables.ledger, tables.RECORDS[kind]
    return (
        select(ledger.c.seq, record.c.schema, record.c.body)
        .join_from(ledger, record, record.c.record_id == ledger.c.record_id)
        .where(ledger.c.arrival == arrival)
        .order_by(ledger.c.seq)
    )


def _ranges(seqs: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Runs of consecutive numbers, both ends included."""
    runs: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if runs and runs[-1][1] == seq - 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return tuple(runs)
