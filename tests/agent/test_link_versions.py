"""MQTT 5 where a broker offers it, 3.1.1 where it does not, found out by connecting; delivery is the same over both."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from agent.broker_traits import BrokerTraits
from agent.outbox import Outbox
from collector.broker import embedded_broker
from tests.fixtures.broker import Mosquitto
from tests.fixtures.links import QUICK, running
from tests.fixtures.receipts import CollectorDouble, wait_until
from tests.fixtures.records import trial
from tests.fixtures.stand_ins import OLDER_REFUSAL, OlderBroker, SlowBroker
from tests.fixtures.wire import events, telemetry

CAP_BYTES = 64 * 1024 * 1024
HANGS_UP = b""
V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


class Where(NamedTuple):
    """Where a stand-in listens."""

    host: str
    port: int


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "state", CAP_BYTES)) as opened:
        yield opened


@pytest.fixture
def collector(mosquitto: Mosquitto) -> Iterator[CollectorDouble]:
    with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as double:
        yield double


def configured(mosquitto: Mosquitto, *lines: str) -> None:
    mosquitto.stop()
    for line in lines:
        mosquitto.configure(line)
    mosquitto.start()


def large() -> list:
    """A trial of some 50 kB that no compression makes smaller than 20 kB."""
    return [trial(traces=tuple(os.urandom(128).hex() for _ in range(200)))]


@pytest.mark.broker
@pytest.mark.parametrize("refusal", [OLDER_REFUSAL, HANGS_UP])
def test_a_broker_of_3_1_1_is_found_out_at_once_and_remembered(mosquitto, collector, outbox, refusal):
    seqs = outbox.append([*events(3), telemetry()])
    with closing(OlderBroker(mosquitto, refusal)) as older, running(older, outbox) as link:
        began_s = time.monotonic()
        assert wait_until(lambda: link.connected)
        assert time.monotonic() - began_s < 0.5
        assert link.wait_drained(10)
        assert older.asked == [5, 4]
        mosquitto.kill()
        mosquitto.start()
        assert wait_until(lambda: len(older.asked) > 2 and link.connected)
        assert set(older.asked[2:]) == {4}
    assert collector.seqs() == seqs


def test_a_broker_of_3_1_1_is_asked_again_after_a_day():
    now_s = [0.0]
    traits = BrokerTraits(lambda: now_s[0])
    traits.speaks(V311)
    assert traits.version() is V311
    now_s[0] = 86_401
    assert traits.version() is V5
    traits.speaks(V5)
    assert traits.version() is V5


@pytest.mark.broker
def test_a_broker_that_says_nothing_to_5_is_asked_in_3_1_1(mosquitto, collector, outbox):
    """Some read the rest of a CONNECT by their own rules, and wait for bytes that never come."""
    outbox.append(events(3))
    with closing(OlderBroker(mosquitto, None)) as older, running(older, outbox) as link:
        assert link.wait_drained(10)
        assert older.asked == [5, 4]


def test_the_embedded_broker_lets_a_board_in_without_delay(outbox):
    with embedded_broker("127.0.0.1", 0) as port:
        began_s = time.monotonic()
        with running(Where("127.0.0.1", port), outbox) as link:
            assert wait_until(lambda: link.connected)
            assert time.monotonic() - began_s < 1


@pytest.mark.broker
def test_a_broker_that_only_goes_away_is_not_taken_for_an_older_one(mosquitto, collector, outbox):
    """It hung up on a first CONNECT, as one that is shutting down does; in 3.1.1 it does not answer either."""
    with closing(OlderBroker(mosquitto, HANGS_UP)) as older:
        mosquitto.stop()
        with running(older, outbox, QUICK):
            assert wait_until(lambda: older.asked.count(5) > 1)


@pytest.mark.broker
@pytest.mark.parametrize("refusal", [None, OLDER_REFUSAL])
@pytest.mark.parametrize("limit", ["message_size_limit", "max_packet_size"])
def test_a_row_that_the_broker_will_not_take_holds_up_nothing(mosquitto, outbox, limit, refusal):
    configured(mosquitto, f"{limit} 20000")
    outbox.append([*events(3), trial(), *large(), trial(), *events(3), telemetry()])
    broker = mosquitto if refusal is None else OlderBroker(mosquitto, refusal)
    with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as collector, running(broker, outbox, QUICK):
        assert collector.until(lambda: collector.seqs() == [1, 2, 3, 4, 6, 7, 8, 9, 10], 20)
        assert wait_until(lambda: outbox.pending() == 1)
    if refusal is not None:
        broker.close()


@pytest.mark.broker
def test_a_row_above_the_packet_limit_is_not_sent_said_once_and_goes_when_there_is_room(mosquitto, outbox, caplog):
    configured(mosquitto, "max_packet_size 20000")
    outbox.append([*large(), *large(), *events(300, name="n" * 200), telemetry()])
    with running(mosquitto, outbox, QUICK._replace(status_interval_s=60.0)) as link:
        with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as collector:
            assert collector.until(lambda: len(collector.stored) == 301)
            time.sleep(0.5)
            assert len(collector.statuses) == 1  # the broker did not end the connection
        assert outbox.pending() == 2
        assert caplog.text.count("row 1 (trial) makes a message of") == 1
        assert "such rows wait in the outbox; raise the broker's limit on packets" in caplog.text
        configured(mosquitto, "max_packet_size 1000000")
        with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as collector:
            assert link.wait_drained(10)


def test_no_more_is_in_flight_than_the_broker_receives(outbox):
    """Receive Maximum counts what has no acknowledgement; receipts are another matter."""
    outbox.append([*events(3), trial(), telemetry()])
    with closing(SlowBroker(receive_maximum=2)) as broker, running(broker, outbox):
        for _ in range(3):  # status and facts, and then one batch for each that is acknowledged
            assert wait_until(lambda: len(broker.waiting) == 2)
            assert not wait_until(lambda: len(broker.waiting) > 2, 0.2)
            broker.acknowledge()
        assert wait_until(lambda: len(broker.waiting) == 2)


@pytest.mark.broker
def test_what_the_broker_refuses_is_said_once_with_the_remedy(mosquitto, outbox, caplog, tmp_path):
    """In MQTT 3.1.1 it acknowledges the very same messages."""
    acl = tmp_path / "acl"
    acl.write_text("topic read phasewatt/#\ntopic write phasewatt/v1/board-1/status\n")
    configured(mosquitto, f"acl_file {acl}")
    outbox.append(events(3))
    with running(mosquitto, outbox, QUICK):
        assert wait_until(lambda: "refused a message: not authorized; let this user publish" in caplog.text)
        time.sleep(1)
    assert caplog.text.count("not authorized") == 1
    assert outbox.pending() == 3


def throw_out(server: socket.socket, code: int, words: bytes) -> None:
    """A broker that a board finds to speak 5, and that lets it in then and ends the connection with a reason."""
    added = b"\x1f" + len(words).to_bytes(2, "big") + words if words else b""
    body = bytes([code, len(added)]) + added
    for farewell in (b"", b"\xe0" + bytes([len(body)]) + body):  # DISCONNECT
        peer, _ = server.accept()
        with peer:
            peer.recv(4096)  # CONNECT
            peer.sendall(b"\x20\x03\x00\x00\x00" + farewell)  # CONNACK: accepted
            while peer.recv(4096):
                pass


@pytest.mark.parametrize(
    ("code", "words", "told"),
    [
        (0x8E, b"", "session taken over; another client uses this board's name: give one of them another"),
        (0x97, b"3 GB a month", "quota exceeded: 3 GB a month; raise this user's quota at the broker"),
        (0x8B, b"", "server shutting down"),
    ],
)
def test_why_the_broker_ended_the_connection_is_told(outbox, code, words, told):
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = threading.Thread(target=throw_out, args=(server, code, words))
        broker.start()
        with running(Where(*server.getsockname()), outbox, QUICK._replace(retry_first_s=5.0, retry_max_s=5.0)) as link:
            assert wait_until(lambda: link.last_error is not None)
            assert link.last_error.endswith(f"the connection was lost ({told})")
        broker.join(5)
