"""What passes between a board and its broker, counted: by the kernel on the connection, by topic at the broker."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from phasewatt import topics

_HOST = "127.0.0.1"
_SEGMENT_BYTES = 1448  # of an Ethernet: 1500 less the headers
HEADER_BYTES = 52  # IPv4 20, TCP 20, its timestamps 12
# bytes_acked, bytes_received, segs_out, segs_in. Source: struct tcp_info of linux/tcp.h
_TCP_INFO_AT, _TCP_INFO = 120, struct.Struct("=QQII")


class Passed(NamedTuple):
    """What went over a connection, TLS included; `_sent` is from the board."""

    received_bytes: int = 0
    sent_bytes: int = 0
    received_segments: int = 0
    sent_segments: int = 0

    def plus(self, other: Passed) -> Passed:
        """Both together."""
        return Passed(*(one + more for one, more in zip(self, other, strict=True)))

    def minus(self, other: Passed) -> Passed:
        """What came since `other`."""
        return Passed(*(one - less for one, less in zip(self, other, strict=True)))


class CountingProxy:
    """Passes on what comes to `port`, and tells what passed."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server = socket.create_server((_HOST, 0))
        self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        self.port: int = self._server.getsockname()[1]
        self.connections = 0
        self._lock = threading.Lock()
        self._over = Passed()
        self._present: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def passed(self) -> Passed:
        """Everything so far."""
        with self._lock:
            total = self._over
            for near in self._present:
                total = total.plus(_counted(near))
            return total

    def _accept(self) -> None:
        while True:
            near, _ = self._server.accept()
            far = socket.create_connection((_HOST, self._target_port))
            with self._lock:
                self.connections += 1
                self._present.add(near)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(near, source, sink), daemon=True).start()

    def _pump(self, near: socket.socket, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(1 << 16):
                sink.sendall(chunk)
        except OSError:
            pass
        with self._lock:
            if near in self._present:
                self._present.remove(near)
                self._over = self._over.plus(_counted(near))
        for end in (source, sink):
            end.close()


class Tally:
    """Hears all that passes the broker, and adds it up by the last part of the topic."""

    def __init__(self, port: int, ca_path: Path) -> None:
        self._lock = threading.Lock()
        self._messages: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, client_id="tally")
        client.tls_set(str(ca_path), cert_reqs=ssl.CERT_REQUIRED)
        client.on_connect = lambda client, *_: client.subscribe(f"{topics.ROOT}/+/#", qos=1)
        client.on_message = self._heard
        client.connect(_HOST, port)
        client.loop_start()

    def totals(self) -> Mapping[str, tuple[int, int]]:
        """Messages and bytes of topic and payload, by what they are."""
        with self._lock:
            return {name: (count, self._bytes[name]) for name, count in self._messages.items()}

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        name = message.topic.rpartition("/")[2]
        with self._lock:
            self._messages[name] += 1
            self._bytes[name] += len(message.topic) + len(message.payload)


def _counted(near: socket.socket) -> Passed:
    raw = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_AT + _TCP_INFO.size)
    return Passed(*_TCP_INFO.unpack_from(raw, _TCP_INFO_AT))
