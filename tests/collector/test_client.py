"""The collector's client over MQTT 5 and 3.1.1: it finds out by itself, and works the same over both."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from collector.client import Client, client_of
from collector.settings import BrokerSettings
from tests.fixtures.broker import Mosquitto
from tests.fixtures.receipts import wait_until
from tests.fixtures.stand_ins import OLDER_REFUSAL, OlderBroker, SlowBroker

pytestmark = pytest.mark.broker


class Heard:
    """A client that hears its own messages."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.messages: list[bytes] = []
        self.connects = 0
        self.ready = threading.Event()
        client.on_connect = lambda *_: self._connected()
        client.on_subscribe = lambda *_: self.ready.set()
        client.on_disconnect = lambda *_: self.ready.clear()
        client.on_message = lambda _client, _data, message: self.messages.append(message.payload)

    def _connected(self) -> None:
        self.connects += 1
        self.client.subscribe("test", qos=1)


@contextmanager
def connected(host: str, port: int) -> Iterator[Heard]:
    heard = Heard(client_of("centre", BrokerSettings()))
    heard.client.connect_async(host, port)
    heard.client.loop_start()
    try:
        assert heard.ready.wait(10)
        yield heard
    finally:
        heard.client.disconnect()
        heard.client.loop_stop()


def sent_and_heard(heard: Heard, count: int) -> bool:
    before = len(heard.messages)
    for number in range(count):
        heard.client.publish("test", bytes([number]), qos=1)
    return wait_until(lambda: len(heard.messages) == before + count)


@pytest.mark.parametrize("refusal", [OLDER_REFUSAL, b""])
def test_a_broker_of_3_1_1_is_found_out_at_once_and_remembered(mosquitto: Mosquitto, refusal: bytes) -> None:
    with closing(OlderBroker(mosquitto, refusal)) as older:
        began_s = time.monotonic()
        with connected(older.host, older.port) as heard:
            assert time.monotonic() - began_s < 0.5
            assert older.asked == [5, 4]
            assert sent_and_heard(heard, 3)
            mosquitto.kill()
            mosquitto.start()
            assert wait_until(lambda: heard.connects == 2 and heard.ready.is_set())
            assert set(older.asked[2:]) == {4}
            assert sent_and_heard(heard, 3)


def test_a_broker_of_5_is_spoken_to_in_5_and_over_restarts(mosquitto: Mosquitto) -> None:
    with connected(mosquitto.host, mosquitto.port) as heard:
        assert heard.client.protocol == 5
        assert sent_and_heard(heard, 3)
        mosquitto.kill()
        mosquitto.start()
        assert wait_until(lambda: heard.connects == 2 and heard.ready.is_set())
        assert heard.client.protocol == 5
        assert sent_and_heard(heard, 3)


def test_no_more_is_in_flight_than_the_broker_receives() -> None:
    with closing(SlowBroker(receive_maximum=2)) as broker, connected(broker.host, broker.port) as heard:
        for number in range(5):
            heard.client.publish("test", bytes([number]), qos=1)
        for _ in range(3):
            assert wait_until(lambda: len(broker.waiting) == 2)
            assert not wait_until(lambda: len(broker.waiting) > 2, 0.2)
            broker.acknowledge()


def test_what_the_broker_refuses_is_said_once(mosquitto: Mosquitto, tmp_path, caplog) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read test\n")
    mosquitto.stop()
    mosquitto.configure(f"acl_file {acl}")
    mosquitto.start()
    with connected(mosquitto.host, mosquitto.port) as heard:
        for _ in range(3):
            heard.client.publish("test", b"", qos=1).wait_for_publish(10)
        assert wait_until(lambda: "refused a message: not authorized; check its access list" in caplog.text)
        assert caplog.text.count("not authorized") == 1
        assert heard.messages == []


def test_a_broker_that_lets_nobody_in_is_told_by_its_reason(mosquitto: Mosquitto) -> None:
    mosquitto.stop()
    mosquitto.configure("allow_anonymous false")
    mosquitto.start()
    client = client_of("centre", BrokerSettings())
    reasons: list[str] = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: reasons.append(str(reason))
    client.connect_async(mosquitto.host, mosquitto.port)
    client.loop_start()
    assert wait_until(lambda: bool(reasons))
    client.disconnect()
    client.loop_stop()
    assert reasons[0] == "Not authorized"
