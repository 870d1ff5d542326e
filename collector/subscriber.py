"""The collector's end of MQTT: what boards send goes to ingest, and receipts go back after commit.

The network's thread only puts messages into a queue; one worker takes them out, so that a slow disk never keeps the
client from answering its broker. A message that is lost here, or that the database refuses, has no receipt, and its
board sends it again.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from collector.ingest import Ingest
from collector.settings import Address, BrokerSettings
from collector.store import Store
from phasewatt import codec, topics
from phasewatt.errors import ConfigInvalid, StoreUnavailable
from phasewatt.messages import CollectorState, Presence

QUEUED_MESSAGES = 1000  # of at most MAX_PAYLOAD_BYTES each
_RETRY_S = (1, 60)
_KEEPALIVE_S = 30
_STOP_TIMEOUT_S = 60
_QOS = 1

logger = logging.getLogger(__name__)


class _Message(NamedTuple):
    topic: str
    payload: bytes


class Subscriber:
    """A connection to one broker, renewed until `stop`; `name` is this collector's among those on that broker.

    Raises:
        ConfigInvalid: a file for TLS or with the password cannot be used.
    """

    def __init__(
        self,
        address: Address,
        broker: BrokerSettings,
        name: str,
        store: Store,
        *,
        queued_messages: int = QUEUED_MESSAGES,
    ) -> None:
        self.listening = threading.Event()
        self.dropped = 0  # messages that found the queue full
        self._name = name
        self._broker = f"{address.host}:{address.port}"
        self._generation = store.generation
        self._ingest = Ingest(store)
        self._since_unix_s = time.time()
        self._queue: queue.Queue[_Message | None] = queue.Queue(queued_messages)
        self._worker = threading.Thread(target=self._work, name="ingest", daemon=True)
        self._client = client = _client(name, broker)
        client.will_set(topics.collector_state(name), self._state(Presence.OFFLINE), _QOS, retain=True)
        client.on_connect = lambda _client, _data, _flags, reason, _properties: self._connected(reason)
        client.on_connect_fail = lambda _client, _data: self._not_connected()
        client.on_disconnect = lambda _client, _data, _flags, reason, _properties: self._disconnected(reason)
        client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: self._subscribed(reasons)
        client.on_message = lambda _client, _data, message: self._received(message)
        client.connect_async(address.host, address.port, _KEEPALIVE_S)

    def start(self) -> None:
        """Connect, in threads of its own, and try again for as long as the broker is away."""
        self._worker.start()
        self._client.loop_start()

    def stop(self) -> None:
        """Finish the queue, say that this collector is offline, and disconnect."""
        self._queue.put(None)
        self._worker.join(_STOP_TIMEOUT_S)
        if self._client.is_connected():
            self._announce(Presence.OFFLINE).wait_for_publish(_KEEPALIVE_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _work(self) -> None:
        while (message := self._queue.get()) is not None:
            self._handle(message)

    def _handle(self, message: _Message) -> None:
        try:
            receipt = self._ingest.take(message.topic, message.payload)
            if receipt is not None:
                body = codec.pack(codec.encode(receipt))
                self._client.publish(topics.receipt(receipt.device), body, _QOS)
        except StoreUnavailable as error:
            logger.error("not stored, so its board will send it again: %s", error)
        except Exception:  # whatever one message meets, the stream of all must go on
            logger.exception("message on %r was not handled", message.topic)

    def _connected(self, reason: ReasonCode) -> None:
        if reason.is_failure:
            logger.error("broker %s does not let this collector in: %s", self._broker, reason)
        else:
            self._client.subscribe([(topic, _QOS) for topic in topics.from_boards()])

    def _subscribed(self, reasons: Sequence[ReasonCode]) -> None:
        """Announce itself, only now, because boards answer an online collector at once."""
        if any(reason.is_failure for reason in reasons):
            logger.error("broker %s refuses a subscription; allow this user to read %s/#", self._broker, topics.ROOT)
            return
        self._announce(Presence.ONLINE)
        self.listening.set()
        logger.info("listening to broker %s", self._broker)

    def _received(self, message: mqtt.MQTTMessage) -> None:
        # One byte too many is kept, so that ingest sees that it was too long.
        payload = bytes(message.payload[: codec.MAX_PAYLOAD_BYTES + 1])
        try:
            self._queue.put_nowait(_Message(message.topic, payload))
        except queue.Full:
            self.dropped += 1
            if self.dropped % QUEUED_MESSAGES == 1:
                logger.warning("storing falls behind: %d messages left for their boards to send again", self.dropped)

    def _not_connected(self) -> None:
        reason = sys.exc_info()[1]  # paho calls this while it handles the failure, and tells nothing of it
        logger.warning(
            "broker %s cannot be reached: %s; trying again every %d to %d s", self._broker, reason, *_RETRY_S
        )

    def _disconnected(self, reason: ReasonCode) -> None:
        self.listening.clear()
        if reason.is_failure:
            logger.warning("connection to broker %s lost: %s", self._broker, reason)

    def _announce(self, presence: Presence) -> mqtt.MQTTMessageInfo:
        return self._client.publish(topics.collector_state(self._name), self._state(presence), _QOS, retain=True)

    def _state(self, presence: Presence) -> bytes:
        state = CollectorState(
            collector=self._name,
            presence=presence,
            generation=self._generation,
            schema=codec.SCHEMA,
            since_unix_s=self._since_unix_s,
        )
        return codec.encode(state)


def _client(name: str, broker: BrokerSettings) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"phasewatt-{name}", protocol=mqtt.MQTTv311)
    client.suppress_exceptions = True  # an exception in a callback would end the network's thread
    client.on_log = lambda _client, _data, _level, text: _log_exceptions(text)
    client.reconnect_delay_set(*_RETRY_S)
    try:
        if broker.username is not None:
            client.username_pw_set(broker.username, _password(broker.password_file))
        if broker.ca_file is not None:
            client.tls_set(broker.ca_file, broker.cert_file, broker.key_file)
    except (OSError, ValueError) as error:  # among them ssl.SSLError and UnicodeDecodeError
        raise ConfigInvalid(f"broker: a file with a certificate, key or password cannot be used: {error}") from error
    return client


def _log_exceptions(text: str) -> None:
    """Keep of paho's log what nothing here tells in better words."""
    if text.startswith("Caught exception"):
        logger.error("paho: %s", text)


def _password(file: str | None) -> str | None:
    return None if file is None else Path(file).read_text(encoding="utf-8").rstrip("\r\n")
