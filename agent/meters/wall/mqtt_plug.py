"""A smart plug or power distribution unit that publishes its power over MQTT.

Every attempt is a new client with a clean session at QoS 0: a value from before is of no use. paho's own thread is
not used, so all callbacks run in the turns that `follow` takes.
"""

from __future__ import annotations

import secrets
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from agent.meters.wall.json_fields import values_in
from agent.meters.wall.latest import Latest
from agent.meters.wall.spec import Spec, address, ca_file, password, quantities
from phasewatt.errors import ConfigInvalid, MeterUnavailable

_TURN_S = 0.2
_CONNECT_TIMEOUT_S = 5.0
_KEEPALIVE_S = 30
_FORM = "mqtt://[USER@]HOST[:PORT]/TOPIC, one topic without wildcards"


class MqttPlug:
    """See `Source`; the body is `//[USER@]HOST[:PORT]/TOPIC`."""

    keys = frozenset({"power", "energy", "energy_unit", "password_file", "ca_file"})

    def __init__(self, spec: Spec) -> None:
        parts = address(spec, _FORM)
        self._topic = unquote(parts.path[1:])
        if not self._topic or set(self._topic) & set("#+\0"):
            raise ConfigInvalid(f"external: expected {_FORM}, got {spec.body!r}")
        self._ca_file = ca_file(spec)
        self._host = parts.hostname or ""
        self._port = parts.port or (1883 if self._ca_file is None else 8883)
        self._user = None if parts.username is None else unquote(parts.username)
        self._password = password(spec, self._user)
        self.quantities = quantities(spec, (".",))
        self.silence = f"no fresh number on {self._topic}; check the topic, and how often the plug publishes"

    def follow(self, latest: Latest, wait: Callable[[float], bool]) -> None:
        """See `Source.follow`."""
        session = _Session(self._topic)
        client = self._client(session)
        try:
            while not wait(0):
                code = client.loop(_TURN_S)
                while session.inbox:
                    self._take(session.inbox.popleft(), latest)
                if session.refusal is not None or code != paho.MQTT_ERR_SUCCESS:
                    raise MeterUnavailable(session.refusal or "the connection to the broker was lost")
        finally:
            client.disconnect()
            if (sock := client.socket()) is not None:
                sock.close()

    def _take(self, message: paho.MQTTMessage, latest: Latest) -> None:
        if message.retain:
            latest.drop("a retained message, whose age is not known")
        else:
            latest.take(values_in(bytes(message.payload), self.quantities, latest))

    def _client(self, session: _Session) -> paho.Client:
        """A client that asks the broker for a connection."""
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"phasewatt-{secrets.token_hex(6)}",
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.username_pw_set(self._user, self._password)
        client.on_connect = session.on_connect
        client.on_subscribe = session.on_subscribe
        client.on_message = session.on_message
        try:
            if self._ca_file is not None:
                client.tls_set(self._ca_file)
            client.connect(self._host, self._port, _KEEPALIVE_S)
        except ssl.SSLError as error:
            raise MeterUnavailable(f"TLS failed ({error.reason or error}); check ca_file, host and port") from error
        except (OSError, ValueError) as error:
            raise MeterUnavailable(f"the broker is not reached ({error}); check host, port and network") from error
        return client


class _Session:
    """What paho's callbacks leave behind: they note, and return."""

    def __init__(self, topic: str) -> None:
        self.inbox: deque[paho.MQTTMessage] = deque()
        self.refusal: str | None = None
        self._topic = topic

    def on_connect(self, client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _: Any) -> None:
        if reason.is_failure:
            self.refusal = f"the broker refuses ({str(reason).lower()}); check user and password_file"
        else:
            client.subscribe(self._topic, qos=0)

    def on_subscribe(self, _client: Any, _userdata: Any, _mid: int, reasons: list[ReasonCode], _: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self.refusal = f"the broker does not let this user read {self._topic}; check its access list"

    def on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.inbox.append(message)
