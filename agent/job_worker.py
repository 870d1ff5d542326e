"""Runs the jobs of this board, one at a time, the most urgent first, by the same path as `run`.

A job is its own campaign, so that a reboot costs the cell in hand and nothing else. It ends early when it is not wanted
any more or its time is over; the cell in hand is then dropped, and what was finished is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from agent.campaigns import Campaigns
from agent.control import RunRequest
from agent.host import Host
from agent.job_book import JobBook, Taken
from agent.job_desk import JobDesk
from agent.job_rules import JobRefused, JobRules, suite_for
from agent.measuring import AnyReport, CellDone, Tell
from agent.outbox import Outbox
from agent.spool import value
from agent.stopping import Stop
from phasewatt.errors import PhasewattError, Stopped, StoreUnavailable
from phasewatt.fields import Outcome
from phasewatt.jobs import State

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_WATCH_S = 0.2
_STOP_TIMEOUT_S = 60.0


class Execute(Protocol):
    """How a suite is run here."""

    def __call__(self, request: RunRequest, tell: Tell, stop: Stop, campaigns: Campaigns | None = None) -> None:
        """Run it. Raises Stopped when asked to end."""


class Board(Protocol):
    """What of a station a worker needs."""

    host: Host
    outbox: Outbox
    book: JobBook
    desk: JobDesk | None
    jobs_came: threading.Event

    def notify(self) -> None:
        """Tell the link that there is something to send."""

    def largest_memory_bytes(self) -> int:
        """Of the host or of one of its GPUs."""


class JobCampaigns(Campaigns):
    """The one campaign of a job, named like it; closed or not, it is the job's."""

    def __init__(self, outbox: Outbox, job: str) -> None:
        super().__init__(outbox)
        self._job = job
        self._spool = outbox

    def open_campaign(self, suite_digest: str) -> str | None:
        """The job's campaign, if it was begun."""
        with self._spool.reading() as db:
            found: str | None = value(db, "SELECT id FROM campaign WHERE id = ?", self._job)
            return found

    def start_campaign(self, suite_digest: str) -> str:
        """The job's campaign; it is nobody else's to go on with, whatever its suite."""
        with self._spool.transaction() as db:
            row = (self._job, f"job {self._job}", self._spool.clock())
            db.execute("INSERT OR IGNORE INTO campaign VALUES (?, ?, ?, NULL)", row)
        return self._job


class JobWorker:
    """A thread that takes from the book what is next. `busy` is held while a suite runs here, whoever asked for it."""

    def __init__(
        self,
        board: Board,
        rules: JobRules,
        execute: Execute,
        busy: threading.Lock,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._rules = rules
        self._execute = execute
        self._busy = busy
        self._stopwatch = stopwatch
        self._stopping = Stop()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin, with the job that was in hand when this board last went down, if there was one."""
        self._thread.start()

    def stop(self) -> None:
        """Put the job in hand aside: it goes on when the agent comes back."""
        self._stopping.set()
        self._board.jobs_came.set()
        self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self.turn():
                    continue
            except StoreUnavailable as error:
                logger.error("no job is run: %s", error)
            except Exception:  # the daemon outlives whatever a job did
                logger.exception("a job failed unexpectedly")
            self._board.jobs_came.wait(_LOOK_S)
            self._board.jobs_came.clear()

    def turn(self) -> bool:
        """Do what is next; whether there was anything to do."""
        for taken in self._board.book.open():
            if taken.standing.cancel:
                self._end(taken, State.CANCELLED, "cancelled before it ended")
                return True
            if taken.standing.state is State.QUEUED and not self._may_begin(taken):
                continue
            return self._take_up(taken)
        return False

    def _may_begin(self, taken: Taken) -> bool:
        """Whether a waiting job's time has come; one whose time is over ends here."""
        clock_is_set = self._board.host.clock().synchronised is not False
        expired = self._board.book.is_expired(taken, clock_is_set)
        if expired:
            self._end(taken, State.TIMED_OUT, "it expired before this board began it")
            return False
        if not clock_is_set and not self._rules.unsynchronised_clock:
            self._wait_for_clock(taken)
            return False
        return expired is False  # None: a collector will say

    def _wait_for_clock(self, taken: Taken) -> None:
        waited_s = self._board.outbox.clock() - taken.taken_unix_s
        reason = "this board's clock is not set (not synchronised)"
        if not 0 <= waited_s < self._rules.clock_wait_s:
            remedy = "set up NTP, or allow it with jobs.unsynchronised_clock in its agent.toml"
            self._end(taken, State.REJECTED, f"{reason}: {remedy}")
        elif taken.standing.reason is None:
            self._change(taken, State.QUEUED, f"waits: {reason}")

    def _take_up(self, taken: Taken) -> bool:
        if not self._busy.acquire(blocking=False):
            return False
        try:
            self._carry_out(taken)
        finally:
            self._busy.release()
        return True

    def _carry_out(self, taken: Taken) -> None:
        if taken.restarts > self._rules.most_restarts:
            reason = f"this board went down {taken.restarts} times within one cell (jobs.most_restarts)"
            self._end(taken, State.FAILED, reason)
            return
        try:
            suite = suite_for(taken.order, self._rules, self._board.largest_memory_bytes())
        except JobRefused as error:  # the allow-list changed meanwhile
            begun = taken.standing.state is State.IN_PROGRESS
            self._end(taken, State.FAILED if begun else State.REJECTED, str(error))
            return
        if taken.standing.state is State.QUEUED:
            self._change(taken, State.IN_PROGRESS, None, cells=len(suite.cells) * suite.measure.repeats)
        run = _Run(self._board, taken, self._rules.timeout_s(taken.order), self._stopping, self._stopwatch)
        try:
            self._execute(
                RunRequest(suite=suite, fresh=False), run.tell, run.stop, JobCampaigns(self._board.outbox, taken.job)
            )
        except Stopped:
            self._after_stop(taken, run)
            return
        except PhasewattError as error:
            self._end(taken, State.FAILED, str(error))
            return
        finally:
            run.close()
        self._conclude(taken)

    def _after_stop(self, taken: Taken, run: _Run) -> None:
        if run.cancelled:
            self._end(taken, State.CANCELLED, "cancelled while it ran; what was finished is kept")
        elif run.timed_out:
            self._end(taken, State.TIMED_OUT, f"it ran for {run.timeout_s:g} s; what was finished is kept")

    def _conclude(self, taken: Taken) -> None:
        outcomes = self._board.book.outcomes(taken.job)
        total, failed = sum(outcomes.values()), outcomes.get(Outcome.FAILED.value, 0)
        skipped, done = outcomes.get(Outcome.SKIPPED.value, 0), outcomes.get(Outcome.OK.value, 0)
        words = [f"{n} {word}" for n, word in ((failed, "failed"), (skipped, "skipped")) if n]
        reason = f"of {total} cells {' and '.join(words)}; see its trials" if words else None
        self._end(taken, State.FAILED if failed or not done else State.SUCCEEDED, reason)

    def _end(self, taken: Taken, state: State, reason: str | None) -> None:
        logger.info("job %s: %s%s", taken.job, state.value, f": {reason}" if reason else "")
        done = sum(self._board.book.outcomes(taken.job).values())
        self._change(taken, state, reason, done=done)

    def _change(self, taken: Taken, state: State, reason: str | None, **progress: int | None) -> None:
        self._board.book.change(taken.job, state, reason, **progress)
        _speak(self._board)


class _Run:
    """One life of a job: its stop, the time that it took, and its progress."""

    def __init__(
        self, board: Board, taken: Taken, timeout_s: float, stopping: Stop, stopwatch: Callable[[], float]
    ) -> None:
        self.stop = Stop()
        self.cancelled = self.timed_out = False
        self.timeout_s = timeout_s
        self._board = board
        self._job = taken.job
        self._stopping = stopping
        self._stopwatch = stopwatch
        self._began_s = stopwatch() - taken.ran_s
        self._over = threading.Event()
        board.book.note_run(taken.job, taken.ran_s, taken.restarts + 1)
        self._watch = threading.Thread(target=self._look, name="job-watch", daemon=True)
        self._watch.start()

    def tell(self, report: AnyReport) -> None:
        """Note each finished cell."""
        if isinstance(report, CellDone):
            self._board.book.note_run(self._job, self._stopwatch() - self._began_s, 1)
            done = sum(self._board.book.outcomes(self._job).values())
            self._board.book.change(self._job, State.IN_PROGRESS, None, done=done)
            _speak(self._board)

    def close(self) -> None:
        """End the watch."""
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(_WATCH_S):
            if self._stopping.is_set():
                self.stop.set()
            if self._stopwatch() - self._began_s >= self.timeout_s:
                self.timed_out = True
                self.stop.set()
            try:
                taken = self._board.book.find(self._job)
            except StoreUnavailable:
                continue
            if taken is not None and taken.standing.cancel:
                self.cancelled = True
                self.stop.set()


def _speak(board: Board) -> None:
    """Have the newest words said."""
    if board.desk is not None:
        board.desk.changed()
    board.notify()
