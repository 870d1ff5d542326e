"""An MQTT client as the collector's parts use it, let in as the settings say.

It speaks MQTT 5 where the broker does, for the reasons that 5 gives, and 3.1.1 elsewhere. Nothing rests on 5.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from collector.settings import BrokerSettings
from phasewatt import codec
from phasewatt.errors import ConfigInvalid

RETRY_S = (1, 60)
_ANSWER_S = 3.0  # one of 3.1.1 may wait for more bytes, where it reads a longer CONNECT by its own rules
_REMEMBERED_S = 86_400.0  # that a broker speaks 3.1.1 alone: it may be upgraded, or be another by then
_IN_FLIGHT = 20  # messages without the broker's acknowledgement, where it names no smaller number
_UNSUPPORTED_VERSION = 132
_PACKET_BYTES = 16  # around topic and payload, at most

logger = logging.getLogger(__name__)


class Client(mqtt.Client):
    """A client that asks its broker, before each connection, which MQTT it speaks and how much it takes at once.

    paho settles both before it connects, and can change neither when the answer comes.
    """

    def __init__(self, name: str, broker: BrokerSettings) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv311)
        self._name = name
        self._settings = broker
        self._older_until_s = float("-inf")
        self._told: set[str] = set()
        self._packet_bytes: int | None = None  # the longest that the broker takes; None: it names no limit
        self.on_publish = lambda _client, _data, _mid, reason, _properties: self._acknowledged(reason)
        let_in(self, broker)

    def reconnect(self) -> MQTTErrorCode:
        """Connect, in the newest MQTT that the broker speaks."""
        newest = time.monotonic() >= self._older_until_s
        offer = _Probe(self._name, self._settings).offer(self.host, self.port) if newest else None
        if newest and offer is None:
            logger.debug("broker %s:%d speaks MQTT 3.1.1", self.host, self.port)
            self._older_until_s = time.monotonic() + _REMEMBERED_S
        # paho has no setter for it.
        self._protocol = MQTTProtocolVersion.MQTTv311 if offer is None else MQTTProtocolVersion.MQTTv5
        self._clean_start = offer is not None
        # paho holds back what is more, but does not read the broker's own bound.
        self._max_inflight_messages = min(_IN_FLIGHT, getattr(offer, "ReceiveMaximum", _IN_FLIGHT))
        self._packet_bytes = getattr(offer, "MaximumPacketSize", None)
        return super().reconnect()

    def payload_bytes(self, topic: str) -> int:
        """The longest payload on `topic` that broker and boards take."""
        if self._packet_bytes is None:
            return codec.MAX_PAYLOAD_BYTES
        return min(codec.MAX_PAYLOAD_BYTES, max(1, self._packet_bytes - _PACKET_BYTES - len(topic)))

    def _acknowledged(self, reason: ReasonCode) -> None:
        if reason.is_failure and str(reason) not in self._told:
            self._told.add(str(reason))
            logger.warning(
                "broker %s:%d refused a message: %s; check its access list and its limits",
                *(self.host, self.port, str(reason).lower()),
            )


class _Probe:
    """A connection in MQTT 5 that is given up once the broker has answered."""

    def __init__(self, name: str, broker: BrokerSettings) -> None:
        self._answer: Properties | None = None
        self._over = False
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{name}-asks",  # the name itself may still be connected
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _ANSWER_S
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        let_in(client, broker)

    def offer(self, host: str, port: int) -> Properties | None:
        """What the broker says of itself in MQTT 5, also where it refuses this user; None: it does not speak it."""
        client = self._client
        try:
            client.connect(host, port)
            deadline_s = time.monotonic() + _ANSWER_S
            while not self._over and (left_s := deadline_s - time.monotonic()) > 0:
                client.loop(left_s)
            client.disconnect()
        finally:
            if (sock := client.socket()) is not None:
                sock.close()
            # It holds descriptors, and would live on in a circle with this probe.
            client.on_connect = client.on_disconnect = None
        return self._answer

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, answer: Properties | None) -> None:
        self._over = True
        if reason.value != _UNSUPPORTED_VERSION:
            self._answer = answer

    def _disconnected(self, *_: Any) -> None:
        self._over = True


def client_of(name: str, broker: BrokerSettings) -> Client:
    """A client named phasewatt-`name`, not connected yet, whose thread no exception in a callback ends.

    Raises:
        ConfigInvalid: a file for TLS or with the password cannot be used.
    """
    client = Client(f"phasewatt-{name}", broker)
    client.suppress_exceptions = True  # an exception in a callback would end the network's thread
    client.on_log = lambda _client, _data, _level, text: _log_exceptions(text)
    client.reconnect_delay_set(*RETRY_S)
    return client


def let_in(client: mqtt.Client, broker: BrokerSettings) -> None:
    """Give `client` what the broker lets it in for.

    Raises:
        ConfigInvalid: a file for TLS or with the password cannot be used.
    """
    try:
        if broker.username is not None:
            client.username_pw_set(broker.username, _password(broker.password_file))
        if broker.ca_file is not None:
            client.tls_set(broker.ca_file, broker.cert_file, broker.key_file)
    except (OSError, ValueError) as error:  # among them ssl.SSLError and UnicodeDecodeError
        raise ConfigInvalid(f"broker: a file with a certificate, key or password cannot be used: {error}") from error


def _log_exceptions(text: str) -> None:
    """Keep of paho's log what nothing here tells in better words."""
    if text.startswith("Caught exception"):
        logger.error("paho: %s", text)


def _password(file: str | None) -> str | None:
    return None if file is None else Path(file).read_text(encoding="utf-8").rstrip("\r\n")
