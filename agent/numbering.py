"""The seqs of an outbox's rows, where they do not simply count on; each runs inside the caller's transaction."""

from __future__ import annotations

import logging
import sqlite3

from agent.spool import value

logger = logging.getLogger(__name__)

MOVES_MAX = 5  # of one row: two boards under one name must not renumber for ever
_LEAP_MAX = 10**6  # a receipt further ahead than this is nonsense, not a lost tail
_STEP_ROWS = 10_000


def leap(db: sqlite3.Connection, high_water: int) -> None:
    """Pass over seqs that the collector knows and this disk does not: it lost commits, or was restored."""
    last = _last(db)
    if not last < high_water < last + _LEAP_MAX:
        return
    logger.warning("the collector holds row %d, the last one here is %d: going on from there", high_water, last)
    _go_on_after(db, high_water)


def move(db: sqlite3.Connection, seq: int) -> int | None:
    """The new seq, at the end, of a row whose old one another record holds; None: it was moved too often."""
    moves = value(db, "SELECT moves FROM row WHERE seq = ?", seq)
    if moves is None or moves >= MOVES_MAX:
        return None
    new = _last(db) + 1
    db.execute("UPDATE row SET seq = ?, body = coalesce(body, seq), moves = moves + 1 WHERE seq = ?", (new, seq))
    _go_on_after(db, new)
    return new


def renumber(db: sqlite3.Connection) -> int:
    """Number all rows from 1 on without gaps, in their order, with nothing known of any; how many there are."""
    count, last = 0, 0
    # No row comes down to a number that another still has: the k-th smallest is k at least.
    while seqs := [seq for (seq,) in db.execute(_NEXT, (last, _STEP_ROWS)).fetchall()]:
        last = seqs[-1]
        db.executemany(_RENUMBER, ((new, seq) for new, seq in enumerate(seqs, count + 1)))
        count += len(seqs)
    _go_on_after(db, count)
    return count


_NEXT = "SELECT seq FROM row WHERE seq > ? ORDER BY seq LIMIT ?"
_RENUMBER = """UPDATE row SET seq = ?, body = coalesce(body, seq), moves = 0, state = 0, receipt = NULL, reason = NULL
WHERE seq = ?"""


def _last(db: sqlite3.Connection) -> int:
    """The highest seq that was ever given."""
    return int(value(db, "SELECT seq FROM sqlite_sequence WHERE name = 'row'") or 0)


def _go_on_after(db: sqlite3.Connection, seq: int) -> None:
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'row'")
    db.execute("INSERT INTO sqlite_sequence VALUES ('row', ?)", (seq,))
