"""The statements over an outbox's rows; each runs inside the caller's transaction."""

from __future__ import annotations

import enum
import logging
import sqlite3
import zlib
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from msgspec import Raw

from agent.spool import is_damage, value
from phasewatt import codec
from phasewatt.fields import Kind
from phasewatt.messages import Item, Receipt, Rejection

logger = logging.getLogger(__name__)

MAX_ROWS = 500  # of one message
_ITEM_BYTES = 64  # JSON around one body
_BODY = "coalesce(row.body, row.seq)"  # the number of a row's bytes


class State(enum.IntEnum):
    """What became of a row."""

    PENDING = 0
    RECEIPTED = 1  # in the collector's committed store
    REJECTED = 2  # will never be stored as it is; kept with the reason


_GIVING_UP: tuple[tuple[State, tuple[Kind, ...]], ...] = (
    (State.RECEIPTED, (Kind.TELEMETRY,)),
    (State.RECEIPTED, (Kind.TRACE,)),
    (State.RECEIPTED, (Kind.EVENT, Kind.TRIAL)),
    (State.REJECTED, tuple(Kind)),
    (State.PENDING, (Kind.TELEMETRY,)),
    (State.PENDING, (Kind.TRACE,)),
    (State.PENDING, (Kind.EVENT, Kind.TRIAL)),
)


class Loaded(NamedTuple):
    """Rows read back; `damaged` are the seqs whose bytes are no longer those that were written."""

    items: tuple[Item, ...]
    damaged: tuple[int, ...]


def insert(db: sqlite3.Connection, kind: Kind, body: bytes) -> int:
    """The seq of the new row. Bytes are kept packed: what a board writes wears its SD card."""
    kept = codec.pack(body)
    number = db.execute("INSERT INTO body (bytes) VALUES (?)", (kept,)).lastrowid
    columns = (kind.value, codec.SCHEMA, len(body), zlib.crc32(kept), number)
    seq = db.execute("INSERT INTO row (kind, schema, size, checksum, body) VALUES (?, ?, ?, ?, ?)", columns).lastrowid
    return int(seq or 0)


def pending_seqs(
    db: sqlite3.Connection, kind: Kind, newest_first: bool, exclude: Container[int], max_bytes: int
) -> list[int]:
    """Pending rows that fit one message, but for those of `exclude`."""
    order = "DESC" if newest_first else "ASC"
    query = f"SELECT seq, size FROM row WHERE state = ? AND kind = ? ORDER BY seq {order}"
    rows = db.execute(query, (State.PENDING, kind.value))
    return _filled((row for row in rows if row[0] not in exclude), max_bytes)


def seqs_after(db: sqlite3.Connection, kind: Kind, seq: int, max_bytes: int) -> list[int]:
    """Rows of any state above `seq` that fit one message, in order."""
    rows = db.execute("SELECT seq, size FROM row WHERE kind = ? AND seq > ? ORDER BY seq", (kind.value, seq))
    return _filled(rows, max_bytes)


def load(db: sqlite3.Connection, seqs: Iterable[int]) -> Loaded:
    """The rows as they travel, in the order of their seqs; those that are gone are left out."""
    items, damaged = [], []
    query = f"SELECT schema, checksum, {_BODY} FROM row WHERE seq = ?"
    for seq in sorted(seqs):
        for schema, checksum, number in db.execute(query, (seq,)).fetchall():
            kept = _bytes(db, number)
            if kept is not None and zlib.crc32(kept) == checksum:
                items.append(Item(seq=seq, schema=schema, body=Raw(codec.unpack(kept))))
            else:
                damaged.append(seq)
    return Loaded(tuple(items), tuple(damaged))


def mark_receipted(db: sqlite3.Connection, ranges: Iterable[tuple[int, int]], order: int) -> None:
    """Note that the collector holds `ranges`; `order` counts receipts in the order of their coming."""
    db.executemany(
        "UPDATE row SET state = ?, receipt = ?, reason = NULL WHERE seq BETWEEN ? AND ? AND state != ?",
        ((State.RECEIPTED, order, first, last, State.RECEIPTED) for first, last in ranges),
    )


def mark_rejected(db: sqlite3.Connection, rejections: Iterable[Rejection]) -> None:
    """Note pending rows that will not be sent again."""
    db.executemany(
        "UPDATE row SET state = ?, reason = ? WHERE seq = ? AND state = ?",
        ((State.REJECTED, rejection.reason, rejection.seq, State.PENDING) for rejection in rejections),
    )


def take_back(db: sqlite3.Connection, receipt: Receipt) -> None:
    """Make rows pending that the sender of `receipt` does not have, or no longer.

    Generations are remembered, so that a second collector on the same broker costs one resend, not one a
    receipt. Of several collectors on one store, receipts may cross: one that answers a batch and is behind comes late.
    A store that fell back greets the board before it answers batches.
    """
    known = value(db, "SELECT high_water FROM generation WHERE id = ?", receipt.generation)
    if known is not None and receipt.high_water < known and (receipt.ranges or receipt.rejected):
        return
    if known is None:
        db.execute("UPDATE row SET state = ?, receipt = NULL, reason = NULL", (State.PENDING,))
    elif receipt.high_water < max(known, _edge(db, "max", State.RECEIPTED, tuple(Kind)) or 0):
        logger.warning("the collector's store fell back to row %d: sending again", receipt.high_water)
        _unmark_after(db, receipt.high_water)
    db.execute("INSERT OR REPLACE INTO generation VALUES (?, ?)", (receipt.generation, receipt.high_water))


def trim(db: sqlite3.Connection, max_bytes: int) -> int:
    """How many undelivered rows were given up, and counted, to come down to `max_bytes`."""
    given_up = 0
    while _used_bytes(db) > max_bytes and (victim := _victim(db)):
        seq, state = victim
        if state is not State.RECEIPTED:
            _count_drop(db, seq)
            given_up += 1
        db.execute(f"DELETE FROM body WHERE seq = (SELECT {_BODY} FROM row WHERE seq = ?)", (seq,))
        db.execute("DELETE FROM row WHERE seq = ?", (seq,))
    return given_up


def _filled(rows: Iterable[tuple[int, int]], max_bytes: int) -> list[int]:
    """Seqs from (seq, size) until a message is full; the first always fits, if need be by compression."""
    seqs: list[int] = []
    filled_bytes = 0
    for seq, size in rows:
        filled_bytes += size + _ITEM_BYTES
        if seqs and (filled_bytes > max_bytes or len(seqs) == MAX_ROWS):
            break
        seqs.append(seq)
    return seqs


def _bytes(db: sqlite3.Connection, number: int) -> bytes | None:
    """What a row holds; None: it is gone, or the disk lost it."""
    try:
        found: bytes | None = value(db, "SELECT bytes FROM body WHERE seq = ?", number)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return None  # the other rows can still be delivered
    return found


def _unmark_after(db: sqlite3.Connection, high_water: int) -> None:
    # Rows are not sent in the order of their seqs. What a restored store surely holds is what was receipted no
    # later than its highest row; if that is no longer here to compare with, nothing is sure.
    db.execute(
        """UPDATE row SET state = :pending, receipt = NULL WHERE state = :receipted AND (seq > :high
        OR receipt > coalesce((SELECT receipt FROM row WHERE state = :receipted AND seq = :high), 0))""",
        {"pending": State.PENDING, "receipted": State.RECEIPTED, "high": high_water},
    )


def _edge(db: sqlite3.Connection, which: str, state: State, kinds: Sequence[Kind]) -> int | None:
    """The lowest ("min") or highest ("max") seq, one look into the index a kind."""
    query = f"SELECT {which}(seq) FROM row WHERE state = ? AND kind = ?"
    seqs = [seq for kind in kinds if (seq := value(db, query, state, kind.value)) is not None]
    return {"min": min, "max": max}[which](seqs) if seqs else None


def _victim(db: sqlite3.Connection) -> tuple[int, State] | None:
    for state, kinds in _GIVING_UP:
        if (seq := _edge(db, "min", state, kinds)) is not None:
            return seq, state
    return None


def _count_drop(db: sqlite3.Connection, seq: int) -> None:
    db.execute(
        """INSERT INTO dropped SELECT kind, 1 FROM row WHERE seq = ?
        ON CONFLICT (kind) DO UPDATE SET count = count + 1""",
        (seq,),
    )


def _used_bytes(db: sqlite3.Connection) -> int:
    pages = value(db, "PRAGMA page_count") - value(db, "PRAGMA freelist_count")
    return int(pages * value(db, "PRAGMA page_size"))
