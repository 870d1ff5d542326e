"""Whether a store fits together: its file, keys against records, bodies against ids, counters against keys."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, literal, select, union_all

from collector.store import rows, tables
from collector.store.base import Check, Gap
from phasewatt import identity
from phasewatt.fields import Kind

GAPS_TOLD = 1000
_FAULTS_TOLD = 10  # of one sort
_ROWS_AT_ONCE = 200  # of bodies, so that memory stays bounded


def check(connection: Connection) -> Check:
    """What a look at everything found."""
    faults = [*_integrity(connection), *_counters(connection)]
    records: dict[Kind, int] = {}
    for kind in Kind:
        faults += _keys_without_record(connection, kind)
        faults += _records_without_key(connection, kind)
        records[kind], wrong = _bodies(connection, kind)
        faults += wrong
    return Check(tuple(faults), records, tuple(_gaps(connection)))


def _integrity(connection: Connection) -> Iterator[str]:
    """The database's own word; PostgreSQL has none that a user may ask."""
    if connection.dialect.name != "sqlite":
        return
    for line in connection.exec_driver_sql(f"PRAGMA integrity_check({_FAULTS_TOLD})").scalars():
        if line != "ok":
            yield f"integrity: {line}"
    if foreign := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
        yield f"integrity: {len(foreign)} rows point to nothing"


def _keys_without_record(connection: Connection, kind: Kind) -> Iterator[str]:
    """Keys whose body is not there though it did not go by age, under this key or another one."""
    ledger, arrival, record = tables.ledger, tables.arrival, tables.RECORDS[kind]
    other, its_arrival = ledger.alias(), arrival.alias()
    went_by_age = (
        select(literal(1))
        .join_from(other, its_arrival, its_arrival.c.id == other.c.arrival)
        .where(other.c.record_id == ledger.c.record_id, ~its_arrival.c.kept)
        .exists()
    )
    query = (
        select(ledger.c.device, ledger.c.epoch, ledger.c.seq)
        .join_from(ledger, arrival, arrival.c.id == ledger.c.arrival)
        .outerjoin(record, record.c.record_id == ledger.c.record_id)
        .where(arrival.c.kind == kind.value, arrival.c.kept, record.c.record_id.is_(None), ~went_by_age)
        .limit(_FAULTS_TOLD)
    )
    for row in connection.execute(query):
        yield f"{row.device} epoch {row.epoch} row {row.seq}: its {kind.value} is not there"


def _records_without_key(connection: Connection, kind: Kind) -> Iterator[str]:
    record = tables.RECORDS[kind]
    known = select(tables.ledger.c.record_id)
    query = select(record.c.record_id).where(record.c.record_id.not_in(known)).limit(_FAULTS_TOLD)
    for record_id in connection.scalars(query):
        yield f"{kind.value} {record_id}: no key names it"


def _bodies(connection: Connection, kind: Kind) -> tuple[int, list[str]]:
    """How many there are, and those that are no longer what their id says."""
    record = tables.RECORDS[kind]
    query = select(record.c.record_id, record.c.body)
    seen = 0
    wrong: list[str] = []
    for row in connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}):
        seen += 1
        if identity.record_id(kind, row.body) != row.record_id and len(wrong) < _FAULTS_TOLD:
            wrong.append(f"{kind.value} {row.record_id}: its body is not what was stored")
    return seen, wrong


def _counters(connection: Connection) -> Iterator[str]:
    ledger, refusal = tables.ledger, tables.refusal
    keys = select(ledger.c.device, ledger.c.epoch, func.count().label("n"), func.max(ledger.c.seq).label("top"))
    stored = {
        (row.device, row.epoch): row for row in connection.execute(keys.group_by(ledger.c.device, ledger.c.epoch))
    }
    of_outbox = (refusal.c.device, refusal.c.epoch, refusal.c.withheld)
    refused = {
        (row.device, row.epoch, row.withheld): row.n
        for row in connection.execute(select(*of_outbox, func.count().label("n")).group_by(*of_outbox))
    }
    counted = set()
    for row in connection.execute(select(tables.epoch)):
        count, key = rows.epoch_count(row), (row.device, row.epoch)
        counted.add(key)
        found = stored.get(key)
        expected = (found.n, found.top) if found else (0, 0)
        told = (count.stored, count.high_water, count.rejected, count.withheld)
        if told != (*expected, refused.get((*key, False), 0), refused.get((*key, True), 0)):
            yield f"{row.device} epoch {row.epoch}: its counters are not those of its keys"
    for device, epoch in sorted(stored.keys() - counted):
        yield f"{device} epoch {epoch}: it has keys and no counters"


def _gaps(connection: Connection) -> Iterator[Gap]:
    ledger, refusal = tables.ledger, tables.refusal
    met = union_all(
        select(ledger.c.device, ledger.c.epoch, ledger.c.seq),
        select(refusal.c.device, refusal.c.epoch, refusal.c.seq).where(~refusal.c.withheld),
    ).subquery()
    before = func.lag(met.c.seq, 1, 0).over(partition_by=(met.c.device, met.c.epoch), order_by=met.c.seq)
    steps = select(met, before.label("before")).subquery()
    query = (
        select(steps)
        .where(steps.c.seq > steps.c.before + 1)
        .order_by(steps.c.device, steps.c.epoch, steps.c.seq)
        .limit(GAPS_TOLD)
    )
    for row in connection.execute(query):
        yield Gap(row.device, row.epoch, row.before + 1, row.seq - 1)
