"""The subscriber on real brokers: receipts after commit, and nothing that a board or a disk does ends the stream."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from collector.broker import embedded_broker
from collector.settings import Address, BrokerSettings
from collector.store import DeviceRow, Entry, Store
from collector.subscriber import Subscriber
from phasewatt import codec, topics
from phasewatt.errors import ConfigInvalid, StoreUnavailable
from phasewatt.fields import Kind
from phasewatt.messages import Batch, CollectorState, Presence, Receipt
from tests.fixtures import wire
from tests.fixtures.wire import DEVICE, EPOCH

NAME = "centre-1"
TIMEOUT_S = 20.0
EVENTS = topics.batch(DEVICE, Kind.EVENT)


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.broker)])
def address(request: pytest.FixtureRequest) -> Iterator[Address]:
    """A running broker of each sort."""
    if request.param == "mosquitto":
        broker = request.getfixturevalue("mosquitto")
        yield Address(False, broker.host, broker.port)
    else:
        with embedded_broker("127.0.0.1", 0) as port:
            yield Address(True, "127.0.0.1", port)


class Board:
    """A board's end of the wire."""

    def __init__(self, address: Address) -> None:
        self.receipts: queue.Queue[Receipt] = queue.Queue()
        self.states: queue.Queue[CollectorState] = queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{DEVICE}-{time.monotonic_ns()}")
        subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe(
            [(topics.receipt(DEVICE), 1), (topics.collector_state("+"), 1)]
        )
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda client, data, message: self._received(message)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect(address.host, address.port)
        self.client.loop_start()
        assert subscribed.wait(TIMEOUT_S)

    def _received(self, message: mqtt.MQTTMessage) -> None:
        body = codec.unpack(bytes(message.payload))
        if message.topic == topics.receipt(DEVICE):
            self.receipts.put(codec.decode(body, Receipt))
        else:
            self.states.put(codec.decode(body, CollectorState))

    def send(self, batch: Batch) -> None:
        self.publish(topics.batch(DEVICE, batch.kind), codec.pack(codec.encode(batch)))

    def publish(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1)

    def receipt(self) -> Receipt:
        return self.receipts.get(timeout=TIMEOUT_S)

    def until(self, presence: Presence) -> CollectorState:
        while (state := self.states.get(timeout=TIMEOUT_S)).presence is not presence:
            pass
        return state


@contextlib.contextmanager
def connected(address: Address) -> Iterator[Board]:
    board = Board(address)
    yield board
    board.client.disconnect()
    board.client.loop_stop()


@pytest.fixture
def board(address: Address) -> Iterator[Board]:
    with connected(address) as board:
        yield board


@contextlib.contextmanager
def listening(address: Address, store: Store, **options) -> Iterator[Subscriber]:
    options = {"broker": BrokerSettings(), **options}
    subscriber = Subscriber(address, name=NAME, store=store, **options)
    subscriber.start()
    try:
        assert subscriber.listening.wait(TIMEOUT_S)
        yield subscriber
    finally:
        subscriber.stop()


def one_event(seq: int) -> Batch:
    return wire.batch([wire.item(seq, wire.events(seq)[-1])])


def eventually(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


class Gated:
    """A store that stores while `gate` is set, and raises what it is given for batches that hold that seq."""

    def __init__(self, store: Store, faults: dict[int, Exception] | None = None) -> None:
        self.store = store
        self.generation = store.generation
        self.jobs = store.jobs
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.faults = faults or {}
        self.breaks = threading.Event()  # every write fails

    def take(self, entries: Sequence[Entry], received_unix_s: float) -> list[Receipt | None]:
        self.reached.set()
        assert self.gate.wait(TIMEOUT_S)
        if self.breaks.is_set():
            raise StoreUnavailable("disk is full")
        for entry in entries:
            if isinstance(entry, Batch) and entry.items[0].seq in self.faults:
                raise self.faults[entry.items[0].seq]
        return self.store.take(entries, received_unix_s)

    def devices(self) -> list[DeviceRow]:
        return self.store.devices()


def test_receipt_comes_back_for_what_is_stored(address, board, sqlite_store):
    with listening(address, sqlite_store):
        board.send(wire.batch_of(*wire.events(30)))
        receipt = board.receipt()
        assert (receipt.ranges, receipt.generation) == (((1, 30),), sqlite_store.generation)
        assert sqlite_store.receipt_for(DEVICE, EPOCH).high_water == 30


def test_board_that_comes_online_is_told_what_is_held(address, board, sqlite_store):
    sqlite_store.ingest(wire.batch_of(*wire.events(4)), 1.0)
    with listening(address, sqlite_store):
        board.publish(topics.status(DEVICE), codec.encode(wire.status()))
        assert board.receipt() == sqlite_store.receipt_for(DEVICE, EPOCH)


def test_facts_published_before_the_collector_came_are_found_retained(address, board, sqlite_store):
    board.client.publish(topics.facts(DEVICE), codec.encode(wire.facts()), 1, retain=True).wait_for_publish(TIMEOUT_S)
    with listening(address, sqlite_store):
        assert eventually(lambda: [row.facts for row in sqlite_store.devices()] == [wire.facts().host])


def test_state_is_retained_and_says_offline_in_the_end(address, sqlite_store):
    with listening(address, sqlite_store), connected(address) as board:
        state = board.until(Presence.ONLINE)
        assert (state.collector, state.generation) == (NAME, sqlite_store.generation)
    with connected(address) as board:
        assert board.states.get(timeout=TIMEOUT_S).presence is Presence.OFFLINE


def test_hostile_messages_do_not_stop_the_stream(address, board, sqlite_store):
    with listening(address, sqlite_store):
        for payload in (b"", b"\xff" * 1000, b"[" * 200_000, b"x" * (codec.MAX_PAYLOAD_BYTES + 10)):
            board.publish(EVENTS, payload)
        board.publish(topics.status("board-2"), codec.encode(wire.status()))
        board.send(wire.batch_of(*wire.events(1)))
        assert board.receipt().ranges == ((1, 1),)
    quarantined = {row.device: row.quarantined for row in sqlite_store.devices()}
    assert quarantined == {DEVICE: 4, "board-2": 1}


@pytest.mark.parametrize("fault", [StoreUnavailable("disk is full"), RuntimeError("a fault of ours")])
def test_batch_that_was_not_stored_has_no_receipt_and_the_next_one_has(address, board, sqlite_store, fault, caplog):
    gated = Gated(sqlite_store, {1: fault})
    with listening(address, gated):
        board.send(one_event(1))
        board.send(one_event(2))
        assert board.receipt().ranges == ((2, 2),)
        gated.faults.clear()
        board.send(one_event(1))
        assert board.receipt().ranges == ((1, 1),)
    assert str(fault) in caplog.text


def test_full_queue_drops_and_counts_and_what_is_sent_again_is_stored(address, board, sqlite_store):
    gated = Gated(sqlite_store)
    with listening(address, gated, queued_messages=5) as subscriber:
        gated.gate.clear()
        board.send(one_event(1))
        assert gated.reached.wait(TIMEOUT_S)
        for seq in range(2, 21):
            board.send(one_event(seq))
        # One is held at the gate and five wait in the inbox.
        assert eventually(lambda: subscriber.dropped == 14)
        gated.gate.set()
        assert [board.receipt().ranges for _ in range(6)] == [((seq, seq),) for seq in range(1, 7)]
        board.send(wire.batch([item for seq in range(1, 21) for item in one_event(seq).items]))
        assert board.receipt().ranges == ((1, 20),)


def test_stopping_finishes_what_was_taken(address, board, sqlite_store):
    gated = Gated(sqlite_store)
    with listening(address, gated) as subscriber:
        gated.gate.clear()
        board.send(one_event(1))
        assert gated.reached.wait(TIMEOUT_S)
        for seq in range(2, 11):
            board.send(one_event(seq))
        assert eventually(lambda: len(subscriber.inbox) == 9)
        threading.Timer(0.2, gated.gate.set).start()
    assert sqlite_store.receipt_for(DEVICE, EPOCH).high_water == 10


def test_connection_that_carries_nothing_is_renewed_where_boards_hold_records(address, board, sqlite_store, caplog):
    """Boards say that they hold records, none come, and the connection itself shows no fault."""
    sqlite_store.put_status(wire.status(pending=3), 1.0)
    with listening(address, sqlite_store, silence_s=0.2) as subscriber:
        assert eventually(lambda: "connecting anew" in caplog.text)
        assert f"such as {DEVICE}" in caplog.text
        assert eventually(lambda: not subscriber.listening.is_set())
        assert eventually(subscriber.listening.is_set)
        board.send(one_event(1))
        assert board.receipt().ranges == ((1, 1),)


def test_silence_of_boards_that_hold_nothing_is_no_fault(address, sqlite_store, caplog):
    sqlite_store.put_status(wire.status(pending=0), 1.0)
    with listening(address, sqlite_store, silence_s=0.2) as subscriber:
        time.sleep(2.5)
        assert subscriber.listening.is_set()
    assert "connecting anew" not in caplog.text


def test_status_that_the_broker_kept_is_no_sign_of_life(address, board, sqlite_store):
    board.client.publish(topics.status(DEVICE), codec.encode(wire.status()), 1, retain=True).wait_for_publish(TIMEOUT_S)
    with listening(address, sqlite_store):
        assert board.receipt().ranges == ()
        (row,) = sqlite_store.devices()
        assert (row.status, row.last_seen_unix_s) == (wire.status(), None)


@pytest.mark.broker
def test_broker_that_restarts_is_found_again(mosquitto, sqlite_store):
    address = Address(False, mosquitto.host, mosquitto.port)
    with listening(address, sqlite_store) as subscriber:
        mosquitto.kill()
        assert eventually(lambda: not subscriber.listening.is_set())
        mosquitto.start()
        with connected(address) as board:
            board.until(Presence.ONLINE)
            board.send(wire.batch_of(*wire.events(1)))
            assert board.receipt().ranges == ((1, 1),)


@pytest.mark.broker
def test_broker_may_come_later_than_the_collector(mosquitto, sqlite_store, caplog):
    mosquitto.stop()
    subscriber = Subscriber(Address(False, mosquitto.host, mosquitto.port), BrokerSettings(), NAME, sqlite_store)
    subscriber.start()
    assert eventually(lambda: "cannot be reached: [Errno 111] Connection refused" in caplog.text)
    mosquitto.start()
    assert subscriber.listening.wait(TIMEOUT_S)
    subscriber.stop()


def test_stopping_does_not_wait_for_a_broker_that_is_not_there(sqlite_store):
    subscriber = Subscriber(Address(False, "127.0.0.1", 1), BrokerSettings(), NAME, sqlite_store)
    subscriber.start()
    started_s = time.monotonic()
    subscriber.stop()
    assert time.monotonic() - started_s < 5


@pytest.mark.broker
def test_tls_with_the_authority_of_the_settings(mosquitto_tls, certificates, sqlite_store):
    address = Address(False, mosquitto_tls.host, mosquitto_tls.port)
    with listening(address, sqlite_store, broker=BrokerSettings(ca_file=str(certificates.ca_path))):
        pass


@pytest.mark.parametrize("content", [b"no certificate", b"\xff"])
def test_certificate_that_is_none_is_one_line(tmp_path, sqlite_store, content):
    file = tmp_path / "a.pem"
    file.write_bytes(content)
    with pytest.raises(ConfigInvalid, match="cannot be used"):
        Subscriber(Address(False, "127.0.0.1", 1), BrokerSettings(ca_file=str(file)), NAME, sqlite_store)


def test_password_that_is_no_text_is_one_line(tmp_path, sqlite_store):
    file = tmp_path / "password"
    file.write_bytes(b"\xff")
    broker = BrokerSettings(username="u", password_file=str(file))
    with pytest.raises(ConfigInvalid, match="cannot be used"):
        Subscriber(Address(False, "127.0.0.1", 1), broker, NAME, sqlite_store)
