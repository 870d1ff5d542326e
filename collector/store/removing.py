"""Bodies that go by age, a few arrivals at a time; keys stay, and telemetry leaves its sums by the hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, case, delete, select, update

from collector.store import rows, tables
from collector.store.base import Removal
from collector.store.rollup import HourKey, HourSum, sums_of
from collector.store.writing import upsert_of
from phasewatt.fields import Kind
from phasewatt.traces import Telemetry

ARRIVALS_AT_ONCE = 20


def remove(connection: Connection, kind: Kind, before_unix_s: float) -> Removal:
    """Remove the bodies of the oldest arrivals of `kind`, those of before then; age counts from the first arrival."""
    arrivals = _oldest(connection, kind, before_unix_s)
    if not arrivals:
        return Removal(0, 0)
    ledger, record = tables.ledger, tables.RECORDS[kind]
    keys = connection.execute(select(ledger).where(ledger.c.arrival.in_(arrivals))).all()
    by_epoch = Counter((key.device, key.epoch) for key in keys)
    table = tables.epoch
    for (device, epoch), gone in sorted(by_epoch.items()):
        of_outbox = (table.c.device == device, table.c.epoch == epoch)
        connection.execute(update(table).where(*of_outbox).values(removed=table.c.removed + gone))
    ids = sorted({key.record_id for key in keys})
    if kind is Kind.TELEMETRY:
        _sum_up(connection, set(ids) - _summed_before(connection, keys))
    connection.execute(delete(record).where(record.c.record_id.in_(ids)))
    connection.execute(update(tables.arrival).where(tables.arrival.c.id.in_(arrivals)).values(kept=False))
    return Removal(len(arrivals), len(keys))


def _oldest(connection: Connection, kind: Kind, before_unix_s: float) -> Sequence[int]:
    table = tables.arrival
    query = (
        select(table.c.id)
        .where(table.c.kind == kind.value, table.c.kept, table.c.received_unix_s < before_unix_s)
        .order_by(table.c.received_unix_s)
        .limit(ARRIVALS_AT_ONCE)
        .with_for_update()  # two collectors may do this at once
    )
    return connection.scalars(query).all()


def _summed_before(connection: Connection, keys: Sequence[Any]) -> set[str]:
    """Records that went by age once under the key of another outbox: a copied disk sends again what it holds."""
    ledger, arrival = tables.ledger, tables.arrival
    summed: set[str] = set()
    for device, epoch in sorted({(key.device, key.epoch) for key in keys}):
        of_device = (tables.epoch.c.device == device, tables.epoch.c.epoch != epoch)
        if others := connection.scalars(select(tables.epoch.c.epoch).where(*of_device)).all():
            mine = {key.record_id for key in keys if (key.device, key.epoch) == (device, epoch)}
            gone = (
                select(ledger.c.record_id)
                .join_from(ledger, arrival, arrival.c.id == ledger.c.arrival)
                .where(ledger.c.device == device, ledger.c.epoch.in_(others), ledger.c.record_id.in_(mine))
                .where(~arrival.c.kept)
            )
            summed |= set(connection.scalars(gone))
    return summed


def _sum_up(connection: Connection, ids: Iterable[str]) -> None:
    """Add the records to the sums of their hours; those that this version cannot read have none."""
    table = tables.telemetry
    by_device: dict[str, list[Telemetry]] = {}
    for row in connection.execute(select(table).where(table.c.record_id.in_(list(ids))).order_by(table.c.record_id)):
        if isinstance(record := rows.record_of(Kind.TELEMETRY, row), Telemetry):
            by_device.setdefault(record.device, []).append(record)
    for device, records in sorted(by_device.items()):
        _add(connection, device, sums_of(records))


def _add(connection: Connection, device: str, sums: Mapping[HourKey, HourSum]) -> None:
    if not sums:
        return
    table = tables.telemetry_hour
    new = upsert_of(connection)(table)
    # Spelt with CASE, for the databases have other names for the lesser of two.
    added = {
        "samples": table.c.samples + new.excluded.samples,
        "total": table.c.total + new.excluded.total,
        "lowest": case((table.c.lowest < new.excluded.lowest, table.c.lowest), else_=new.excluded.lowest),
        "highest": case((table.c.highest > new.excluded.highest, table.c.highest), else_=new.excluded.highest),
    }
    keys = [column.name for column in table.primary_key]
    entries = [{"device": device, **key._asdict(), **total._asdict()} for key, total in sorted(_plain(sums).items())]
    connection.execute(new.on_conflict_do_update(index_elements=keys, set_=added), entries)


def _plain(sums: Mapping[HourKey, HourSum]) -> dict[HourKey, HourSum]:
    """By the names that are stored: a statement may meet each row once."""
    stored: dict[HourKey, HourSum] = {}
    for key, total in sums.items():
        plain = key._replace(name=tables.plain(key.name), unit=tables.plain(key.unit))
        stored[plain] = stored[plain].plus(total) if plain in stored else total
    return stored
