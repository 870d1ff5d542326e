"""One MQTT connection from beginning to end: the only file that knows paho.

Every attempt is a new client with a clean session. So nothing survives in paho's memory or the broker's, where
one message that a broker will not take would be sent again and again. paho's own thread is not used: the caller
takes turns, and all callbacks run inside of them.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections import deque
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from phasewatt.records import Label, Positive, Record

_CONNECT_TIMEOUT_S = 5.0


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


class Connection:
    """A connection that is being made (`accepted` is False), stands, or is over (`ended` says why)."""

    def __init__(self, settings: BrokerSettings, client_id: str, will: Message) -> None:
        self.accepted = False
        self.ended: str | None = None
        self.received: deque[bytes] = deque()
        self._settings = settings
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.username_pw_set(settings.username, settings.password)
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect

    def open(self) -> None:
        """Ask the broker for a connection; blocks for some seconds at most, and ends at once where it fails."""
        settings = self._settings
        try:
            if settings.tls is not None:
                self._client.tls_set(settings.tls.ca_path, settings.tls.cert_path, settings.tls.key_path)
            self._client.connect(settings.host, settings.port, settings.keepalive_s)
        except (OSError, ValueError) as error:
            self.end(_explained(error))

    def subscribe(self, topic: str) -> None:
        """Ask for the messages of `topic`, which then come into `received`."""
        self._client.subscribe(topic, qos=1)

    def publish(self, message: Message) -> paho.MQTTMessageInfo:
        """Hand a message to the network, QoS 1; that the broker acknowledged it is no receipt."""
        return self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)

    def turn(self, timeout_s: float, bell: Bell) -> None:
        """Wait for the network, for the bell or for the timeout, and do what came up."""
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
        if (sock := self._client.socket()) is not None:
            sock.close()

    def end(self, reason: str) -> None:
        """Note why the connection is over; the first reason stays."""
        self.ended = self.ended or f"broker {self._settings.host}:{self._settings.port}: {reason}"

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self.end(f"refused this agent: {str(reason).lower()}; check user name, password and access list")
        else:
            self.accepted = True

    def _on_subscribe(self, _client: Any, _userdata: Any, _mid: int, reasons: list[ReasonCode], _: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self.end("not authorised to read this board's receipts; check the broker's access list")

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.received.append(bytes(message.payload))

    def _on_disconnect(self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:  # else it was this side that left
            self.end(f"the connection was lost ({str(reason).lower()})")


def _explained(error: Exception) -> str:
    """What went wrong, for an operator, with the remedy."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: its certificate is not trusted ({error.verify_message}); check the CA file and the host name"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error}); check that this port speaks TLS, and the certificate files"
    if isinstance(error, ConnectionRefusedError):
        return "refused; is the broker running, and is this its port?"
    if isinstance(error, socket.gaierror):
        return "the host name is not known; check it, or the network"
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_TIMEOUT_S:.0f} s; check the address and the firewall"
    if isinstance(error, FileNotFoundError):
        return "TLS: a certificate file is missing; check the paths of CA, certificate and key"
    return f"cannot connect ({error}); check the address and the network"
