"""Ingest: boards' messages are stored, hostile ones put aside and counted, and none of them raises."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from collector.ingest import MAX_ITEMS, Ingest
from phasewatt import codec, topics
from phasewatt.messages import Presence
from phasewatt.records import Kind
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


def test_items_of_an_unknown_schema_are_rejected_by_name(ingest):
    """A newer agent learns from the receipt why nothing of it is stored."""
    items = [wire.item(seq, event, schema=codec.SCHEMA + 1) for seq, event in enumerate(wire.events(2), 1)]
    receipt = ingest.take(EVENTS, sent(wire.batch(items)))
    assert receipt.ranges == ()
    assert [rejection.seq for rejection in receipt.rejected] == [1, 2]
    assert all("upgrade" in rejection.reason for rejection in receipt.rejected)


def test_receipt_of_the_largest_refused_batch_can_be_read(ingest):
    items = [wire.item(seq, wire.events(1)[0], body=Raw(b"0")) for seq in range(1, MAX_ITEMS + 1)]
    receipt = ingest.take(EVENTS, sent(wire.batch(items)))
    packed = codec.pack(codec.encode(receipt))
    assert len(packed) <= codec.MAX_PAYLOAD_BYTES
    assert len(codec.decode(codec.unpack(packed), type(receipt)).rejected) == MAX_ITEMS


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
