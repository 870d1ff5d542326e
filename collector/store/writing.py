"""What one transaction of the collector writes, entry by entry; each change of a counter beside what it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from collector.store import lives, rows, tables
from collector.store.base import Aside, Entry, Spoken
from collector.store.rows import Accepted, Judged, Refused
from collector.stored import EpochCount
from phasewatt import codec, topics
from phasewatt.messages import KEY_HELD, Batch, Facts, Presence, Receipt, Rejection, Status

REASONS_TOLD_APART = 100  # of one device, so that no sender can fill the disk with quarantine
OTHER_REASONS = f"a reason beyond the first {REASONS_TOLD_APART} of this device"
_NOT_CHANGED = {"epoch", "first_unix_s", "removed"}  # of counters; the last one is retention's
_MOST = 2**53  # of rows given up, summed over kinds that a sender may choose

# The one place where dialects differ: an insert that may meet its row. Both spell it alike.
_UPSERT: Mapping[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def upsert_of(connection: Connection) -> Callable[[Table], Any]:
    """The insert of this dialect that may meet its row."""
    return _UPSERT[connection.dialect.name]


class Writer:
    """One transaction's writes; `finish` ends them.

    The rows of all devices concerned are locked first, in order, so that two collectors can neither judge one key at
    once nor wait for each other in a circle.
    """

    def __init__(self, connection: Connection, devices: Iterable[str], now_unix_s: float) -> None:
        self.generation: str = connection.execute(select(tables.store_meta.c.generation)).scalar_one()
        self._connection = connection
        self._upsert = upsert_of(connection)
        self._now_unix_s = now_unix_s
        self._counts: dict[tuple[str, str], EpochCount] = {}
        self._heard: dict[str, dict[str, Any]] = {}
        self._lock(sorted(set(devices)))

    def take(self, entry: Entry, judged: Judged | None) -> Receipt | None:
        """Write one entry, a batch with the verdicts on its items, and give the receipt that is owed, if any."""
        match entry:
            case Batch():
                assert judged is not None
                return self._take_batch(entry, judged)
            case Spoken():
                return self._take_status(entry.status, entry.live)
            case Facts():
                facts = {"facts": codec.encode(entry), "last_seen_unix_s": self._now_unix_s}
                self._describe(entry.host.device, facts)
            case Aside():
                refused = [Refused(0, entry.payload, entry.reason)]
                self._put_aside(entry.device or "", entry.topic, refused)
        return None

    def receipt_for(self, device: str, epoch: str) -> Receipt:
        """What is held of one outbox: no ranges."""
        return receipt(self.generation, device, self._count_of(device, epoch))

    def finish(self) -> None:
        """Write what is written once for all entries."""
        for device, columns in self._heard.items():
            self._describe(device, columns)
        if not self._counts:
            return
        new = self._upsert(tables.epoch)
        changed = {field: new.excluded[field] for field in EpochCount._fields if field not in _NOT_CHANGED}
        counts = [{"device": device, **count._asdict()} for (device, _), count in sorted(self._counts.items())]
        self._connection.execute(new.on_conflict_do_update(index_elements=["device", "epoch"], set_=changed), counts)

    def _lock(self, devices: Sequence[str]) -> None:
        if not devices:
            return
        new = self._upsert(tables.device)
        locked = new.on_conflict_do_update(index_elements=["device"], set_={"device": new.excluded.device})
        first = [{"device": device, "first_seen_unix_s": self._now_unix_s} for device in devices]
        self._connection.execute(locked, first)

    def _take_batch(self, batch: Batch, judged: Judged) -> Receipt:
        count = self._count_of(batch.device, batch.epoch)
        held = self._held(batch, count)
        refused = list(judged.refused)
        fresh: list[Accepted] = []
        committed: list[int] = []
        for row in judged.accepted:
            if row.seq not in held:
                held[row.seq] = row.record_id
                fresh.append(row)
            if held[row.seq] == row.record_id:
                committed.append(row.seq)
            else:
                refused.append(Refused(row.seq, row.columns["body"], KEY_HELD))
        self._insert(batch, fresh)
        self._put_aside(batch.device, topics.batch(batch.device, batch.kind), refused)
        unstored = dict.fromkeys((item.seq for item in refused), False) | dict.fromkeys(judged.withheld, True)
        unstored = {seq: withheld for seq, withheld in unstored.items() if seq not in held}
        count = self._counted(batch, count, [row.seq for row in fresh], unstored)
        self._counts[batch.device, batch.epoch] = count
        self._heard[batch.device] = {
            "last_seen_unix_s": self._now_unix_s,
            **rows.clock_columns(batch, self._now_unix_s),
        }
        return receipt(self.generation, batch.device, count, committed, refused)

    def _counted(self, batch: Batch, count: EpochCount, fresh: list[int], unstored: dict[int, bool]) -> EpochCount:
        """`count` with the keys that are stored now and those that are not: rejected (False) or withheld (True)."""
        known = self._refusals(batch, count)
        gone = [seq for seq in fresh if seq in known]
        new = {seq: withheld for seq, withheld in unstored.items() if known.get(seq) is not withheld}
        self._note_refusals(batch, [*gone, *(seq for seq in new if seq in known)], new)
        left = [known[seq] for seq in {*gone, *new} if seq in known]
        rejected = [seq for seq, withheld in unstored.items() if not withheld]
        return count._replace(
            high_water=max([count.high_water, *fresh]),
            top=max([count.top, *fresh, *rejected]),
            stored=count.stored + len(fresh),
            rejected=count.rejected + list(new.values()).count(False) - left.count(False),
            withheld=count.withheld + list(new.values()).count(True) - left.count(True),
            last_unix_s=self._now_unix_s,
        )

    def _refusals(self, batch: Batch, count: EpochCount) -> dict[int, bool]:
        """Keys of `batch` that were met before and not stored; True: withheld."""
        if not count.rejected and not count.withheld:
            return {}
        found = select(tables.refusal.c.seq, tables.refusal.c.withheld).where(*_keys_of(tables.refusal, batch))
        return {row.seq: row.withheld for row in self._connection.execute(found)}

    def _note_refusals(self, batch: Batch, gone: Sequence[int], new: Mapping[int, bool]) -> None:
        table = tables.refusal
        if gone:
            of_outbox = (table.c.device == batch.device, table.c.epoch == batch.epoch)
            self._connection.execute(delete(table).where(*of_outbox, table.c.seq.in_(gone)))
        if new:
            key = {"device": batch.device, "epoch": batch.epoch}
            self._connection.execute(
                insert(table), [{**key, "seq": seq, "withheld": withheld} for seq, withheld in new.items()]
            )

    def _take_status(self, status: Status, live: bool) -> Receipt | None:
        """Presence, unless it is a late will; and the board's own count of what it gave up."""
        count = self._count_of(status.device, status.epoch)
        dropped = min(sum(status.dropped.values()), _MOST)
        self._counts[status.device, status.epoch] = count._replace(dropped=max(count.dropped or 0, dropped))
        body: dict[str, Any] = {"status": codec.encode(status)}
        if status.presence is Presence.ONLINE:
            if live:
                lives.note(self._connection, status, self._now_unix_s)
                body["last_seen_unix_s"] = self._now_unix_s
            if not self._is_over(status):
                self._describe(status.device, body)
            return self.receipt_for(status.device, status.epoch)
        if not self._outlived(status):
            # A will is no sign of life, so the time of the last one stays.
            self._describe(status.device, body)
        return None

    def _is_over(self, status: Status) -> bool:
        """Whether the session that speaks has ended: one of two collectors may be late."""
        now = self._present(status.device)
        return now is not None and now.presence is Presence.OFFLINE and now.session == status.session

    def _present(self, device: str) -> Status | None:
        held = self._connection.scalar(select(tables.device.c.status).where(tables.device.c.device == device))
        return rows.message_of(held, Status)

    def _outlived(self, will: Status) -> bool:
        """Whether `will` ends a session that began before the one which is online now."""
        now = self._present(will.device)
        if now is None or now.presence is Presence.OFFLINE or now.session == will.session:
            return False
        return will.since_unix_s < now.since_unix_s

    def _describe(self, device: str, columns: Mapping[str, Any]) -> None:
        self._connection.execute(update(tables.device).where(tables.device.c.device == device).values(**columns))

    def _count_of(self, device: str, epoch: str) -> EpochCount:
        count = self._counts.get((device, epoch))
        return count or count_of(self._connection, device, epoch) or _nothing(epoch, self._now_unix_s)

    def _held(self, batch: Batch, count: EpochCount) -> dict[int, str]:
        """Record ids that are stored under keys of `batch`, by seq."""
        if all(item.seq > count.high_water for item in batch.items):
            return {}
        found = select(tables.ledger.c.seq, tables.ledger.c.record_id).where(*_keys_of(tables.ledger, batch))
        return {row.seq: row.record_id for row in self._connection.execute(found)}

    def _insert(self, batch: Batch, fresh: list[Accepted]) -> None:
        if not fresh:
            return
        envelope = insert(tables.arrival).values(rows.arrival_row(batch, self._now_unix_s))
        arrival = self._connection.execute(envelope.returning(tables.arrival.c.id)).scalar_one()
        key = {"device": batch.device, "epoch": batch.epoch, "arrival": arrival}
        entries = [{**key, "seq": row.seq, "record_id": row.record_id} for row in fresh]
        self._connection.execute(insert(tables.ledger), entries)
        record = self._upsert(tables.RECORDS[batch.kind]).on_conflict_do_nothing()
        self._connection.execute(record, [row.columns for row in fresh])

    def _put_aside(self, device: str, topic: str, refused: Sequence[Refused]) -> None:
        if not refused:
            return
        table = tables.quarantine
        met = set(self._connection.scalars(select(table.c.reason).where(table.c.device == device)))
        entries: dict[str, dict[str, Any]] = {}
        for item in refused:
            reason = tables.plain(item.reason)
            reason = reason if reason in met or len(met) < REASONS_TOLD_APART else OTHER_REASONS
            met.add(reason)
            entry = entries.setdefault(reason, rows.quarantine_row(device, topic, item.body, reason, self._now_unix_s))
            entry["occurrences"] += 1
        new = self._upsert(table)
        counted = {
            "occurrences": table.c.occurrences + new.excluded.occurrences,
            "last_unix_s": new.excluded.last_unix_s,
        }
        count = new.on_conflict_do_update(index_elements=["device", "reason"], set_=counted)
        self._connection.execute(count, list(entries.values()))


def receipt(
    generation: str,
    device: str,
    count: EpochCount,
    committed: Iterable[int] = (),
    refused: Iterable[Refused] = (),
) -> Receipt:
    """The store's word on one outbox."""
    return Receipt(
        device=device,
        epoch=count.epoch,
        generation=generation,
        ranges=_ranges(committed),
        rejected=tuple(Rejection(seq=item.seq, reason=item.reason) for item in refused),
        high_water=count.high_water,
    )


def count_of(connection: Connection, device: str, epoch: str) -> EpochCount | None:
    """The counters of one outbox; None: nothing was heard of it."""
    table = tables.epoch
    found = select(table).where(table.c.device == device, table.c.epoch == epoch)
    row = connection.execute(found).one_or_none()
    return None if row is None else rows.epoch_count(row)


def _nothing(epoch: str, now_unix_s: float) -> EpochCount:
    return EpochCount(epoch, 0, 0, 0, 0, 0, 0, None, now_unix_s, now_unix_s)


def _keys_of(table: Table, batch: Batch) -> tuple[Any, ...]:
    seqs = {item.seq for item in batch.items}
    return table.c.device == batch.device, table.c.epoch == batch.epoch, table.c.seq.in_(seqs)


def _ranges(seqs: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Runs of consecutive numbers, both ends included."""
    runs: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if runs and runs[-1][1] == seq - 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return tuple(runs)
