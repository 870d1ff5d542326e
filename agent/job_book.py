"""The jobs that this board has taken: kept beside the outbox's rows, each change committed before it is acted on.

What was said of a job, and to which store, is kept as well, so that a word which got lost is said again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import NamedTuple

from agent.outbox import Outbox
from phasewatt import codec, jobs
from phasewatt.jobs import Order, Report, Standing, State

KEPT_S = 40 * 86400.0  # a job that ended, so that it is not taken a second time ...
MOST_KEPT = 500  # ... and so many, so that no sender fills the disk with what is rejected
_FINAL = ", ".join(f"'{state.value}'" for state in State if state.is_final)
_TABLES = (
    """CREATE TABLE IF NOT EXISTS job (
        id TEXT PRIMARY KEY,
        body BLOB NOT NULL,
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        reason TEXT,
        cells INTEGER,
        done INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        cancel INTEGER NOT NULL,
        taken_unix_s REAL NOT NULL,
        changed_unix_s REAL NOT NULL,
        ran_s REAL NOT NULL,
        restarts INTEGER NOT NULL,
        boot_id TEXT NOT NULL,
        expires_s REAL,
        expires_unix_s REAL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS job_told (
        job TEXT NOT NULL,
        generation TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (job, generation)
    ) WITHOUT ROWID""",
)
_STANDING = "state, version, reason, cells, done, cancel"


class Taken(NamedTuple):
    """A job of this board, with what is known of its past."""

    order: Order
    standing: Standing
    taken_unix_s: float
    ran_s: float  # in all its lives, as far as they were committed
    restarts: int  # since its last finished cell
    boot_id: str  # of the boot on which its end was last told
    expires_s: float | None  # by the monotonic clock of that boot ...
    expires_unix_s: float | None  # ... and by the wall clock

    @property
    def job(self) -> str:
        """Its name."""
        return self.order.job


class JobBook:
    """The jobs of one board, in its spool.

    All methods raise StoreUnavailable where the disk fails; then nothing has changed.
    """

    def __init__(self, outbox: Outbox, boot_id: str, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._outbox = outbox
        self._boot_id = boot_id
        self._stopwatch = stopwatch
        with outbox.transaction() as db:
            for table in _TABLES:
                db.execute(table)
            self._forget_old(db)

    def take(self, order: Order, generation: str, standing: Standing) -> None:
        """Keep a job that is new here, as it stands after the first look at it."""
        now_unix_s = self._outbox.clock()
        body = codec.encode(order)
        with self._outbox.transaction() as db:
            row = (order.job, body, standing.state.value, standing.version, standing.reason, standing.cells)
            rest = (standing.done, order.priority, standing.cancel, now_unix_s, now_unix_s, 0.0, 0, self._boot_id)
            ends = self._ends(order)
            db.execute(f"INSERT OR IGNORE INTO job VALUES ({', '.join('?' * 16)})", (*row, *rest, *ends))
            db.execute("INSERT OR IGNORE INTO job_told VALUES (?, ?, ?)", (order.job, generation, order.held))
            self._forget_old(db)

    def meet(self, order: Order, generation: str) -> None:
        """Note that a store asks for a job that is here, and until when: told on this boot, it can be judged."""
        with self._outbox.transaction() as db:
            db.execute("INSERT OR IGNORE INTO job_told VALUES (?, ?, 0)", (order.job, generation))
            db.execute(
                "UPDATE job SET boot_id = ?, expires_s = ?, expires_unix_s = ?, cancel = max(cancel, ?) WHERE id = ?",
                (self._boot_id, *self._ends(order), order.cancel, order.job),
            )

    def change(self, job: str, state: State, reason: str | None = None, **progress: int | None) -> Standing | None:
        """The standing of `job` after a step; None: it is not here, or took another way meanwhile."""
        with self._outbox.transaction() as db:
            before = self._standing(db, job)
            if before is None or before.state.is_final:
                return None
            after = jobs.moved(before, state, reason, **progress)
            columns = "state = ?, version = ?, reason = ?, cells = ?, done = ?, changed_unix_s = ?"
            db.execute(
                f"UPDATE job SET {columns} WHERE id = ?",
                (after.state.value, after.version, after.reason, after.cells, after.done, self._outbox.clock(), job),
            )
        return after

    def note_run(self, job: str, ran_s: float, restarts: int) -> None:
        """Note how long a job has run in all, and how often it began since its last finished cell."""
        with self._outbox.transaction() as db:
            db.execute("UPDATE job SET ran_s = ?, restarts = ? WHERE id = ?", (ran_s, restarts, job))

    def find(self, job: str) -> Taken | None:
        """That job; None: it is not here."""
        return next(iter(self._select("WHERE id = ?", job)), None)

    def open(self) -> list[Taken]:
        """What has not ended: what was begun first, then by priority, then by age."""
        states = (State.IN_PROGRESS.value, State.QUEUED.value)
        order = "ORDER BY state != ?, priority DESC, taken_unix_s, id"
        return self._select(f"WHERE state IN (?, ?) {order}", *states, State.IN_PROGRESS.value)

    def unheard(self) -> list[Report]:
        """The words that a store which asked for them does not hold yet; the newest of each job."""
        query = (
            f"SELECT id, {_STANDING} FROM job WHERE version > (SELECT min(version) FROM job_told WHERE job = id) "
            "ORDER BY changed_unix_s LIMIT ?"
        )
        with self._outbox.reading() as db:
            rows = db.execute(query, (jobs.MAX_ORDERS,)).fetchall()
        return [jobs.report_of(job, _standing_of(row)) for job, *row in rows]

    def told(self, generation: str, job: str, version: int) -> None:
        """Note that a store holds a word."""
        with self._outbox.transaction() as db:
            db.execute(
                "UPDATE job_told SET version = max(version, ?) WHERE job = ? AND generation = ?",
                (version, job, generation),
            )

    def outcomes(self, job: str) -> dict[str, int]:
        """How many cells of its campaign ended how."""
        query = "SELECT outcome, count(*) FROM cell WHERE campaign = ? GROUP BY outcome"
        with self._outbox.reading() as db:
            return dict(db.execute(query, (job,)).fetchall())

    def is_expired(self, taken: Taken, clock_is_set: bool) -> bool | None:
        """Whether the time to begin is over; None: this board cannot tell until a collector has said so again."""
        if taken.expires_unix_s is None or taken.expires_s is None:
            return False
        if taken.boot_id == self._boot_id:
            return self._stopwatch() >= taken.expires_s
        return self._outbox.clock() >= taken.expires_unix_s if clock_is_set else None

    def _ends(self, order: Order) -> tuple[float | None, float | None]:
        if order.expires_in_s is None:
            return None, None
        return self._stopwatch() + order.expires_in_s, self._outbox.clock() + order.expires_in_s

    def _select(self, where: str, *values: object) -> list[Taken]:
        past = "taken_unix_s, ran_s, restarts, boot_id, expires_s, expires_unix_s"
        with self._outbox.reading() as db:
            rows = db.execute(f"SELECT body, {_STANDING}, {past} FROM job {where}", values).fetchall()
        return [Taken(codec.decode(body, Order), _standing_of(row[:6]), *row[6:]) for body, *row in rows]

    def _standing(self, db: sqlite3.Connection, job: str) -> Standing | None:
        row = db.execute(f"SELECT {_STANDING} FROM job WHERE id = ?", (job,)).fetchone()
        return None if row is None else _standing_of(row)

    def _forget_old(self, db: sqlite3.Connection) -> None:
        ended = f"SELECT id FROM job WHERE state IN ({_FINAL})"
        before = self._outbox.clock() - KEPT_S
        db.execute(f"DELETE FROM job WHERE id IN ({ended} AND changed_unix_s < ?)", (before,))
        db.execute(
            f"DELETE FROM job WHERE id IN ({ended} ORDER BY changed_unix_s DESC LIMIT -1 OFFSET ?)", (MOST_KEPT,)
        )
        db.execute("DELETE FROM job_told WHERE job NOT IN (SELECT id FROM job)")


def _standing_of(row: list[object] | tuple[object, ...]) -> Standing:
    state, version, reason, cells, done, cancel = row
    return Standing(State(state), version, reason, cells, done, bool(cancel))  # type: ignore[arg-type]
