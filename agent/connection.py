"""One MQTT connection from beginning to end: the only file that makes paho's clients.

MQTT 5 is asked for first, and what it says is respected and told; a broker that does not speak it is asked again, at
once, in 3.1.1. Nothing here needs 5 to be right. A broker that is not known is asked under another name and without a
last will: one of 3.1.1 that reads a longer CONNECT by its own rules waits for bytes that never come.

Every attempt is a new client with a clean session. So nothing survives in paho's memory or the broker's, where
one message that a broker will not take would be sent again and again. paho's own thread is not used: the caller
takes turns, and all callbacks run inside of them.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import time
from collections import deque
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.broker_traits import V5, V311, BrokerTraits
from agent.broker_words import explained, in_words, of_tls
from phasewatt import topics
from phasewatt.fields import Label, Positive, Record

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5.0
_IN_FLIGHT = 20  # messages without the broker's acknowledgement; paho holds back what is more, but knows no other bound
_PACKET_BYTES = 16  # around topic and payload, at most
_UNSUPPORTED_VERSION = 132
_PATIENCE_S = 3.0  # with a broker that does not answer in MQTT 5, before it is asked in 3.1.1


class Tls(Record, frozen=True):
    """Files for TLS; without `ca_path` the system's authorities are trusted."""

    ca_path: str | None = None
    cert_path: str | None = None  # of this board; None: the password is its proof
    key_path: str | None = None


class BrokerSettings(Record, frozen=True):
    """Where the broker is, and as whom to connect."""

    host: Label
    port: Positive = 1883
    tls: Tls | None = None
    username: Label | None = None
    password: Label | None = None
    keepalive_s: Positive = 60

    def __repr__(self) -> str:
        """Without the password: this is what logs show."""
        scheme = "mqtt" if self.tls is None else "mqtts"
        return f"{scheme}://{self.host}:{self.port}"


class Message(NamedTuple):
    """A topic, what is published there, and whether the broker keeps it."""

    topic: str
    payload: bytes
    retain: bool = False


class Bell:
    """Ends another thread's wait early."""

    def __init__(self) -> None:
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)

    def fileno(self) -> int:
        """What `select` waits for."""
        return self._inner.fileno()

    def ring(self) -> None:
        """End the wait that is going on, or the next one."""
        with contextlib.suppress(OSError):  # it rings already, or it was closed
            self._outer.send(b"\0")

    def answer(self) -> None:
        """Stop the ringing."""
        with contextlib.suppress(BlockingIOError):
            self._inner.recv(4096)

    def wait(self, timeout_s: float) -> None:
        """Wait until it rings, for `timeout_s` at most."""
        select.select([self], [], [], timeout_s)
        self.answer()

    def close(self) -> None:
        """End all use."""
        self._inner.close()
        self._outer.close()


class _Try(NamedTuple):
    """How a broker is asked for a connection."""

    version: MQTTProtocolVersion
    only_asks: bool = False


class Connection:
    """A connection that is being made (`accepted` is False), stands, or is over (`ended` says why).

    `traits` outlive it: what is known of this broker from connections before.
    """

    def __init__(
        self, settings: BrokerSettings, client_id: str, will: Message | None, traits: BrokerTraits | None = None
    ) -> None:
        self.accepted = False
        self.granted = False  # whether it may read a topic that it needs
        self.answers: dict[str, bool] = {}  # by topic, whether its subscription was granted; not yet: not there
        self.ended: str | None = None
        self.received: deque[Message] = deque()
        self.payload_bytes: int | None = None  # the longest that it carries; None: the broker names no limit
        self._settings = settings
        self._client_id = client_id
        self._will = will
        self._traits = traits or BrokerTraits()
        self._asked: dict[int, tuple[str, bool]] = {}  # by packet id, topics, and whether the board needs them
        self._outgoing: deque[Message] = deque()
        self._in_flight: set[int] = set()  # packet ids
        self._most_in_flight = _IN_FLIGHT
        self._try = _Try(self._traits.version(), only_asks=not self._traits.is_known and will is not None)
        self._next_try: _Try | None = None
        self._next_try_s = float("inf")
        self._tls_failure: str | None = None  # in words
        self._client = self._made()

    def _made(self) -> paho.Client:
        settings, will = self._settings, None if self._try.only_asks else self._will
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{self._client_id}-asks" if self._try.only_asks else self._client_id,
            clean_session=None if self._try.version is V5 else True,
            protocol=self._try.version,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.username_pw_set(settings.username, settings.password)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_log = self._on_log
        return client

    def open(self) -> None:
        """Ask the broker for a connection; blocks for some seconds at most, and ends at once where it fails."""
        settings = self._settings
        try:
            if settings.tls is not None:
                self._client.tls_set(settings.tls.ca_path, settings.tls.cert_path, settings.tls.key_path)
            self._client.connect(settings.host, settings.port, settings.keepalive_s)
            sock: Any = self._client.socket()
            if sock is not None:  # else each of several short messages waits for an answer
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._try.version is V5:
                self._next_try_s = time.monotonic() + _PATIENCE_S
        except (OSError, ValueError) as error:
            self.end(explained(error, _CONNECT_TIMEOUT_S))

    def subscribe(self, topic: str, needed: bool = True) -> None:
        """Ask for the messages of `topic`, which then come into `received`; one that is `needed` must be granted."""
        _, packet_id = self._client.subscribe(topic, qos=1)
        if packet_id is not None:
            self._asked[packet_id] = topic, needed

    def unsubscribe(self, topic: str) -> None:
        """Ask for no more messages of `topic`."""
        self._client.unsubscribe(topic)

    @property
    def idle(self) -> bool:
        """Whether the broker acknowledged all that was published; that is no receipt."""
        return not self._outgoing and not self._in_flight

    def publish(self, message: Message) -> None:
        """Hand a message to the network, QoS 1, as soon as the broker takes one more."""
        self._outgoing.append(message)
        self._hand_on()

    def _hand_on(self) -> None:
        while self._outgoing and len(self._in_flight) < self._most_in_flight:
            message = self._outgoing.popleft()
            sent = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
            self._in_flight.add(sent.mid)

    def offer(self, message: Message) -> None:
        """Hand a message to the network, QoS 0, unless others still wait for it: then it is left out."""
        if not self._client.want_write():
            self._client.publish(message.topic, message.payload, qos=0, retain=message.retain)

    def turn(self, timeout_s: float, bell: Bell) -> None:
        """Wait for the network, for the bell or for the timeout, and do what came up."""
        left_s = self._next_try_s - time.monotonic()
        if left_s <= 0:
            self._next_try = _Try(V311)
        if self._next_try is not None:
            self._begin_again(self._next_try)
            return
        timeout_s = min(timeout_s, left_s)
        sock: Any = self._client.socket()
        if sock is None:
            self.end("the connection was lost")
            return
        # TLS may hold bytes that no select will tell of.
        ready = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        writers = [sock] if self._client.want_write() else []
        readable, writable, _ = select.select([sock, bell], writers, [], 0.0 if ready else timeout_s)
        if bell in readable:
            bell.answer()
        if ready or sock in readable:
            self._client.loop_read()
        if writable:
            self._client.loop_write()
        self._client.loop_misc()

    def leave(self) -> None:
        """End the connection in peace: the broker forgets the last will."""
        self._client.disconnect()

    def close(self) -> None:
        """End the connection at once; unless it was left before, the broker publishes the last will."""
        client = self._client
        if (sock := client.socket()) is not None:
            sock.close()
        # The client holds descriptors, and would live on in a circle with this connection.
        client.on_connect = client.on_subscribe = client.on_publish = client.on_message = client.on_disconnect = None
        client.on_log = None

    def _begin_again(self, by: _Try) -> None:
        logger.debug("%s: asking again, MQTT version %d", self._settings, by.version)
        self._try, self._next_try, self._next_try_s = by, None, float("inf")
        self.leave()
        self.close()
        self._client = self._made()
        self.open()

    def end(self, reason: str) -> None:
        """Note why the connection is over; the first reason stays."""
        self.ended = self.ended or f"broker {self._settings.host}:{self._settings.port}: {reason}"

    def _on_connect(
        self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._next_try_s = float("inf")
        if reason.value == _UNSUPPORTED_VERSION and self._try.version is V5:
            self._next_try = _Try(V311)
        elif self._try.only_asks:  # it may refuse that name, but it speaks
            self._traits.speaks(V5)
            self._next_try = _Try(V5)
        elif reason.is_failure:
            self.end(f"refused this agent: {str(reason).lower()}; check user name, password and access list")
        else:
            self.accepted = True
            self._traits.speaks(self._try.version)
            self._most_in_flight = min(_IN_FLIGHT, getattr(properties, "ReceiveMaximum", _IN_FLIGHT))
            packet_bytes: int | None = getattr(properties, "MaximumPacketSize", None)
            if packet_bytes is not None:
                self.payload_bytes = max(0, packet_bytes - _PACKET_BYTES - topics.LONGEST)

    def _on_subscribe(self, _client: Any, _userdata: Any, packet_id: int, reasons: list[ReasonCode], _: Any) -> None:
        topic, needed = self._asked.pop(packet_id, ("", False))
        granted = self.answers[topic] = not any(reason.is_failure for reason in reasons)
        if granted:
            self.granted = self.granted or needed
        elif needed:
            self.end("not authorised to read this board's receipts; check the broker's access list")
        elif self._traits.is_news(f"reading {topic}"):
            logger.warning("not authorised to read %s; check the broker's access list, or do without", topic)

    def _on_publish(
        self, _client: Any, _userdata: Any, packet_id: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._in_flight.discard(packet_id)
        self._hand_on()
        if reason.is_failure and self._traits.is_news(f"publishing {reason}"):
            logger.warning("%s refused a message: %s", self._settings, in_words(reason, properties))

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.received.append(Message(message.topic, bytes(message.payload), message.retain))

    def _on_disconnect(
        self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._next_try is not None or not reason.is_failure:  # else it was this side that left
            return
        if self._try.version is V5 and not self.accepted and self.ended is None:
            self._next_try = _Try(V311)  # it hung up on a CONNECT that it may not have understood
        else:
            self.end(self._tls_failure or f"the connection was lost ({in_words(reason, properties)})")

    def _on_log(self, _client: Any, _userdata: Any, _level: Any, message: str) -> None:
        """Keep what TLS said: a broker refuses a certificate after the handshake, and paho tells of it here alone."""
        if message.startswith("failed to receive on socket"):
            self._tls_failure = of_tls(message) or self._tls_failure
