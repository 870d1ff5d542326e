"""The durable queue between measuring and delivering: what is committed here reaches the collector.

Rows are known by (epoch, seq). A row is pending until the collector's receipt says that it is stored; a receipted
row stays while there is room, so that a collector restored from a backup gets it again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent import numbering, rows, sessions
from agent.rows import State
from agent.spool import CHECK_S, LOG_BYTES, Spool, is_doubted, note_damage, open_spool, read_spool, value
from phasewatt import codec
from phasewatt.codec import SentRecord
from phasewatt.errors import ConfigInvalid, RecordRejected, StoreUnavailable
from phasewatt.fields import Kind
from phasewatt.messages import Batch, Clock, Item, Receipt, Rejection, tells_of_held_key

logger = logging.getLogger(__name__)

ENVELOPE_BYTES = 4096  # kept free in every payload for what surrounds the bodies
PARCEL_BYTES = codec.MAX_PAYLOAD_BYTES - ENVELOPE_BYTES
MIN_CAP_BYTES = 2 * LOG_BYTES

# In this order; who looks at a board that came back wants its newest telemetry before the backlog.
_SENDING = (Kind.EVENT, Kind.TRIAL, Kind.TELEMETRY, Kind.TRACE)
_NEWEST_FIRST = (Kind.TELEMETRY,)


class OutboxFull(StoreUnavailable):
    """The disk took nothing: the record is still the caller's, to keep and to try again."""


class Parcel(NamedTuple):
    """Rows of one kind that fit one message."""

    kind: Kind
    items: tuple[Item, ...]

    @property
    def seqs(self) -> frozenset[int]:
        """The keys of the rows, without their epoch."""
        return frozenset(item.seq for item in self.items)


class Outbox:
    """The rows of one spool, under a hard cap on disk.

    One connection and one lock for all threads: transactions are short, and the threads (one that measures, one
    that delivers) then never meet SQLite's own "busy". One process at a time writes; others may read.
    """

    def __init__(self, spool: Spool, cap_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.path = spool.path
        self.set_aside = spool.set_aside
        self.clock = clock
        self._db = spool.db
        self._lock = threading.RLock()
        self._max_bytes = cap_bytes - LOG_BYTES
        with self.reading() as db:
            self.epoch: str = value(db, "SELECT value FROM fact WHERE name = 'epoch'")
            self._receipts: int = value(db, "SELECT coalesce(max(receipt), 0) FROM row")

    @classmethod
    def open(
        cls, directory: Path, cap_bytes: int, clock: Callable[[], float] = time.time, check_s: float = CHECK_S
    ) -> Outbox:
        """The outbox in `directory`, trimmed to the cap; `set_aside` tells of a damaged predecessor.

        Raises:
            StoreUnavailable: written by a newer version, or the disk does not allow it.
            ConfigInvalid: the cap is too small to work with.
        """
        if cap_bytes < MIN_CAP_BYTES:
            raise ConfigInvalid(f"outbox cap: expected at least {MIN_CAP_BYTES} bytes, got {cap_bytes}")
        try:
            return cls._opened(open_spool(directory, clock, check_s), cap_bytes, clock)
        except StoreUnavailable:
            if not is_doubted(directory):
                raise
            # The check had not reached the damage; this time it has no limit.
            return cls._opened(open_spool(directory, clock), cap_bytes, clock)

    @classmethod
    def _opened(cls, spool: Spool, cap_bytes: int, clock: Callable[[], float]) -> Outbox:
        outbox = cls(spool, cap_bytes, clock)
        with outbox.transaction() as db:
            outbox._trim(db)
        with outbox.reading() as db:  # the cap may have been lowered, then the file shrinks
            db.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
        return outbox

    @classmethod
    def read(cls, directory: Path) -> Outbox:
        """The outbox in `directory` for reading only, also while an agent writes it.

        Raises:
            StoreUnavailable: there is none, or it is not sound.
        """
        return cls(read_spool(directory), MIN_CAP_BYTES)

    def close(self) -> None:
        """End all use; what was committed stays."""
        with self._lock:
            self._db.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, held by this thread alone.

        Raises:
            StoreUnavailable: the disk or the file fails.
            OutboxFull: the disk is full.
        """
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise self._explained(error) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction: all of the block is committed and synced, or none of it.

        A block within a block joins the outer one. Raises as `reading` does.
        """
        with self.reading() as db:
            if self._db.in_transaction:
                yield db
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def append(self, records: Iterable[SentRecord]) -> list[int]:
        """The seqs of `records`, all committed; past the cap, older or lesser rows are given up and counted.

        Raises:
            RecordRejected: a record is not valid or too large for a message; none was stored.
            OutboxFull: the disk is full; none was stored.
        """
        encoded = [_encoded(record) for record in records]
        with self.transaction() as db:
            seqs = [rows.insert(db, kind, body) for kind, body in encoded]
            self._trim(db)
        return seqs

    def next_parcel(self, exclude: Container[int] = (), max_bytes: int = PARCEL_BYTES) -> Parcel | None:
        """The rows to send next, but for those of `exclude`; None: there are none."""
        with self.reading() as db:
            for kind in _SENDING:
                while seqs := rows.pending_seqs(db, kind, kind in _NEWEST_FIRST, exclude, max_bytes):
                    if items := self._loaded(db, seqs):
                        return Parcel(kind, items)
        return None

    def parcel_of(self, seq: int) -> Parcel | None:
        """That row alone; None: it is no longer pending."""
        with self.reading() as db:
            kind = value(db, "SELECT kind FROM row WHERE seq = ? AND state = ?", seq, State.PENDING)
            items = self._loaded(db, [seq]) if kind else ()
            return Parcel(Kind(kind), items) if items else None

    def apply(self, receipt: Receipt) -> bool:
        """Whether `receipt` was about this outbox; if so, the rows are what it says, committed."""
        if receipt.epoch != self.epoch:
            return False
        with self.transaction() as db:
            self._receipts += 1
            numbering.leap(db, receipt.high_water)
            rows.take_back(db, receipt)
            rows.mark_receipted(db, receipt.ranges, self._receipts)
            rows.mark_rejected(db, [refusal for refusal in receipt.rejected if not self._moved(db, refusal)])
        return True

    def new_session(self) -> str:
        """A name for the next connection, remembered before anybody hears it; an old one where the disk is full."""
        session = uuid.uuid4().hex
        try:
            with self.transaction() as db:
                sessions.note(db, session)
        except OutboxFull:
            with self.reading() as db:
                return sessions.newest(db) or session
        return session

    def recognises(self, session: str) -> bool:
        """Whether this outbox was delivered over `session`; one that is not its own tells of a copy of this disk."""
        with self.transaction() as db:
            return sessions.recognise(db, session)

    def fork(self, notice: SentRecord) -> None:
        """Become another outbox with the same rows, all pending under new keys, and `notice` the last of them.

        Raises as `append` does.
        """
        epoch = uuid.uuid4().hex
        with self.transaction() as db:
            numbering.renumber(db)
            db.execute("DELETE FROM dropped")
            db.execute("DELETE FROM generation")
            db.execute("UPDATE fact SET value = ? WHERE name = 'epoch'", (epoch,))
            rows.insert(db, *_encoded(notice))
            self._trim(db)
        self.epoch = epoch
        with self.reading() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def pending(self) -> int:
        """Rows without a receipt."""
        with self.reading() as db:
            return int(value(db, "SELECT count(*) FROM row WHERE state = ?", State.PENDING))

    def dropped(self) -> dict[str, int]:
        """Rows given up at the cap before they were receipted, by kind, since this epoch began."""
        with self.reading() as db:
            return dict(db.execute("SELECT kind, count FROM dropped ORDER BY kind").fetchall())

    def rejected(self) -> list[Rejection]:
        """Rows that were refused for good, with the reasons, oldest first."""
        with self.reading() as db:
            found = db.execute("SELECT seq, reason FROM row WHERE state = ? ORDER BY seq", (State.REJECTED,))
            return [Rejection(seq=seq, reason=reason) for seq, reason in found.fetchall()]

    def batches(self, device: str, boot_id: str, clock: Clock) -> Iterator[Batch]:
        """All rows that are kept, whatever became of them, under the keys that they are sent with."""
        for kind in Kind:
            last = 0
            while items := self._kept_after(kind, last):
                last = items[-1].seq
                yield Batch(
                    device=device,
                    epoch=self.epoch,
                    boot_id=boot_id,
                    session="export",
                    clock=clock,
                    sent_unix_s=self.clock(),
                    kind=kind,
                    items=items,
                )

    def _kept_after(self, kind: Kind, seq: int) -> tuple[Item, ...]:
        with self.reading() as db:
            while seqs := rows.seqs_after(db, kind, seq, PARCEL_BYTES):
                if items := rows.load(db, seqs).items:
                    return items
                seq = seqs[-1]
        return ()

    def _loaded(self, db: sqlite3.Connection, seqs: Iterable[int]) -> tuple[Item, ...]:
        items, damaged = rows.load(db, seqs)
        if damaged:
            logger.error("outbox %s: rows %s are damaged on disk", self.path, list(damaged))
            with self.transaction():
                reason = "damaged on the board's disk"
                rows.mark_rejected(db, [Rejection(seq=seq, reason=reason) for seq in damaged])
        return items

    def _moved(self, db: sqlite3.Connection, refusal: Rejection) -> bool:
        """Whether a row that was refused for its key alone goes again under another."""
        pending = value(db, "SELECT state FROM row WHERE seq = ?", refusal.seq) == State.PENDING
        if not pending or not tells_of_held_key(refusal.reason):
            return False
        new = numbering.move(db, refusal.seq)
        if new is not None:
            logger.warning("outbox %s: row %d goes again as row %d", self.path, refusal.seq, new)
        else:
            logger.error("outbox %s: row %d met a held key too often and stays here", self.path, refusal.seq)
        return new is not None

    def _trim(self, db: sqlite3.Connection) -> None:
        if given_up := rows.trim(db, self._max_bytes):
            logger.warning("outbox %s is at its cap: %d rows given up undelivered", self.path, given_up)

    def _explained(self, error: sqlite3.Error) -> StoreUnavailable:
        if "disk is full" in str(error):
            return OutboxFull(f"outbox {self.path}: the disk is full, nothing was stored; free some space")
        note_damage(self.path, error)
        return StoreUnavailable(f"outbox {self.path}: {error}; check the disk, then start the agent again")


def _encoded(record: SentRecord) -> tuple[Kind, bytes]:
    kind = codec.KINDS[type(record)]
    body = codec.encode(record)
    # A record does not check its own limits when it is made; better refused here than by the collector.
    codec.decode_record(kind, codec.SCHEMA, body)
    packed_bytes = len(body) if len(body) <= PARCEL_BYTES else len(codec.pack(body))
    if packed_bytes > PARCEL_BYTES or len(body) > codec.MAX_INFLATED_BYTES - ENVELOPE_BYTES:
        raise RecordRejected(
            f"{kind.value} of {len(body)} bytes ({packed_bytes} compressed) does not fit a message of "
            f"{PARCEL_BYTES} bytes: split it"
        )
    return kind, body
