"""Live telemetry: published while someone watches and not else, beside the rows that must arrive."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.connection import BrokerSettings
from agent.host import Host
from agent.link import Link
from agent.live import Audience
from agent.outbox import Outbox
from agent.telemetry import Telemeter
from phasewatt import codec, series, topics
from phasewatt.messages import Live, Watch
from tests.fixtures.links import NO_CLOCK, PATIENT
from tests.fixtures.receipts import CollectorDouble, wait_until
from tests.fixtures.stand_ins import accept_older
from tests.fixtures.wire import DEVICE, events, facts, telemetry

CAP_BYTES = 64 * 1024 * 1024
SAMPLE = telemetry(time=series.pack_times([0]), values=(series.pack("load", "1", 0.01, [0.5]),))


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def wish(for_s: float = 45.0) -> bytes:
    return codec.encode(Watch(watcher="phasewatt-watch-1", for_s=for_s))


def audience(clock: Clock | None = None) -> Audience:
    return Audience(lambda: None, clock or Clock())


def test_nobody_watches_until_someone_says_so_and_then_for_as_long_as_was_said():
    clock = Clock()
    board = audience(clock)
    assert not board.watches
    board.hear(wish(45))
    clock.now_s += 44.9
    assert board.watches
    clock.now_s += 0.2
    assert not board.watches


def test_the_longer_of_two_wishes_holds():
    clock = Clock()
    board = audience(clock)
    board.hear(wish(45))
    board.hear(wish(5))
    clock.now_s += 30
    assert board.watches


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"{}", b"[" * 900, b"\x78\x9c" * 50, b"\xff", wish()[:-1], wish() + b" " * 2000]
    + [wish().replace(b"45.0", text) for text in (b"61", b"0", b"-1", b'"45"', b"1e999", b"null")],
)
def test_what_is_no_wish_to_watch_changes_nothing(payload):
    board = audience()
    board.hear(payload)
    assert not board.watches


def test_a_sample_is_given_once_and_the_newest_takes_the_place_of_one_that_was_not_fetched():
    board = audience()
    board.hear(wish())
    board.show(SAMPLE)
    board.show(newer := telemetry())
    assert board.take() == newer
    assert board.take() is None


def test_nothing_is_owed_where_nobody_watches_or_watches_any_more():
    clock = Clock()
    board = audience(clock)
    board.show(SAMPLE)
    assert board.take() is None
    board.hear(wish(5))
    board.show(SAMPLE)
    clock.now_s += 6
    assert board.take() is None


def test_the_telemeter_shows_each_sample_while_someone_watches(tmp_path: Path):
    """One row each, of the columns that the batch has; the batch is not concerned."""
    shown = []
    outbox = Outbox.open(tmp_path, CAP_BYTES)
    board = Audience(lambda: shown.append(board.take()))
    telemeter = Telemeter(Host("board"), outbox, lambda: None, 60, 0.1, meter_names=(), audience=board)
    telemeter.start()
    time.sleep(0.35)
    assert shown == []
    board.hear(wish())
    assert wait_until(lambda: len(shown) >= 3)
    telemeter.stop()
    assert {len(sample.time.steps) for sample in shown} == {1}
    assert "cpu_busy" in {column.name for column in shown[0].values}
    assert outbox.pending() == 1
    outbox.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "state", CAP_BYTES)) as opened:
        yield opened


class Viewer:
    """Subscribed to what a board shows."""

    def __init__(self, port: int) -> None:
        self.seen: list[paho.MQTTMessage] = []
        subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="viewer")
        self.client.on_connect = lambda client, *_: client.subscribe(topics.live(DEVICE), 1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _client, _data, message: self.seen.append(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(5)

    def say(self, payload: bytes) -> None:
        self.client.publish(topics.watch(DEVICE), payload, qos=1)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def watched_link(port: int, outbox: Outbox) -> tuple[Link, Audience]:
    def shown() -> None:
        link.notify()

    board = Audience(shown)
    where = BrokerSettings(host="127.0.0.1", port=port)
    link = Link(where, outbox, facts(), lambda: NO_CLOCK, audience=board, pace=PATIENT)
    link.start()
    return link, board


@pytest.mark.broker
def test_a_watched_sample_is_published_beside_the_rows_and_is_in_no_outbox(mosquitto, outbox):
    """Garbage on the topic for watchers before it ends nothing; a receipt sent there settles nothing."""
    with (
        closing(CollectorDouble(mosquitto.host, mosquitto.port)) as collector,
        closing(Viewer(mosquitto.port)) as viewer,
    ):
        collector.answers = False
        outbox.append(events(2))
        link, board = watched_link(mosquitto.port, outbox)
        assert collector.until(lambda: bool(collector.batches))
        board.show(SAMPLE)
        for payload in (b"garbage", b"\x78\x9c" * 99, codec.encode(collector._receipt(DEVICE, outbox.epoch, [(1, 2)]))):
            viewer.say(payload)
        viewer.say(wish())
        assert wait_until(lambda: board.watches)
        board.show(SAMPLE)
        assert wait_until(lambda: bool(viewer.seen))
        assert outbox.pending() == 2
        (message,) = viewer.seen
        assert (message.qos, message.retain) == (0, False)
        assert codec.decode(codec.unpack(message.payload), Live) == Live(schema=codec.SCHEMA, telemetry=SAMPLE)
        assert len(collector.statuses) == 1  # it is still the first connection
        link.stop()


def refuse_watching(server: socket.socket, asked: list[bytes]) -> None:
    """A broker that grants what is subscribed to first, and refuses the second."""
    with accept_older(server) as peer:
        peer.sendall(b"\x20\x02\x00\x00")  # CONNACK: accepted
        received = b""
        while len(asked) < 2:
            received += peer.recv(4096) or pytest.fail("the board hung up")
            while len(received) > 2 and len(received) >= 2 + received[1]:  # remaining lengths of one byte
                packet, received = received[: 2 + received[1]], received[2 + received[1] :]
                if packet[0] == 0x82:
                    asked.append(packet)
                    peer.sendall(b"\x90\x03" + packet[2:4] + (b"\x80" if len(asked) == 2 else b"\x01"))
                if packet[0] & 0xF0 == 0x30:
                    received = b""
        time.sleep(1)


def test_a_board_that_may_not_hear_of_watchers_delivers_all_the_same(outbox, caplog):
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = threading.Thread(target=refuse_watching, args=(server, asked))
        broker.start()
        link, _ = watched_link(server.getsockname()[1], outbox)
        assert wait_until(lambda: "not authorised to read" in caplog.text)
        assert (link.connected, link.last_error) == (True, None)
        link.stop()
        broker.join(5)
    assert topics.receipt(DEVICE).encode() in asked[0]
    assert topics.watch(DEVICE).encode() in asked[1]


@pytest.mark.broker
def test_a_link_without_an_audience_does_not_ask_for_watchers(mosquitto, outbox):
    """As that of `run`, which samples no telemetry."""
    where = BrokerSettings(host=mosquitto.host, port=mosquitto.port)
    link = Link(where, outbox, facts(), lambda: NO_CLOCK, pace=PATIENT)
    link.start()
    with closing(Viewer(mosquitto.port)) as viewer:
        assert wait_until(lambda: link.connected)
        viewer.say(wish())
        time.sleep(0.3)
        assert link.connected
        assert viewer.seen == []
    link.stop()
