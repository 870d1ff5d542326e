"""Whether what is measured here can be delivered: the connection that the agent would make, made for a moment."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from agent.checks import Finding, Subject
from agent.connection import Bell, BrokerSettings, Connection
from phasewatt import topics

_PATIENCE_S = 5.0
_WAITS = "records wait in the outbox"


def broker(subject: Subject) -> Iterator[Finding]:
    """Whether the broker lets this board in, and read its receipts."""
    if subject.broker is None:
        yield Finding("broker", None, f"none is set: {_WAITS}", "--broker HOST:PORT, or export")
        return
    refusal = refusal_of(subject.broker, subject.device)
    if refusal is None:
        yield Finding("broker", True, f"{subject.broker} lets this board in")
    else:
        why, _, remedy = refusal.partition("; ")
        yield Finding("broker", None, f"{why}: {_WAITS}", remedy or "see the broker's log")


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
