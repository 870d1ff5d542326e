"""The contract of `collector.store.base.Store`, on every database that it runs on."""

from __future__ import annotations

import contextlib
import threading

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from collector.store import Store, TrialQuery, open_store
from collector.store.writing import OTHER_REASONS, REASONS_TOLD_APART
from phasewatt import codec, identity
from phasewatt.errors import StoreUnavailable
from phasewatt.fields import Kind, Outcome
from phasewatt.messages import Batch, Presence, Receipt
from tests.fixtures import records, strategies, wire
from tests.fixtures.wire import DEVICE, EPOCH

NOW = 1_800_000_000.0


def items_of(store: Store) -> list[tuple[str, int, bytes]]:
    """Everything that is held, by key."""
    return [(batch.epoch, item.seq, bytes(item.body)) for batch in store.batches() for item in batch.items]


def test_receipt_names_what_is_committed(store):
    receipt = store.ingest(wire.batch_of(*wire.events(3), first_seq=5), NOW)
    assert receipt == Receipt(
        device=DEVICE, epoch=EPOCH, generation=store.generation, ranges=((5, 7),), rejected=(), high_water=7
    )


def test_what_is_receipted_is_there_for_another_connection(store, store_url):
    batch = wire.batch_of(*wire.events(3))
    store.ingest(batch, NOW)
    with contextlib.closing(open_store(store_url)) as other:
        assert list(other.batches()) == [batch]
        assert other.generation == store.generation


def test_same_batch_again_is_acknowledged_again_and_stored_once(store):
    batch = wire.batch_of(*wire.events(3))
    assert store.ingest(batch, NOW) == store.ingest(batch, NOW + 1)
    assert len(items_of(store)) == 3


def test_newest_telemetry_is_the_last_of_what_was_received_lately(store):
    """A backlog that comes later is older, and what came before the time of its board is not looked at."""
    began = [wire.telemetry(started_unix_s=wire.STARTED_UNIX_S + at) for at in (0.0, 120.0, 240.0)]
    other = wire.telemetry(device="board-2")
    store.ingest(wire.batch_of(began[2], began[1], first_seq=2), NOW - 60)
    store.ingest(wire.batch_of(began[0]), NOW)
    store.ingest(wire.batch_of(other, device="board-2"), NOW - 60)
    assert store.newest_telemetry({}) == {}
    assert store.newest_telemetry({DEVICE: NOW - 60, "board-2": NOW - 60}) == {DEVICE: began[2], "board-2": other}
    assert store.newest_telemetry({DEVICE: NOW - 59, "board-2": NOW - 59, "none": 0.0}) == {DEVICE: began[0]}


def test_ranges_leave_out_what_is_not_there(store):
    first, second, third = wire.events(3)
    receipt = store.ingest(wire.batch([wire.item(9, third), wire.item(1, first), wire.item(2, second)]), NOW)
    assert receipt.ranges == ((1, 2), (9, 9))
    assert receipt.high_water == 9


def test_same_key_with_another_body_is_rejected_and_put_aside(store):
    first, second = wire.events(2)
    store.ingest(wire.batch_of(first), NOW)
    receipt = store.ingest(wire.batch_of(second), NOW)
    assert receipt.ranges == ()
    assert [(rejection.seq, "another body" in rejection.reason) for rejection in receipt.rejected] == [(1, True)]
    assert items_of(store) == [(EPOCH, 1, codec.encode(first))]
    assert store.devices()[0].quarantined == 1


def test_same_key_twice_in_one_batch_keeps_the_first(store):
    first, second = wire.events(2)
    receipt = store.ingest(wire.batch([wire.item(1, first), wire.item(1, second)]), NOW)
    assert receipt.ranges == ((1, 1),)
    assert [rejection.seq for rejection in receipt.rejected] == [1]
    assert items_of(store) == [(EPOCH, 1, codec.encode(first))]


def test_same_key_with_the_body_of_another_kind_is_rejected(store):
    store.ingest(wire.batch_of(*wire.events(1)), NOW)
    assert store.ingest(wire.batch_of(wire.telemetry()), NOW).rejected


def test_one_record_under_two_keys_is_one_trial(store):
    trial = records.trial()
    store.ingest(wire.batch_of(trial), NOW)
    assert store.ingest(wire.batch_of(trial, epoch="epoch-2", first_seq=8), NOW).ranges == ((8, 8),)
    assert len(store.trials(TrialQuery())) == 1
    assert [(epoch, seq) for epoch, seq, _ in items_of(store)] == [(EPOCH, 1), ("epoch-2", 8)]


def test_one_record_twice_in_one_batch_is_one_trial(store):
    trial = records.trial()
    assert store.ingest(wire.batch_of(trial, trial), NOW).ranges == ((1, 2),)
    assert len(store.trials(TrialQuery())) == 1


BAD_ITEMS = {
    "not a record": wire.item(2, wire.telemetry(), body=Raw(b'{"nothing":1}')),
    "another kind's record": wire.item(2, wire.telemetry()),
    "draft's schema": wire.item(2, wire.events(1)[0], schema=0),
    "another device's record": wire.item(2, wire.events(1, device="board-2")[0]),
    "a number out of range": wire.item(
        2, wire.telemetry(), body=Raw(codec.encode(wire.events(1)[0]).replace(b"1700000000.0", b"1e999"))
    ),
    "bad UTF-8": wire.item(2, wire.telemetry(), body=Raw(codec.encode(wire.events(1)[0]).replace(b"event", b"\xff"))),
    "several lines": wire.item(2, wire.telemetry(), body=Raw(codec.encode(wire.events(1)[0]).replace(b":", b":\n"))),
}


@pytest.mark.parametrize("bad", BAD_ITEMS.values(), ids=BAD_ITEMS)
def test_one_bad_item_does_not_take_the_good_ones_along(store, bad):
    first, _, third = wire.events(3)
    receipt = store.ingest(wire.batch([wire.item(1, first), bad, wire.item(3, third)]), NOW)
    assert receipt.ranges == ((1, 1), (3, 3))
    (rejection,) = receipt.rejected
    assert rejection.seq == 2
    assert rejection.reason
    assert store.devices()[0].quarantined == 1


def test_rejection_is_short_whatever_the_sender_wrote(store):
    hostile = Raw(b'{"' + b"x" * 100_000 + b'":1}')
    receipt = store.ingest(wire.batch([wire.item(1, wire.telemetry(), body=hostile)]), NOW)
    assert len(codec.encode(receipt)) < 1000
    assert codec.decode(codec.encode(receipt), Receipt) == receipt


def test_nul_in_a_label_is_stored_as_it_is_and_found_by_a_stand_in(store):
    trial = records.trial(suite="a\0b")
    assert store.ingest(wire.batch_of(trial), NOW).ranges == ((1, 1),)
    assert [stored.trial for stored in store.trials(TrialQuery(suite="a\0b"))] == [trial]


def test_extreme_numbers_are_stored(store):
    events = [wire.events(1, time_unix_s=value)[0] for value in (0.0, -1e308, 1e308, 5e-324)]
    assert store.ingest(wire.batch_of(*events, first_seq=2**53 - 3), NOW).ranges == ((2**53 - 3, 2**53),)
    assert store.receipt_for(DEVICE, EPOCH).high_water == 2**53


def test_failure_in_the_middle_stores_nothing(store, store_url):
    engine = sqlalchemy.create_engine(store_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE event")
    with pytest.raises(StoreUnavailable, match="event"):
        store.ingest(wire.batch_of(*wire.events(2)), NOW)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM ledger").scalar() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM device").scalar() == 0
    engine.dispose()


def test_two_collectors_that_get_the_same_batches_at_once_store_them_once(store, store_url):
    batches = [wire.batch_of(*wire.events(20), first_seq=1 + 20 * number) for number in range(10)]
    receipts: list[Receipt] = []

    def ingest(into: Store) -> None:
        receipts.extend(into.ingest(batch, NOW) for batch in batches)

    with contextlib.closing(open_store(store_url)) as other:
        threads = [threading.Thread(target=ingest, args=(into,)) for into in (store, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    every_batch_twice = [((first, first + 19),) for first in range(1, 200, 20) for _ in "ab"]
    assert sorted(receipt.ranges for receipt in receipts) == every_batch_twice
    assert len(items_of(store)) == 200


def test_high_water_is_of_one_epoch(store):
    store.ingest(wire.batch_of(*wire.events(4)), NOW)
    assert store.receipt_for(DEVICE, EPOCH).high_water == 4
    assert store.receipt_for(DEVICE, "epoch-2").high_water == 0
    assert store.receipt_for("board-2", EPOCH).high_water == 0


def test_receipt_of_an_outbox_has_no_ranges(store):
    store.ingest(wire.batch_of(*wire.events(4)), NOW)
    receipt = store.receipt_for(DEVICE, EPOCH)
    assert (receipt.ranges, receipt.rejected, receipt.generation) == ((), (), store.generation)


def test_batches_come_back_whole_and_in_order(store):
    sent = [
        wire.batch_of(*wire.events(2)),
        wire.batch_of(records.trial(), first_seq=3),
        wire.batch_of(wire.telemetry(), first_seq=4, epoch="epoch-2"),
        wire.batch_of(wire.telemetry(device="board-2"), device="board-2"),
    ]
    for batch in sent:
        store.ingest(batch, NOW)
    assert list(store.batches()) == sent
    assert list(store.batches("board-2")) == sent[-1:]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=strategies.of(Batch))
def test_any_batch_is_answered_item_by_item(store, batch):
    receipt = store.ingest(batch, NOW)
    assert codec.decode(codec.encode(receipt), Receipt) == receipt
    answered = {seq for first, last in receipt.ranges for seq in range(first, last + 1)}
    answered |= {rejection.seq for rejection in receipt.rejected}
    newer = {item.seq for item in batch.items if item.schema > codec.SCHEMA}
    assert answered - newer == {item.seq for item in batch.items} - newer


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(record=st.one_of(*(strategies.of(record) for record in codec.KINDS)))
def test_any_valid_record_is_stored_as_it_is(store, record):
    epoch = identity.record_id(Kind.EVENT, codec.encode(record))
    receipt = store.ingest(wire.batch_of(record, device=record.device, epoch=epoch), NOW)
    assert receipt.ranges == ((1, 1),)
    assert (epoch, 1, codec.encode(record)) in items_of(store)


def test_trials_are_found_by_what_they_are(store):
    trials = [
        records.trial(),
        records.trial(suite="phases", campaign="c2", started_unix_s=1.8e9),
        records.trial(outcome=Outcome.FAILED, reason="out of memory", work=None, started_unix_s=1.6e9),
        records.trial(conditions=records.conditions(engine="transformers")),
    ]
    other = records.trial(device="board-2")
    store.ingest(wire.batch_of(*trials), NOW)
    store.ingest(wire.batch_of(other, device="board-2"), NOW)

    def found(**query: object) -> list:
        return [stored.trial for stored in store.trials(TrialQuery(**query))]

    assert found(suite="phases") == [trials[1]]
    assert found(campaign="c2") == [trials[1]]
    assert found(outcome=Outcome.FAILED) == [trials[2]]
    assert found(engine="transformers") == [trials[3]]
    assert found(device="board-2") == [other]
    assert len(found(model="tiny")) == 4
    assert found(model="none such") == []


def test_newest_trials_come_first(store):
    trials = [records.trial(started_unix_s=started) for started in (2.0, 3.0, 1.0)]
    store.ingest(wire.batch_of(*trials), NOW)
    assert [stored.trial.started_unix_s for stored in store.trials(TrialQuery(limit=2))] == [3.0, 2.0]


def test_trial_keeps_the_id_of_its_bytes(store):
    trial = records.trial()
    store.ingest(wire.batch_of(trial), NOW)
    (stored,) = store.trials(TrialQuery())
    assert stored.record_id == identity.record_id(Kind.TRIAL, codec.encode(trial))
    assert stored.origin == "store"


def test_trial_that_this_version_cannot_read_is_left_out(store, store_url):
    store.ingest(wire.batch_of(records.trial(), records.trial(cell="other")), NOW)
    engine = sqlalchemy.create_engine(store_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial SET schema = 99 WHERE cell = 'other'")
    engine.dispose()
    assert [stored.trial.cell for stored in store.trials(TrialQuery())] == ["tiny"]


def test_traces_come_in_the_order_asked_for_and_missing_ones_are_left_out(store):
    rail = records.channel()
    traces = [records.trace([float(number), number + 1.0], (rail, lambda _: 5.0)) for number in range(3)]
    store.ingest(wire.batch_of(*traces), NOW)
    ids = [identity.record_id(Kind.TRACE, codec.encode(trace)) for trace in traces]
    assert store.traces([ids[2], "none such", ids[0]]) == [traces[2], traces[0]]


def test_device_is_known_by_what_it_said_of_itself(store):
    store.put_facts(wire.facts(), NOW)
    store.put_status(wire.status(), NOW + 1)
    store.ingest(wire.batch_of(records.trial()), NOW + 2)
    (row,) = store.devices()
    assert row.facts == wire.facts().host
    assert row.status == wire.status()
    assert (row.first_seen_unix_s, row.last_seen_unix_s) == (NOW, NOW + 2)
    assert (row.trials, row.quarantined) == (1, 0)


def test_imported_device_has_no_presence(store):
    store.ingest(wire.batch_of(records.trial()), NOW)
    (row,) = store.devices()
    assert (row.facts, row.status) == (None, None)


def test_will_ends_its_own_session_and_is_no_sign_of_life(store):
    store.put_status(wire.status(), NOW)
    store.put_status(wire.status(presence=Presence.OFFLINE), NOW + 60)
    (row,) = store.devices()
    assert row.status is not None
    assert row.status.presence is Presence.OFFLINE
    assert row.last_seen_unix_s == NOW


def test_late_will_of_an_earlier_session_does_not_mark_a_live_one_dead(store):
    newer = wire.status(session="session-2", since_unix_s=wire.STARTED_UNIX_S + 60)
    store.put_status(newer, NOW)
    store.put_status(wire.status(presence=Presence.OFFLINE), NOW + 1)
    assert store.devices()[0].status == newer


def test_will_of_a_later_session_counts_though_its_start_was_missed(store):
    store.put_status(wire.status(), NOW)
    gone = wire.status(session="session-2", since_unix_s=wire.STARTED_UNIX_S + 60, presence=Presence.OFFLINE)
    store.put_status(gone, NOW + 1)
    assert store.devices()[0].status == gone


def test_first_word_of_a_device_may_be_its_will(store):
    store.put_status(wire.status(presence=Presence.OFFLINE), NOW)
    (row,) = store.devices()
    assert row.last_seen_unix_s is None
    assert row.first_seen_unix_s == NOW


def test_unreadable_messages_are_counted_under_their_device(store):
    for _ in range(3):
        store.quarantine(DEVICE, "a/topic", b"x", "broken", NOW)
    store.quarantine(DEVICE, "a/topic", b"y", "broken otherwise", NOW)
    store.quarantine(None, "no/topic", b"z", "not a board's", NOW)
    assert [(row.device, row.quarantined, row.last_seen_unix_s) for row in store.devices()] == [(DEVICE, 4, None)]


def test_quarantine_of_one_device_cannot_fill_the_disk(store, store_url):
    for number in range(REASONS_TOLD_APART + 20):
        store.quarantine(DEVICE, "a/topic", b"x" * 100_000, f"reason {number}\0", NOW)
    assert store.devices()[0].quarantined == REASONS_TOLD_APART + 20
    engine = sqlalchemy.create_engine(store_url)
    with engine.connect() as connection:
        reasons = connection.exec_driver_sql("SELECT reason, length(sample) FROM quarantine").all()
    engine.dispose()
    assert len(reasons) == REASONS_TOLD_APART + 1
    assert OTHER_REASONS in {reason for reason, _ in reasons}
    assert max(length for _, length in reasons) < 20_000
