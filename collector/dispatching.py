"""Hands jobs to boards and hears what becomes of them: schedules, expiry, notices, and the answers to boards' words.

What a board must be told is said again until the board shows that it knows. It is read off the store each time, so that
a collector which was away, or which shares its store with others, goes on from what is there.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from collector import job_spec, schedules
from collector.conditions import printable
from collector.inbox import Message
from collector.job_spec import Execution, JobRow
from collector.periodic import Periodic
from collector.store import DeviceRow, Store
from phasewatt import codec, jobs, topics
from phasewatt.errors import RecordRejected, StoreUnavailable
from phasewatt.jobs import JobGet, JobNotice, JobUpdate
from phasewatt.messages import Presence

PERIOD_S = 1.0
AGAIN_S = 30.0
_STOP_TIMEOUT_S = 30.0

logger = logging.getLogger(__name__)
Publish = Callable[[str, bytes], object]


class _Told(NamedTuple):
    revision: int
    at_s: float


class Dispatcher:
    """Both directions of jobs, on one store. `answer` is called by whoever takes messages from the broker."""

    def __init__(
        self,
        store: Store,
        publish: Publish,
        listens: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
        period_s: float = PERIOD_S,
        again_s: float = AGAIN_S,
    ) -> None:
        self._store = store
        self._publish = publish
        self._listens = listens
        self._clock = clock
        self._stopwatch = stopwatch
        self._again_s = again_s
        self._told: dict[tuple[str, str], _Told] = {}
        self._trouble: str | None = None
        self._steps = Periodic(self._go_on, self._note, name="jobs", period_s=period_s, patience_s=_STOP_TIMEOUT_S)

    def start(self) -> None:
        """Begin."""
        self._steps.start()

    def stop(self) -> None:
        """End after the step that is going on."""
        self._steps.stop()

    def answer(self, messages: Iterable[Message]) -> None:
        """Take boards' words, and answer each. What is none is put aside and counted."""
        for message in messages:
            self._answer_or_note(message)

    def step(self) -> None:
        """Make what is due, end what expired, and say what boards must still be told.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_unix_s = self._clock()
        submitted = {job.id: job for job in self._store.jobs.jobs()}
        for job in submitted.values():
            self._occur(job, now_unix_s)
        standing = self._store.jobs.executions(open_only=True)
        for execution in standing:
            self._expire(execution, now_unix_s)
        if self._listens():
            self._tell(submitted, standing, now_unix_s)

    def _go_on(self) -> None:
        self.step()
        self._trouble = None

    def _answer_or_note(self, message: Message) -> None:
        try:
            self._answer(message)
        except RecordRejected as error:
            logger.warning("put aside a message on %r: %s", message.topic, printable(str(error)))
            self._put_aside(message, str(error))
        except Exception as error:  # noqa: BLE001 - whatever one message meets, the stream of all must go on
            self._note(error)  # the board says it again

    def _occur(self, job: JobRow, now_unix_s: float) -> None:
        """Of a schedule make the newest moment alone: what a centre that was away missed makes no sense any more."""
        schedule = job.spec.schedule
        if schedule is None or job.cancelled:
            return
        after_unix_s = job.last_due_unix_s or job.created_unix_s
        due_unix_s = schedules.newest_due(schedule.cron, schedule.timezone, after_unix_s, now_unix_s)
        if due_unix_s is None:
            return
        made = job_spec.executions_of(job, due_unix_s, self._store.devices(), now_unix_s)
        self._store.jobs.occur(job, due_unix_s, made)
        logger.info("job %s: due, for %d targets", made[0].id, len(made))
        for older in self._store.jobs.executions(job.id, open_only=True):
            if older.due_unix_s is not None and older.due_unix_s < due_unix_s and not _has_begun(older):
                self._withdraw(older, f"superseded by {made[0].id}", now_unix_s)

    def _withdraw(self, execution: Execution, reason: str, now_unix_s: float) -> None:
        after = jobs.cancelled(execution.standing, reason)
        if after is not None:
            self._store.jobs.change(execution, after, now_unix_s)  # else the board spoke: the next step looks again

    def _expire(self, execution: Execution, now_unix_s: float) -> None:
        expires = execution.expires_unix_s
        if expires is None or now_unix_s < expires:
            return
        moment = datetime.datetime.fromtimestamp(expires, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        after = jobs.expired(execution.standing, f"expired at {moment}: this board took no notice of it by then")
        if after is not None:
            self._store.jobs.change(execution, after, now_unix_s)

    def _tell(self, submitted: dict[str, JobRow], standing: Sequence[Execution], now_unix_s: float) -> None:
        unsaid = [execution for execution in standing if execution.standing.needs_word and self._is_due(execution)]
        self._told = {key: told for key, told in self._told.items() if key in {(e.id, e.device) for e in standing}}
        if not unsaid:
            return
        away = {row.device for row in self._store.devices() if _is_away(row)}  # they ask when they come
        for device in {execution.device for execution in unsaid} - away:
            theirs = [execution for execution in standing if execution.device == device]
            self._notify(device, theirs, submitted, {}, now_unix_s)

    def _is_due(self, execution: Execution) -> bool:
        told = self._told.get((execution.id, execution.device))
        return told is None or told.revision != execution.revision or self._stopwatch() - told.at_s >= self._again_s

    def _notify(
        self,
        device: str,
        executions: Sequence[Execution],
        submitted: dict[str, JobRow],
        held: dict[str, int],
        now_unix_s: float,
    ) -> None:
        urgent = sorted(
            (execution for execution in executions if execution.job in submitted),
            key=lambda e: (not e.standing.cancel, -submitted[e.job].spec.priority, e.created_unix_s, e.id),
        )[: jobs.MAX_ORDERS]
        orders = [job_spec.order_of(each, submitted[each.job].spec, now_unix_s) for each in urgent]
        notice = JobNotice(
            device=device,
            generation=self._store.generation,
            orders=tuple(msgspec.Raw(codec.encode(order)) for order in orders),
            held=held,
        )
        self._publish(topics.job_notify(device), codec.pack(codec.encode(notice)))
        at_s = self._stopwatch()
        self._told |= {(each.id, device): _Told(each.revision, at_s) for each in urgent}

    def _answer(self, message: Message) -> None:
        topic = topics.parse(message.topic)
        if len(message.payload) > codec.MAX_PAYLOAD_BYTES:
            raise RecordRejected(f"a payload of more than {codec.MAX_PAYLOAD_BYTES} bytes")
        kind: type[JobGet | JobUpdate] = JobGet if topic.leaf == "job/get" else JobUpdate
        word = codec.decode(codec.unpack(message.payload), kind)
        if word.device != topic.device:
            raise RecordRejected(f"a message of device {word.device} on the topic of another")
        now_unix_s = self._clock()
        held: dict[str, int] = {}
        if isinstance(word, JobUpdate):
            held = self._store.jobs.hear(word.device, word.reports, now_unix_s)
            if not held:
                return  # of another store's jobs
        standing = self._store.jobs.executions(device=word.device, open_only=True)
        submitted = {job.id: job for job in self._store.jobs.jobs()}
        wanted = [each for each in standing if isinstance(word, JobGet) or each.standing.needs_word]
        self._notify(word.device, wanted, submitted, held, now_unix_s)

    def _put_aside(self, message: Message, reason: str) -> None:
        try:
            device = topics.parse(message.topic).device
            self._store.quarantine(device, message.topic, message.payload, reason, self._clock())
        except (RecordRejected, StoreUnavailable) as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        trouble = printable(f"{type(error).__name__}: {error}")
        if trouble != self._trouble:
            logger.error("jobs wait: %s", trouble, exc_info=None if isinstance(error, StoreUnavailable) else error)
        self._trouble = trouble


def _has_begun(execution: Execution) -> bool:
    return execution.standing.state is jobs.State.IN_PROGRESS


def _is_away(row: DeviceRow) -> bool:
    return row.status is not None and row.status.presence is Presence.OFFLINE
