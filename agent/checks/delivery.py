"""Whether what is measured here can be delivered: the connection that the agent would make, made for a moment."""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from agent.broker_words import explained, of_tls
from agent.checks import Finding, Subject
from agent.checks.host import LOCKS, holder_of
from agent.connection import Bell, BrokerSettings, Connection
from agent.control import LOCK
from phasewatt import topics

_PATIENCE_S = 5.0
_SILENCE_S = 1.0  # of a broker that took the certificate
_WAITS = "records wait in the outbox"


def broker(subject: Subject) -> Iterator[Finding]:
    """Whether the broker lets this board in, and read its receipts."""
    if subject.broker is None:
        yield Finding("broker", None, f"none is set: {_WAITS}", "--broker HOST:PORT, or export")
        return
    stands = _is_bound(subject.broker) and holder_of(subject.state / LOCK, LOCKS) is not None
    refusal = refusal_by_tls(subject.broker) if stands else refusal_of(subject.broker, subject.device)
    if refusal is None and stands:
        asked = "no more was asked, since the agent that works here holds the session"
        yield Finding("broker", True, f"{subject.broker} lets this board in as far as TLS; {asked}")
    elif refusal is None:
        yield Finding("broker", True, f"{subject.broker} lets this board in")
    else:
        assert refusal is not None
        why, _, remedy = refusal.partition("; ")
        yield Finding("broker", None, f"{why}: {_WAITS}", remedy or "see the broker's log")


def _is_bound(settings: BrokerSettings) -> bool:
    """Whether the broker may give every client with this proof one client id, so that a second one ends the first."""
    return settings.tls is not None and (settings.tls.cert_path is not None or settings.username is not None)


def refusal_by_tls(settings: BrokerSettings, patience_s: float = _PATIENCE_S) -> str | None:
    """Why the broker refuses this board already in TLS; None: it does not."""
    assert settings.tls is not None
    try:
        context = ssl.create_default_context(cafile=settings.tls.ca_path)
        if settings.tls.cert_path is not None:
            context.load_cert_chain(settings.tls.cert_path, settings.tls.key_path)
        with (
            closing(socket.create_connection((settings.host, settings.port), patience_s)) as plain,
            closing(context.wrap_socket(plain, server_hostname=settings.host)) as secure,
        ):
            refusal = _first_word(secure)
    except (OSError, ValueError) as error:
        refusal = explained(error, patience_s)
    return None if refusal is None else f"broker {settings.host}:{settings.port}: {refusal}"


def _first_word(secure: ssl.SSLSocket) -> str | None:
    """Why the broker ends TLS, which since 1.3 it says after the handshake; None: it waits for this side, as it should.

    Raises:
        OSError: TLS says why.
    """
    secure.settimeout(_SILENCE_S)
    try:
        return of_tls("EOF occurred") if secure.recv(1) == b"" else None
    except TimeoutError:
        with suppress(OSError):
            secure.unwrap()  # a farewell, so that the broker logs no fault
        return None


def refusal_of(settings: BrokerSettings, device: str | None, patience_s: float = _PATIENCE_S) -> str | None:
    """Why the broker does not serve this board, with the remedy after a semicolon; None: it does.

    It goes by a client id of its own, so that the session of a living daemon goes on.
    """
    connection = Connection(settings, f"phasewatt-doctor-{secrets.token_hex(4)}", will=None)
    with closing(Bell()) as bell, closing(connection):
        connection.open()
        if not _turned(connection, bell, patience_s, lambda: connection.accepted):
            return connection.ended or f"{settings}: it does not answer; is it an MQTT broker?"
        if device is not None:
            connection.subscribe(topics.receipt(device))
            if not _turned(connection, bell, patience_s, lambda: connection.granted):
                return connection.ended or f"{settings}: no word on whether this board may read its receipts"
        connection.leave()
        return None


def _turned(connection: Connection, bell: Bell, patience_s: float, done: Callable[[], bool]) -> bool:
    """Whether something came about on a connection before it ended, or patience did."""
    deadline_s = time.monotonic() + patience_s
    while not done() and connection.ended is None and (left_s := deadline_s - time.monotonic()) > 0:
        connection.turn(left_s, bell)
    return done()
