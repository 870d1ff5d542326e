"""Ingest: boards' messages are stored, hostile ones put aside and counted, and none of them raises."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from collector.inbox import Message
from collector.ingest import GROUP_BYTES, GROUP_S, MAX_ITEMS, Ingest
from phasewatt import codec, topics
from phasewatt.errors import StoreUnavailable
from phasewatt.fields import Kind
from phasewatt.messages import Batch, Presence
from tests.fixtures import records, wire
from tests.fixtures.wire import DEVICE, EPOCH

EVENTS = topics.batch(DEVICE, Kind.EVENT)
STATUS = topics.status(DEVICE)
FACTS = topics.facts(DEVICE)


@pytest.fixture
def ingest(sqlite_store):
    return Ingest(sqlite_store, clock=lambda: 1_800_000_000.0)


def sent(message) -> bytes:
    return codec.pack(codec.encode(message))


def test_batch_is_stored_and_owed_a_receipt(ingest, sqlite_store):
    batch = wire.batch_of(*wire.events(50))
    receipt = ingest.take(EVENTS, sent(batch))
    assert receipt is not None
    assert receipt.ranges == ((1, 50),)
    assert list(sqlite_store.batches()) == [batch]


def test_uncompressed_batch_is_as_good(ingest):
    assert ingest.take(EVENTS, codec.encode(wire.batch_of(*wire.events(2)))).ranges == ((1, 2),)


def test_board_that_comes_online_learns_what_is_held(ingest, sqlite_store):
    ingest.take(EVENTS, sent(wire.batch_of(*wire.events(5))))
    receipt = ingest.take(STATUS, sent(wire.status()))
    assert receipt == sqlite_store.receipt_for(DEVICE, EPOCH)
    assert receipt.high_water == 5


def test_board_that_goes_offline_is_owed_nothing(ingest, sqlite_store):
    assert ingest.take(STATUS, sent(wire.status(presence=Presence.OFFLINE))) is None
    assert sqlite_store.devices()[0].status.presence is Presence.OFFLINE


def test_facts_are_kept(ingest, sqlite_store):
    assert ingest.take(FACTS, sent(wire.facts())) is None
    assert sqlite_store.devices()[0].facts == wire.facts().host


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def with_body(body: bytes) -> bytes:
    return codec.encode(wire.batch([wire.item(1, wire.telemetry(), body=Raw(body))]))


_BATCH = codec.encode(wire.batch_of(*wire.events(1)))
HOSTILE = {
    "nothing": (EVENTS, b""),
    "text": (EVENTS, b"hello"),
    "not an object": (EVENTS, b"[1, 2]"),
    "cut short": (EVENTS, _BATCH[:-10]),
    "two messages": (EVENTS, _BATCH + _BATCH),
    "bad UTF-8": (EVENTS, _BATCH.replace(DEVICE.encode(), b"board-\xff")),
    "NaN": (EVENTS, _BATCH.replace(b"1700000001.0", b"NaN")),
    "infinity": (EVENTS, _BATCH.replace(b"1700000001.0", b"1e999")),
    "NaN in a record": (EVENTS, with_body(b'{"a":NaN}')),
    "huge seq": (EVENTS, _BATCH.replace(b'"seq":1', b'"seq":' + b"9" * 400)),
    "seq zero": (EVENTS, _BATCH.replace(b'"seq":1', b'"seq":0')),
    "unknown field": (EVENTS, _BATCH.replace(b'"seq":1', b'"seq":1,"more":2')),
    "lone surrogate": (EVENTS, _BATCH.replace(b"session-1", b"\\ud800")),
    "deep": (EVENTS, nested(50_000)),
    "deep record": (EVENTS, with_body(nested(20_000))),
    "oversized": (EVENTS, b"x" * (codec.MAX_PAYLOAD_BYTES + 1)),
    "bomb": (EVENTS, zlib.compress(b" " * (40 * codec.MAX_INFLATED_BYTES))),
    "broken compression": (EVENTS, b"\x78\x9cnonsense"),
    "cut compression": (EVENTS, zlib.compress(_BATCH)[:-20]),
    "another device": (EVENTS, codec.encode(wire.batch_of(*wire.events(1), device="board-2"))),
    "another kind": (topics.batch(DEVICE, Kind.TRIAL), _BATCH),
    "too many items": (EVENTS, sent(wire.batch([wire.item(1, wire.events(1)[0], body=Raw(b"0"))] * (MAX_ITEMS + 1)))),
    "status as batch": (EVENTS, codec.encode(wire.status())),
    "status of another device": (STATUS, codec.encode(wire.status(device="board-2"))),
    "status of another form": (STATUS, b'{"presence":"online"}'),
    "facts of another device": (FACTS, codec.encode(wire.facts(device="board-2"))),
    "facts as text": (FACTS, b"a fine board"),
    "no leaf to publish on": (topics.receipt(DEVICE), b"{}"),
}


@pytest.mark.parametrize(("topic", "payload"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_message_is_counted_and_the_next_one_is_stored(ingest, sqlite_store, topic, payload):
    assert ingest.take(topic, payload) is None
    (row,) = sqlite_store.devices()
    assert (row.device, row.quarantined, row.last_seen_unix_s) == (DEVICE, 1, None)
    assert not list(sqlite_store.batches())
    assert ingest.take(EVENTS, _BATCH).ranges == ((1, 1),)


@pytest.mark.parametrize("topic", ["", "a/b", "phasewatt/v1/_collector/c/state", "phasewatt/v1/-/status", "\0", "+/#"])
def test_topic_of_no_board_is_put_aside_under_no_device(ingest, sqlite_store, caplog, topic):
    assert ingest.take(topic, b"{}") is None
    assert sqlite_store.devices() == []
    assert "put aside" in caplog.text


def test_items_of_a_newer_schema_are_left_to_their_board_and_counted(ingest, sqlite_store):
    """Neither stored nor rejected: a collector that is upgraded later gets them."""
    items = [wire.item(seq, event, schema=codec.SCHEMA + 1) for seq, event in enumerate(wire.events(2), 1)]
    for _ in range(3):
        receipt = ingest.take(EVENTS, sent(wire.batch([*items, wire.item(3, wire.events(3)[-1])])))
        assert (receipt.ranges, receipt.rejected) == (((3, 3),), ())
    (row,) = sqlite_store.devices()
    assert [(count.withheld, count.rejected, count.missing) for count in row.epochs] == [(2, 0, 2)]
    assert row.quarantined == 0
    ingest.take(EVENTS, sent(wire.batch_of(*wire.events(2))))
    assert [(count.withheld, count.missing) for count in sqlite_store.devices()[0].epochs] == [(0, 0)]


def test_receipt_of_the_largest_refused_batch_can_be_read(ingest):
    items = [wire.item(seq, wire.events(1)[0], body=Raw(b"0")) for seq in range(1, MAX_ITEMS + 1)]
    receipt = ingest.take(EVENTS, sent(wire.batch(items)))
    packed = codec.pack(codec.encode(receipt))
    assert len(packed) <= codec.MAX_PAYLOAD_BYTES
    assert len(codec.decode(codec.unpack(packed), type(receipt)).rejected) == MAX_ITEMS


class Failing:
    """A store that fails for transactions with certain devices, or for all."""

    def __init__(self, store, error: Exception, poison: str | None = None) -> None:
        self.store = store
        self.error = error
        self.poison = poison
        self.transactions: list[int] = []

    def take(self, entries, received_unix_s):
        self.transactions.append(len(entries))
        if self.poison is None or any(isinstance(e, Batch) and e.device == self.poison for e in entries):
            raise self.error
        return self.store.take(entries, received_unix_s)


def messages_of(*devices: str) -> list[Message]:
    batches = [wire.batch_of(*wire.events(1, device=name), device=name, epoch=f"of-{name}") for name in devices]
    return [Message(topics.batch(batch.device, Kind.EVENT), sent(batch)) for batch in batches]


def test_messages_that_wait_are_one_transaction_in_their_order(sqlite_store):
    store = Failing(sqlite_store, RuntimeError(), poison="none")
    ingest = Ingest(store, stopwatch=lambda: 0.0)
    receipts = list(ingest.take_all(messages_of("b", "a", "c", "a")))
    assert [receipt.device for receipt in receipts] == ["b", "a", "c", "a"]
    assert store.transactions == [4]


def test_group_ends_with_its_time(sqlite_store):
    store = Failing(sqlite_store, RuntimeError(), poison="none")
    ticks = iter(range(100))
    ingest = Ingest(store, stopwatch=lambda: next(ticks) * GROUP_S / 2)
    assert len(list(ingest.take_all(messages_of("a", "b", "c", "d")))) == 4
    assert store.transactions == [2, 2]


def test_group_ends_with_its_bytes(sqlite_store):
    store = Failing(sqlite_store, RuntimeError(), poison="none")
    bombs = [Message(EVENTS, zlib.compress(b" " * codec.MAX_INFLATED_BYTES)) for _ in range(4)]
    whole = wire.batch([wire.item(1, wire.events(1)[0], body=Raw(b"1" * (codec.MAX_INFLATED_BYTES - 400)))])
    large = [Message(EVENTS, sent(whole))] * (GROUP_BYTES // codec.MAX_INFLATED_BYTES + 3)
    list(Ingest(store, stopwatch=lambda: 0.0).take_all([*bombs, *large]))
    assert len(store.transactions) > 1


@pytest.mark.parametrize("error", [StoreUnavailable("of no use"), RuntimeError("a fault of ours")])
def test_poisonous_message_costs_no_other_one(sqlite_store, caplog, error):
    store = Failing(sqlite_store, error, poison="b")
    ingest = Ingest(store, stopwatch=lambda: 0.0)
    receipts = list(ingest.take_all(messages_of("a", "b", "c", "d")))
    assert [receipt.device for receipt in receipts] == ["a", "c", "d"]
    assert store.transactions == [4, 1, 1, 1, 1]
    assert ingest.trouble is None
    assert str(error) in caplog.text


def test_store_that_fails_is_told_once_and_not_tried_for_each_message(sqlite_store, caplog):
    store = Failing(sqlite_store, StoreUnavailable("disk is full"))
    ingest = Ingest(store, stopwatch=lambda: 0.0)
    for _ in range(5):
        assert list(ingest.take_all(messages_of(*"abcdefgh"))) == []
    assert store.transactions == [8, 1, 1] * 5
    assert "disk is full" in ingest.trouble
    assert caplog.text.count("disk is full") == 1
    store.error = StoreUnavailable("database is locked")
    list(ingest.take_all(messages_of("a")))
    assert caplog.text.count("database is locked") == 1
    store.poison = "none"
    assert len(list(ingest.take_all(messages_of("a")))) == 1
    assert ingest.trouble is None
    assert "stored again" in caplog.text


_TOPICS = (EVENTS, STATUS, FACTS, topics.batch(DEVICE, Kind.TRIAL))
_SEEDS = [
    codec.encode(message)
    for message in (wire.batch_of(*wire.events(2)), wire.batch_of(records.trial()), wire.status(), wire.facts())
]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A valid message with a stretch of it replaced, packed or not."""
    body = draw(st.sampled_from(_SEEDS))
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(start + 20, len(body))))
    middle = draw(st.binary(max_size=20) | st.sampled_from([b"null", b"1e308", b"-1", b"{}", b'""']))
    body = body[:start] + middle + body[end:]
    return zlib.compress(body) if draw(st.booleans()) else body


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(topic=st.sampled_from(_TOPICS) | st.text(st.characters(codec="utf-8")), payload=mangled() | st.binary())
@example(topic=EVENTS, payload=b"\x78")
def test_no_message_raises(ingest, topic, payload):
    ingest.take(topic, payload)
