"""HTTP to one server: short questions, and streams whose chunks are stamped on the monotonic clock as they arrive.

Nothing is parsed while a stream runs. A stream has a connection of its own, made before its clock starts.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from phasewatt.errors import ConfigInvalid, EngineFailed

CONNECT_S = 10.0
SILENCE_S = 120.0  # without a byte; then the server is given up
_PIECE = 1 << 16
_MOST_BYTES = 64 * 2**20  # of one answer
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})(?P<path>/[^?#\s]*)?"
)


class Endpoint(NamedTuple):
    """Where a server listens."""

    scheme: str
    host: str
    port: int
    prefix: str  # of every path, without a slash at its end

    @property
    def url(self) -> str:
        """As one would write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


class Piece(NamedTuple):
    """What came of a stream at one moment."""

    at_ns: int
    body: bytes


class Reply(NamedTuple):
    """One stream, raw."""

    start_ns: int  # just before the request was written
    pieces: tuple[Piece, ...]


def endpoint_of(url: str) -> Endpoint:
    """The endpoint of a URL; a trailing "/v1" is taken as said and left out.

    Raises:
        ConfigInvalid: of another form.
    """
    found = _URL.fullmatch(url)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ConfigInvalid(f"endpoint: expected http://HOST:PORT, got {url!r}")
    prefix = (found["path"] or "").rstrip("/").removesuffix("/v1")
    return Endpoint(found["scheme"], found["host"].strip("[]"), int(found["port"]), prefix)


class Client:
    """Talks to one endpoint."""

    def __init__(self, endpoint: Endpoint, silence_s: float = SILENCE_S) -> None:
        self.endpoint = endpoint
        self._silence_s = silence_s

    def get(self, path: str) -> Any | None:
        """The JSON at `path`; None: there is none.

        Raises:
            EngineFailed: nothing answers there.
        """
        connection = self._connected()
        try:
            connection.request("GET", self.endpoint.prefix + path)
            response = connection.getresponse()
            body = response.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()
        if response.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            raise EngineFailed(f"{self.endpoint.url} is not ready: {_complaint(body)}")
        return _json(body) if response.status == http.HTTPStatus.OK else None

    def stream(self, path: str, request: Mapping[str, Any], ready: Callable[[], object] = lambda: None) -> Reply:
        """The answer to `request` as it comes; `ready` is called when the connection stands, before the clock starts.

        Raises:
            EngineFailed: nothing answers, the server refuses, falls silent, or breaks off.
        """
        body = json.dumps(request, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        connection = self._connected()
        try:
            ready()
            start_ns = time.monotonic_ns()
            connection.request("POST", self.endpoint.prefix + path, body, headers)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                said = _complaint(response.read(_PIECE))
                raise EngineFailed(f"{self.endpoint.url} refused the request ({response.status}): {said}")
            return Reply(start_ns, _pieces(response))
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.endpoint.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.endpoint.host, self.endpoint.port, timeout=CONNECT_S)
        try:
            connection.connect()
        except OSError as error:
            raise EngineFailed(f"no server answers at {self.endpoint.url}: {_cause(error)}") from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(self._silence_s)
        return connection

    def _lost(self, error: Exception) -> EngineFailed:
        if isinstance(error, TimeoutError):
            return EngineFailed(f"{self.endpoint.url} was silent for {self._silence_s:g} s")
        return EngineFailed(f"{self.endpoint.url} broke off: {_cause(error)}")


def _pieces(response: http.client.HTTPResponse) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    total = 0
    while body := response.read1(_PIECE):
        pieces.append(Piece(time.monotonic_ns(), body))
        total += len(body)
        if total > _MOST_BYTES:
            raise EngineFailed(f"the server sent more than {_MOST_BYTES >> 20} MiB for one request")
    return tuple(pieces)


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _json(body: bytes) -> Any | None:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _complaint(body: bytes) -> str:
    """What an error answer says, in one short line."""
    said = _json(body)
    for key in ("error", "detail", "message"):
        if isinstance(said, dict) and key in said:
            said = said[key]
    text = said if isinstance(said, str) else body.decode("utf-8", "replace") if said is None else json.dumps(said)
    return " ".join(text.split())[:300] or "no reason given"
