"""The names of the connections that an outbox was delivered over; each runs inside the caller's transaction.

A retained status that has the outbox's epoch and a session which is not among them was said by another disk: this one
was copied, or put back to an older state.
"""

from __future__ import annotations

import sqlite3

from agent.spool import value

_KEPT = 256  # a broker that was not used for long may still keep an old one
_FORGIVEN = ""  # stands for those of an agent that noted none


def note(db: sqlite3.Connection, session: str) -> None:
    """Remember a session, at the cost of the oldest."""
    db.execute("INSERT OR IGNORE INTO session (name) VALUES (?)", (session,))
    db.execute("DELETE FROM session WHERE id <= (SELECT max(id) FROM session) - ?", (_KEPT,))


def newest(db: sqlite3.Connection) -> str | None:
    """The last one noted; None: there is none."""
    found: str | None = value(db, "SELECT name FROM session WHERE name != ? ORDER BY id DESC LIMIT 1", _FORGIVEN)
    return found


def recognise(db: sqlite3.Connection, session: str) -> bool:
    """Whether a session is one of this outbox, or the one that is forgiven, after which none is."""
    known = value(db, "SELECT 1 FROM session WHERE name = ?", session)
    forgiven = db.execute("DELETE FROM session WHERE name = ?", (_FORGIVEN,)).rowcount
    if forgiven and not known:
        note(db, session)
    return bool(known or forgiven)
