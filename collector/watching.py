"""A connection that asks boards for live telemetry and hears it; nothing of it is stored."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode

from collector import watched
from collector.client import client_of
from collector.settings import Address, BrokerSettings
from phasewatt import topics
from phasewatt.errors import BrokerUnavailable

_ANSWER_S = 10.0  # for the broker's word that what was asked for is granted
_CONNECT_S = 5.0
_KEEPALIVE_S = 30
_QUEUED_MESSAGES = 500  # of at most MOST_BYTES each; more is dropped: what is late is worth nothing


class Came(NamedTuple):
    """A message of a board."""

    topic: str
    payload: bytes


class Watching:
    """A client of the broker under a name of its own, so that several may watch at once.

    Raises:
        ConfigInvalid: a file for TLS or with the password cannot be used.
        BrokerUnavailable: the broker cannot be reached, or does not let this user watch.
    """

    def __init__(self, address: Address, broker: BrokerSettings, devices: Sequence[str]) -> None:
        self.connected = False
        self.refusal: str | None = None  # why the broker does not let it in now
        self._watcher = f"watch-{secrets.token_hex(4)}"
        self._broker = f"broker {address.host}:{address.port}"
        self._queue: queue.Queue[Came] = queue.Queue(_QUEUED_MESSAGES)
        self._verdicts: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # None: all was granted
        wanted = [topic for device in devices or ["+"] for topic in (topics.status(device), topics.live(device))]
        self._client = client = client_of(self._watcher, broker)
        client.connect_timeout = _CONNECT_S
        client.on_connect = lambda _client, _data, _flags, reason, _properties: self._connected(reason, wanted)
        client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: self._subscribed(reasons)
        client.on_disconnect = lambda _client, _data, _flags, _reason, _properties: self._disconnected()
        client.on_message = lambda _client, _data, message: self._received(message)
        try:
            client.connect(address.host, address.port, _KEEPALIVE_S)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise BrokerUnavailable(f"{self._broker}: {why}; is it running, and is this its port?") from error
        client.loop_start()
        self._await_verdict()

    def ask(self, devices: Iterable[str]) -> None:
        """Ask boards to show what they sample."""
        for device in devices:
            self._client.publish(topics.watch(device), watched.wish(f"phasewatt-{self._watcher}"), qos=0)

    def next(self, timeout_s: float) -> Came | None:
        """The next message of a board; None if none came in time."""
        try:
            return self._queue.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None

    def close(self) -> None:
        """Disconnect; the boards go on for a moment and then end by themselves."""
        self._client.disconnect()
        self._client.loop_stop()

    def _await_verdict(self) -> None:
        try:
            refusal = self._verdicts.get(timeout=_ANSWER_S)
        except queue.Empty:
            refusal = f"no answer in {_ANSWER_S:.0f} s; is it an MQTT broker?"
        if refusal is not None:
            self.close()
            raise BrokerUnavailable(f"{self._broker}: {refusal}")

    def _connected(self, reason: ReasonCode, wanted: Sequence[str]) -> None:
        if reason.is_failure:
            self._refused(f"refused: {str(reason).lower()}; check user name, password and access list")
        else:
            self._client.subscribe([(topic, 1) for topic in wanted])

    def _subscribed(self, reasons: Sequence[ReasonCode]) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused(f"allow this user to read {topics.ROOT}/+/status and /live")
            return
        self.connected = True
        self.refusal = None
        self._verdicts.put(None)

    def _refused(self, words: str) -> None:
        self.refusal = f"{self._broker}: {words}"
        self._verdicts.put(words)

    @property
    def trouble(self) -> str | None:
        """Why nothing comes now, as the broker says it or else in our words; None: the connection stands."""
        if self.connected:
            return None
        return self.refusal or "the connection to the broker is lost; trying again"

    def _disconnected(self) -> None:
        self.connected = False

    def _received(self, message: mqtt.MQTTMessage) -> None:
        # One byte too many is kept, so that it is seen to be too long.
        came = Came(message.topic, bytes(message.payload[: watched.MOST_BYTES + 1]))
        if not self._queue.full():
            self._queue.put_nowait(came)
