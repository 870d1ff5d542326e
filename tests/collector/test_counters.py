"""Gaps, lives and retention: what the store counts beside the records, on every database."""

from __future__ import annotations

import contextlib
import time

import pytest
import sqlalchemy

from collector import presence, retention
from collector.commands.table import when
from collector.retention import Housekeeper
from collector.settings import FOREVER, Retention
from collector.store import Removal, Store, open_store
from collector.store.removing import ARRIVALS_AT_ONCE
from phasewatt import codec, series
from phasewatt.fields import Kind
from phasewatt.messages import Presence
from phasewatt.traces import Telemetry
from tests.fixtures import records, wire
from tests.fixtures.wire import DEVICE, EPOCH

NOW = 1_800_000_000.0
DAY_S = 86400.0


def row_of(store: Store):
    (row,) = store.devices()
    return row


def count_of(store: Store, epoch: str = EPOCH):
    return next(count for count in row_of(store).epochs if count.epoch == epoch)


def one_event(seq: int, **fields):
    return wire.batch([wire.item(seq, wire.events(seq)[-1])], **fields)


def execute(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_nothing_is_missing_where_all_came_in_any_order(store):
    for seq in (5, 1, 4, 2, 3, 3):
        store.ingest(one_event(seq), NOW)
    count = count_of(store)
    assert (count.top, count.high_water, count.stored, count.missing) == (5, 5, 5, 0)


def test_what_is_missing_is_counted_by_epoch_and_found_by_check(store):
    for seq in (1, 2, 6, 9):
        store.ingest(one_event(seq), NOW)
    store.ingest(one_event(1, epoch="epoch-2"), NOW + 1)
    assert [(count.epoch, count.missing) for count in row_of(store).epochs] == [("epoch-2", 0), (EPOCH, 5)]
    assert [(gap.epoch, gap.first, gap.last) for gap in store.check().gaps] == [(EPOCH, 3, 5), (EPOCH, 7, 8)]


def test_rejected_keys_are_not_missing_however_often_they_come(store):
    bad = wire.item(3, wire.events(1)[0], schema=0)
    for _ in range(3):
        store.ingest(wire.batch([wire.item(1, wire.events(1)[0]), bad]), NOW)
    count = count_of(store)
    assert (count.top, count.stored, count.rejected, count.missing) == (3, 1, 1, 1)
    store.ingest(one_event(3), NOW)
    count = count_of(store)
    assert (count.stored, count.rejected, count.missing) == (2, 0, 1)
    assert store.check().faults == ()


def test_key_that_is_held_with_another_body_is_stored_and_not_rejected(store):
    first, second = wire.events(2)
    store.ingest(wire.batch_of(first), NOW)
    store.ingest(wire.batch_of(second), NOW)
    count = count_of(store)
    assert (count.stored, count.rejected, count.missing) == (1, 0, 0)
    assert row_of(store).key_conflicts == 1


def test_withheld_key_may_be_rejected_later(store):
    event = wire.events(1)[0]
    store.ingest(wire.batch([wire.item(1, event, schema=codec.SCHEMA + 1)]), NOW)
    assert (count_of(store).withheld, count_of(store).top) == (1, 0)
    store.ingest(wire.batch([wire.item(1, event, schema=0)]), NOW)
    assert (count_of(store).withheld, count_of(store).rejected, count_of(store).top) == (0, 1, 1)


def test_board_says_what_it_gave_up(store):
    store.put_status(wire.status(dropped={"trace": 2, "telemetry": 3}), NOW)
    assert count_of(store).dropped == 5
    store.ingest(one_event(9), NOW)
    count = count_of(store)
    assert (count.missing, count.dropped) == (8, 5)
    told = list(presence.remarks(row_of(store), NOW, when))
    assert f"epoch {EPOCH}: 8 rows up to 9 missing, 5 given up at its disk cap, 3 may still come" in told


def test_many_drops_of_many_kinds_are_no_poison(store):
    store.put_status(wire.status(dropped={str(number): 2**53 for number in range(2000)}), NOW)
    assert count_of(store).dropped == 2**53


def test_clock_of_the_last_batch_is_kept(store):
    store.ingest(one_event(1), NOW)
    clock = row_of(store).clock
    assert (clock.synchronised, clock.offset_bound_s) == (True, 0.01)
    assert (clock.sent_unix_s, clock.received_unix_s) == (wire.STARTED_UNIX_S + 1, NOW)


def test_board_is_silent_past_its_own_interval(store):
    store.put_status(wire.status(telemetry_interval_s=120.0), NOW)
    row = row_of(store)
    assert presence.silent_since_unix_s(row, NOW + 3 * 120) is None
    assert presence.silent_since_unix_s(row, NOW + 3 * 120 + 1) == NOW
    store.ingest(one_event(1), NOW + 400)
    assert presence.silent_since_unix_s(row_of(store), NOW + 401) is None


@pytest.mark.parametrize("fields", [{"telemetry_interval_s": None}, {"presence": Presence.OFFLINE}])
def test_board_that_need_not_send_is_not_silent(store, fields):
    store.put_status(wire.status(**fields), NOW)
    assert presence.silent_since_unix_s(row_of(store), NOW + 1e6) is None


def speak(store: Store, words: str) -> tuple[str, ...]:
    """Statuses of lives by letter: lower case, a restart of the agent; the letters that contend in the end."""
    for turn, letter in enumerate(words):
        name = letter.lower()
        told = wire.status(
            epoch=f"epoch-{name}", boot_id=f"boot-{name}", session=f"session-{turn}", since_unix_s=1e9 + turn
        )
        store.put_status(told, NOW + turn)
    row = row_of(store)
    return tuple(sorted(life.boot_id[-1] for life in presence.contenders(row, NOW + len(words))))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("aaaa", id="restarts of the agent"),
        pytest.param("aaabbb", id="outbox set aside, or board imaged anew"),
        pytest.param("abcdefgh", id="reboots"),
        pytest.param("aababbbb", id="two returns of one"),
        pytest.param("aba", id="old image put back while it ran"),
        pytest.param("abab", id="one message that came late"),
    ],
)
def test_one_board_is_one_board(store, words):
    assert speak(store, words) == ()


def test_two_boards_that_take_turns_are_two(store):
    assert speak(store, "ababab") == ("a", "b")
    (told,) = [line for line in presence.remarks(row_of(store), NOW + 9, when) if "two boards" in line]
    assert "boot boot-b with epoch epoch-b" in told
    assert "boot boot-a with epoch epoch-a" in told


def test_cloned_disk_has_one_epoch_and_two_boots(store):
    for turn in range(6):
        name = "ab"[turn % 2]
        store.put_status(wire.status(boot_id=f"boot-{name}\0", since_unix_s=1e9 + turn), NOW + turn)
    assert len(presence.contenders(row_of(store), NOW + 6)) == 2


def test_replayed_statuses_are_no_second_board(store):
    first = wire.status(epoch="a", since_unix_s=1e9)
    second = wire.status(epoch="b", since_unix_s=1e9 + 1)
    for turn in range(10):
        store.put_status((first, second)[turn % 2], NOW + turn)
    assert presence.contenders(row_of(store), NOW + 10) == ()


def test_two_boards_are_forgotten_a_week_after_the_last_turn(store):
    assert speak(store, "ababab") == ("a", "b")
    assert presence.contenders(row_of(store), NOW + 8 * DAY_S) == ()


def test_lives_of_a_board_are_bounded(store):
    for number in range(50):
        store.put_status(wire.status(boot_id=f"boot-{number}", since_unix_s=1e9 + number), NOW + number)
    assert [life.boot_id for life in row_of(store).lives] == [f"boot-{number}" for number in range(49, 29, -1)]


def test_status_found_retained_is_no_life(store):
    store.put_status(wire.status(), NOW, live=False)
    row = row_of(store)
    assert (row.status, row.last_seen_unix_s, row.lives) == (wire.status(), None, ())


def telemetry(seq: int, started_unix_s: float, values: list[float | None], **fields) -> tuple[int, Telemetry]:
    times = series.pack_times([1_000_000_000 * number for number in range(len(values))])
    column = series.pack("power", "W", 0.5, values)
    return seq, wire.telemetry(started_unix_s=started_unix_s, time=times, values=(column,), **fields)


def ingest_telemetry(store: Store, received_unix_s: float, *rows: tuple[int, Telemetry]) -> None:
    store.ingest(wire.batch([wire.item(*row) for row in rows], Kind.TELEMETRY), received_unix_s)


def test_bodies_go_by_age_and_keys_stay(store):
    old = wire.batch_of(*wire.events(3))
    store.ingest(old, NOW)
    store.ingest(one_event(4), NOW + 10)
    assert store.remove(Kind.TRACE, NOW + 100) == Removal(0, 0)
    assert store.remove(Kind.EVENT, NOW + 5) == Removal(1, 3)
    assert store.remove(Kind.EVENT, NOW + 5) == Removal(0, 0)
    assert [[item.seq for item in batch.items] for batch in store.batches()] == [[4]]
    count = count_of(store)
    assert (count.stored, count.removed, count.missing) == (4, 3, 0)
    assert store.ingest(old, NOW + 20).ranges == ((1, 3),)
    assert [[item.seq for item in batch.items] for batch in store.batches()] == [[4]]
    assert store.check().faults == ()


def test_removing_goes_in_small_steps(store):
    for seq in range(1, ARRIVALS_AT_ONCE + 3):
        store.ingest(one_event(seq), NOW)
    assert store.remove(Kind.EVENT, NOW + 1) == Removal(ARRIVALS_AT_ONCE, ARRIVALS_AT_ONCE)
    assert store.remove(Kind.EVENT, NOW + 1) == Removal(2, 2)


def test_record_that_came_under_two_keys_goes_once(store):
    (event,) = wire.events(1)
    store.ingest(wire.batch_of(event), NOW)
    store.ingest(wire.batch_of(event, epoch="epoch-2"), NOW + DAY_S)
    store.remove(Kind.EVENT, NOW + 1)
    assert store.check().faults == ()
    store.remove(Kind.EVENT, NOW + 2 * DAY_S)
    assert [count.removed for count in row_of(store).epochs] == [1, 1]
    assert store.check().faults == ()


def test_telemetry_leaves_its_hours_whatever_the_batches(store):
    """One hour in two batches, one record over two hours, a missing sample, and a late record of the first hour."""
    hour = 1_700_000_000 // 3600 * 3600
    ingest_telemetry(store, NOW, telemetry(1, hour + 10.0, [1.0, None, 2.0]))
    ingest_telemetry(store, NOW + 1, telemetry(2, hour + 3599.0, [4.0, 8.0]), telemetry(3, hour + 20.0, [3.0]))
    while store.remove(Kind.TELEMETRY, NOW + 50).arrivals:
        pass
    ingest_telemetry(store, NOW + 100, telemetry(4, hour + 30.0, [10.0]))
    store.remove(Kind.TELEMETRY, NOW + 200)
    first, second = store.telemetry_hours(DEVICE)
    assert (first.hour_unix_s, first.name, first.unit) == (hour, "power", "W")
    assert (first.samples, first.lowest, first.highest, first.mean) == (5, 1.0, 10.0, 4.0)
    assert (second.hour_unix_s, second.samples, second.mean) == (hour + 3600, 1, 8.0)
    assert not list(store.batches())


def test_telemetry_that_comes_again_under_another_key_is_in_its_hours_once(store):
    """A copied disk forks, and sends again what went by age here long ago."""
    _, record = telemetry(1, 1_700_000_000.0, [1.0, 2.0])
    store.ingest(wire.batch_of(record), NOW)
    store.remove(Kind.TELEMETRY, NOW + 1)
    store.ingest(wire.batch_of(record, epoch="epoch-2"), NOW + 2)
    while store.remove(Kind.TELEMETRY, NOW + 3).arrivals:
        pass
    assert [hour.samples for hour in store.telemetry_hours(DEVICE)] == [2]
    assert store.check().faults == ()


@pytest.mark.parametrize("started_unix_s", [0.0, -1e308, 1e308])
def test_telemetry_of_a_clock_that_was_never_set_goes_too(store, started_unix_s):
    ingest_telemetry(store, NOW, telemetry(1, started_unix_s, [1.0]))
    assert store.remove(Kind.TELEMETRY, NOW + 1).keys == 1
    assert [hour.samples for hour in store.telemetry_hours(DEVICE)] == [1]


def test_retention_is_by_kind_and_by_when_it_was_received(sqlite_store):
    sqlite_store.ingest(wire.batch_of(*wire.events(2)), NOW)
    ingest_telemetry(sqlite_store, NOW, telemetry(3, 0.0, [1.0]))
    ingest_telemetry(sqlite_store, NOW + 50 * DAY_S, telemetry(4, 0.0, [2.0]))
    gone = list(retention.apply(sqlite_store, Retention(telemetry_days=90), NOW + 91 * DAY_S))
    assert gone == [(Kind.TELEMETRY, 1)]
    assert [[item.seq for item in batch.items] for batch in sqlite_store.batches()] == [[1, 2], [4]]
    keep = Retention(telemetry_days=FOREVER, trace_days=FOREVER)
    assert list(retention.apply(sqlite_store, keep, NOW + 1e9)) == []


def test_daemon_removes_at_once_and_again(sqlite_store):
    sqlite_store.ingest(wire.batch_of(*wire.events(2)), NOW)
    keeper = Housekeeper(sqlite_store, Retention(event_days=1), clock=lambda: NOW + 2 * DAY_S, period_s=0.05)
    keeper.start()
    try:
        wait_until(lambda: not list(sqlite_store.batches()))
        sqlite_store.ingest(one_event(3), NOW)
        wait_until(lambda: not list(sqlite_store.batches()))
    finally:
        keeper.stop()


def wait_until(condition) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_sound_store_has_no_faults(store):
    store.ingest(wire.batch_of(records.trial()), NOW)
    store.ingest(wire.batch_of(*wire.events(3), first_seq=2), NOW)
    found = store.check()
    assert found.faults == ()
    assert found.gaps == ()
    assert {kind.value: n for kind, n in found.records.items()} == {"trial": 1, "trace": 0, "telemetry": 0, "event": 3}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM event", "epoch epoch-1 row 1: its event is not there"),
        ("DELETE FROM ledger WHERE seq = 1", "no key names it"),
        ("UPDATE event SET body = substr(body, 2)", "its body is not what was stored"),
        ("UPDATE epoch SET stored = 7", "its counters are not those of its keys"),
        ("DELETE FROM epoch", "it has keys and no counters"),
    ],
)
def test_what_does_not_fit_together_is_a_fault(store, store_url, statement, words):
    store.ingest(wire.batch_of(*wire.events(1)), NOW)
    execute(store_url, statement)
    assert any(words in fault for fault in store.check().faults)


def test_compacting_keeps_what_is_there(store):
    store.ingest(wire.batch_of(*wire.events(3)), NOW)
    store.compact()
    assert sum(len(batch.items) for batch in store.batches()) == 3


def test_new_generation_is_in_the_receipts_of_those_who_had_it_open(store, store_url):
    before = store.ingest(one_event(1), NOW).generation
    with contextlib.closing(open_store(store_url)) as other:
        new = other.renew()
    assert store.receipt_for(DEVICE, EPOCH).generation == new != before
    assert store.ingest(one_event(2), NOW).generation == new
    assert store.generation == new
