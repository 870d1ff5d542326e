"""Where jobs come in and words on them go out; the link carries both, and may lose anything.

A notice is taken into the book before it is answered. What the book holds and a store does not is said again, at first
soon and then seldom, until that store says that it has it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from agent.connection import Message
from agent.job_book import JobBook
from agent.job_rules import JobRefused, JobRules, suite_for
from phasewatt import codec, jobs, topics
from phasewatt.errors import RecordRejected, StoreUnavailable
from phasewatt.jobs import JobGet, JobNotice, JobUpdate, Named, Order, Report, Standing, State

logger = logging.getLogger(__name__)

FIRST_AGAIN_S = 2.0
_LAST_AGAIN_S = 600.0
_ASK_AGAIN_S = 600.0
_COMPLAIN_S = 60.0  # between two events about messages that are none

Complain = Callable[[str, str], None]


class JobDesk:
    """The jobs of one board between the link and whoever runs them.

    The link calls `begin`, `hear` and `owed` from its thread; `changed` may come from any.
    """

    def __init__(
        self,
        device: str,
        book: JobBook,
        rules: JobRules,
        memory_bytes: int,
        *,
        came: Callable[[], None],
        complain: Complain,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._book = book
        self._rules = rules
        self._memory_bytes = memory_bytes
        self._came = came  # called when there may be something to run, or to stop
        self._complain = complain
        self._stopwatch = stopwatch
        self._session: str | None = None
        self._ask_s = float("inf")
        self._say_s = float("-inf")
        self._again_s = FIRST_AGAIN_S
        self._said: list[Report] = []
        self._lost: dict[str, Report] = {}  # of jobs that the book does not know any more
        self._complained_s = float("-inf")

    def begin(self, session: str) -> None:
        """A connection stands: ask what is to be done, and say what was not heard yet."""
        self._session = session
        self._ask_s = self._say_s = float("-inf")
        self._again_s = FIRST_AGAIN_S

    def changed(self) -> None:
        """Say soon what is new in the book."""
        self._say_s = float("-inf")
        self._again_s = FIRST_AGAIN_S

    def next_s(self) -> float:
        """When, by the monotonic clock, there may be something to say."""
        return min(self._ask_s, self._say_s)

    def owed(self) -> Iterator[Message]:
        """What to publish now."""
        now_s = self._stopwatch()
        if now_s >= self._ask_s and self._session is not None:
            self._ask_s = now_s + _ASK_AGAIN_S
            get = JobGet(device=self._device, session=self._session)
            yield Message(topics.job_get(self._device), codec.encode(get))
        if now_s >= self._say_s and (reports := self._to_say(now_s)):
            update = JobUpdate(device=self._device, reports=tuple(reports))
            yield Message(topics.job_update(self._device), codec.pack(codec.encode(update)))

    def _to_say(self, now_s: float) -> list[Report]:
        self._say_s = float("inf")  # before the book is read: what changes from here on is said in another turn
        reports = [*self._book.unheard(), *self._lost.values()][: jobs.MAX_ORDERS]
        self._lost.clear()
        self._again_s = min(2 * self._again_s, _LAST_AGAIN_S) if reports == self._said else FIRST_AGAIN_S
        self._said = reports
        if reports:
            self._say_s = min(self._say_s, now_s + self._again_s)
        return reports

    def hear(self, payload: bytes) -> None:
        """Take in what came on the topic for jobs; what is no notice is told of and changes nothing."""
        try:
            notice = self._read(payload)
        except RecordRejected as error:
            self._refuse_message(str(error))
            return
        try:
            for job, version in notice.held.items():
                self._book.told(notice.generation, job, version)
            for order in notice.orders:
                self._take(bytes(order), notice.generation)
        except StoreUnavailable as error:  # it is said again
            logger.error("no job is taken: %s", error)
            return
        self.changed()
        self._came()

    def _read(self, payload: bytes) -> JobNotice:
        notice = codec.decode(codec.unpack(payload, codec.MAX_PAYLOAD_BYTES), JobNotice)
        if notice.device != self._device:
            raise RecordRejected(f"a notice for device {notice.device} on the topic of this one")
        return notice

    def _take(self, body: bytes, generation: str) -> None:
        try:
            order = codec.decode(body, Order)
        except RecordRejected as error:
            self._reject_unread(body, generation, str(error))
            return
        if self._book.find(order.job) is not None:
            self._book.meet(order, generation)
        elif order.held:
            self._lost[order.job] = jobs.unlisted(order.job, order.held)
        elif not order.cancel:
            standing = self._first_look(order)
            self._book.take(order, generation, standing)
            logger.info(
                "job %s: %s%s", order.job, standing.state.value, f": {standing.reason}" if standing.reason else ""
            )

    def _first_look(self, order: Order) -> Standing:
        new = Standing()
        if order.expires_in_s is not None and order.expires_in_s <= 0:
            return jobs.moved(new, State.TIMED_OUT, "it had expired when it came")
        if len(self._book.open()) >= self._rules.most_queued:
            reason = f"{self._rules.most_queued} jobs wait on this board already (jobs.most_queued)"
            return jobs.moved(new, State.REJECTED, reason)
        try:
            suite = suite_for(order, self._rules, self._memory_bytes)
        except JobRefused as error:
            return jobs.moved(new, State.REJECTED, str(error)[:4096])
        return jobs.moved(new, State.QUEUED, None, cells=len(suite.cells))

    def _reject_unread(self, body: bytes, generation: str, reason: str) -> None:
        """Answer by its name what is no order; one that has not even that is told of."""
        try:
            named = codec.decode(body, Named)
        except RecordRejected:
            self._refuse_message(reason)
            return
        if self._book.find(named.job) is None:
            refused = jobs.moved(Standing(), State.REJECTED, reason[:4096])
            self._book.take(Order(job=named.job, suite="unknown"), generation, refused)

    def _refuse_message(self, reason: str) -> None:
        logger.warning("ignored, no notice of jobs: %s", reason)
        if self._stopwatch() - self._complained_s >= _COMPLAIN_S:
            self._complained_s = self._stopwatch()
            try:
                self._complain("job-refused", f"a message on the topic for jobs is none: {reason}"[:4096])
            except StoreUnavailable as error:
                logger.error("that is not kept as an event: %s", error)
