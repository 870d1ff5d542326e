"""The embedded broker: loopback only, and gone with its context."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from collector.broker import embedded_broker
from phasewatt.errors import ConfigInvalid

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def connected(host: str, port: int) -> Iterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    accepted = threading.Event()
    client.on_connect = lambda *_: accepted.set()
    client.connect(host, port)
    client.loop_start()
    assert accepted.wait(10)
    yield client
    client.disconnect()
    client.loop_stop()


def test_largest_payload_goes_through_and_is_retained():
    payload = b"x" * 256 * 1024
    arrived = threading.Event()
    with embedded_broker(LOOPBACK, 0) as port, connected(LOOPBACK, port) as sender:
        sender.publish("a/topic", payload, qos=1, retain=True).wait_for_publish(10)
        with connected(LOOPBACK, port) as reader:
            reader.on_message = lambda client, data, message: message.payload == payload and arrived.set()
            reader.subscribe("a/#", 1)
            assert arrived.wait(10)


def test_port_is_free_again_afterwards():
    with embedded_broker(LOOPBACK, 0) as port:
        pass
    with embedded_broker(LOOPBACK, port) as again:
        assert again == port


def test_taken_port_is_one_line_with_the_remedy():
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        message = rf"127\.0\.0\.1:{port}: address already in use; give another"
        with pytest.raises(ConfigInvalid, match=message), embedded_broker(LOOPBACK, port):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_only_loopback_is_served(host):
    with pytest.raises(ConfigInvalid, match="run mosquitto"), embedded_broker(host, 0):
        pass


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_every_loopback_address_is_served(host):
    with embedded_broker(host, 0) as port, connected(host, port):
        pass
