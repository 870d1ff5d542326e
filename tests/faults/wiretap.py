"""A client of the broker that is no board: it listens to what boards send, and publishes whatever a test likes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from phasewatt import topics

_TIMEOUT_S = 10.0


class Heard(NamedTuple):
    """A message as it passed the broker."""

    topic: str
    payload: bytes


class Wiretap:
    """Connected under any name, that of another client too."""

    def __init__(self, port: int, client_id: str = "wiretap", listens: bool = True) -> None:
        self.batches: list[Heard] = []
        self.connects = 0
        self._ready = threading.Event()
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        client.max_queued_messages_set(0)
        client.max_inflight_messages_set(1000)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda client, *_: self._connected(client, listens)
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_message = self._heard
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert self._ready.wait(_TIMEOUT_S), "the wiretap could not connect"

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish, and wait for the broker's acknowledgement."""
        self._client.publish(topic, payload, qos=1).wait_for_publish(_TIMEOUT_S)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: paho.Client, listens: bool) -> None:
        self.connects += 1
        if listens:
            client.subscribe(f"{topics.ROOT}/+/batch/+", qos=1)
        else:
            self._ready.set()

    def _heard(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.batches.append(Heard(message.topic, bytes(message.payload)))


@contextmanager
def tapped(port: int, client_id: str = "wiretap", listens: bool = True) -> Iterator[Wiretap]:
    """A wiretap for the length of a block."""
    tap = Wiretap(port, client_id, listens)
    try:
        yield tap
    finally:
        tap.close()
