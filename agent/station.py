"""The agent's parts, put together: the one place where they meet."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from agent import kept_ceilings
from agent.bench import Bench
from agent.calibrating import Calibrated, Progress, calibrate_here
from agent.campaigns import Campaigns
from agent.cards import CardStore
from agent.cells import Measure
from agent.control import RunRequest, StateLock
from agent.durations import Durations
from agent.host import Host, device_id
from agent.job_book import JobBook
from agent.job_desk import JobDesk
from agent.kept_ceilings import Kept
from agent.link import Link
from agent.live import Audience
from agent.measuring import CeilingsDone, Means, Stage, Tell, run_suite
from agent.meters import NO_METER, asked_for
from agent.outbox import Outbox
from agent.pace import Pace, rates_of
from agent.runner import Metering, Runner
from agent.settings import Settings, broker_of
from agent.stopping import Stop, Until
from agent.surveying import Surveyed, facts_of, survey
from agent.watchdog import DELIVERY_S
from agent.watchdog import Progress as Watched
from phasewatt import codec
from phasewatt.errors import ConfigInvalid, MeterUnavailable, Stopped, StoreUnavailable
from phasewatt.hosts import HostFacts
from phasewatt.messages import Facts
from phasewatt.records import Event

logger = logging.getLogger(__name__)

_LONGEST_NAME = 256  # characters, as records allow
_LONGEST_REASON = 4096

Calibrate = Callable[[Sequence[Surveyed], CardStore, Stop, Progress], list[Calibrated]]


class Station:
    """One agent on its state directory: measures, keeps, delivers.

    Raises:
        StateBusy: another agent works there.
        ConfigInvalid, StoreUnavailable: the settings or the disk do not allow it.
    """

    def __init__(
        self,
        state: Path,
        settings: Settings,
        sends_telemetry: bool = False,
        takes_jobs: bool = False,
        calibrate: Calibrate = calibrate_here,
        watched: Watched | None = None,
    ) -> None:
        broker = broker_of(settings.broker)
        self._state = state
        with ExitStack() as undone:
            self._lock = undone.enter_context(closing(StateLock(state)))
            self.host = Host(device_id(state, settings.device), Path(settings.root))
            self._cards = CardStore(state)
            self._asked = settings.meters
            self._found = survey(asked_for(settings.meters, settings.root), self._cards)
            self._labels = settings.labels
            self._ceilings = kept_ceilings.load(state)
            self.facts = self._facts()
            self._metering = _metering(settings.meters, self._found, self._cards)
            self.outbox = Outbox.open(state, settings.outbox_cap_bytes)
            undone.pop_all()  # from here on, `close` lets go of them
        self._exports = state / "exports"
        self._calibrate = calibrate if settings.calibrate else None
        self.link: Link | None = None
        self.book = JobBook(self.outbox, self.host.boot_id)
        self.desk: JobDesk | None = None
        self.jobs_came = threading.Event()
        if broker is not None and takes_jobs:
            self.desk = JobDesk(
                *(self.host.device, self.book, settings.jobs, self.largest_memory_bytes()),
                came=self.jobs_came.set,
                complain=self.note,
            )
        self.audience = Audience(self.notify) if sends_telemetry else None
        if broker is not None:
            self.link = Link(
                broker,
                self.outbox,
                Facts(schema=codec.SCHEMA, host=self.facts),
                self.host.clock,
                telemetry_interval_s=settings.telemetry_interval_s if sends_telemetry else None,
                audience=self.audience,
                jobs=self.desk,
                beat=(watched or Watched()).part("delivery", DELIVERY_S),
            )
            self.link.start()
        self._campaigns = Campaigns(self.outbox)
        if self.outbox.set_aside is not None:
            self.note("spool-set-aside", f"the outbox was damaged: set aside as {self.outbox.set_aside.name}")

        if self._cards.set_aside is not None:
            self.note("cards-set-aside", f"the sensor cards were damaged: set aside as {self._cards.set_aside.name}")

    def execute(self, request: RunRequest, tell: Tell, stop: Stop, campaigns: Campaigns | None = None) -> None:
        """Run a suite, as the next campaign of this board or of `campaigns`.

        Raises:
            Stopped: asked to end.
        """
        until = None if request.for_s is None else Until(stop, request.for_s)
        stop = until or stop

        def told(report: object) -> None:
            tell(report)  # type: ignore[arg-type]
            if isinstance(report, CeilingsDone):
                self._keep(report)
            self.notify()

        def stage(text: str) -> None:
            tell(Stage(text=text))

        self._look()
        try:
            self._take_cards(stop, stage)
        except Stopped:
            if until is None or not until.is_over:
                raise  # else there is no time for a cell either, which `run_suite` says
        bench = Bench(stop, stage, self._exports)
        runner = Runner(self.host, bench, self._metering, stop, stage)
        try:
            kept = campaigns or self._campaigns
            means = Means(runner, kept, self._pace(request.suite.measure), told, stop.pause, until)
            run_suite(request.suite, request.fresh, means)
        finally:
            bench.clear()

    def _keep(self, done: CeilingsDone) -> None:
        """The ceilings with the facts of this host; what is simulated is none of its."""
        if done.ceilings and not done.simulated:
            self._ceilings = Kept(measured_unix_s=time.time(), ceilings=done.ceilings)
            kept_ceilings.keep(self._state, self._ceilings)
            self._tell_facts()

    def _pace(self, measure: Measure) -> Pace:
        rates = rates_of(bool(self.facts.gpus), self.host.jetson is not None)
        return Pace(measure, Durations(self._state), rates, bool(self._metering.meters))

    def _take_cards(self, stop: Stop, stage: Callable[[str], None]) -> None:
        """Sensor cards for the meters that have none for this driver and mode; what fails is said and goes without."""
        if self._calibrate is None:
            return
        due = [meter for meter in self._found if meter.uncalibrated and meter.reason is None]
        if not due:
            return
        try:
            outcomes = self._calibrate(due, self._cards, stop, stage)
        except StoreUnavailable as error:  # the cards hold all the same, until the agent ends
            outcomes = []
            stage(str(error))
        for outcome in outcomes:
            if outcome.reason is not None:
                of = f"{outcome.meter} {outcome.channel.source}" if outcome.channel else outcome.meter
                stage(f"no whole sensor card for {of}: {outcome.reason}")
        self._look()

    def _look(self) -> None:
        """Survey the meters again: one may have come or gone, or changed driver and mode. Tell what is new of them."""
        self._found = survey([meter.meter for meter in self._found], self._cards)
        try:
            self._metering = _metering(self._asked, self._found, self._cards)
        except (ConfigInvalid, MeterUnavailable):  # a named one has gone: trials will say so, and it may come back
            self._metering = self._metering._replace(said=_said(self._found))
        self._tell_facts()

    def _tell_facts(self) -> None:
        """Tell what is new of this host."""
        facts = self._facts()
        if facts != self.facts:
            self.facts = facts
            if self.link is not None:
                self.link.tell(Facts(schema=codec.SCHEMA, host=facts))

    def _facts(self) -> HostFacts:
        kept = self._ceilings
        return msgspec.structs.replace(
            self.host.facts(facts_of(self._found)),
            labels=self._labels,
            ceilings=() if kept is None else kept.ceilings,
            ceilings_unix_s=None if kept is None else kept.measured_unix_s,
        )

    def largest_memory_bytes(self) -> int:
        """All the memory of the host or of one of its GPUs, whichever has more."""
        return max([self.facts.memory_bytes, *(gpu.memory_bytes or 0 for gpu in self.facts.gpus)])

    @property
    def meter_names(self) -> tuple[str, ...]:
        """The meters that are read here."""
        return self._metering.meters

    def note(self, name: str, message: str) -> None:
        """Keep and deliver an event."""
        logger.warning("%s: %s", name, message)
        event = Event(
            device=self.host.device,
            boot_id=self.host.boot_id,
            time_unix_s=time.time(),
            name=name,
            message=message,
        )
        self.outbox.append([event])
        self.notify()

    def notify(self) -> None:
        """Tell the link that there is something to send."""
        if self.link is not None:
            self.link.notify()

    def close(self) -> None:
        """Take leave of the broker and let go of the state directory."""
        if self.link is not None:
            self.link.stop()
        self.outbox.close()
        self._lock.close()


def _check_names(found: Sequence[Surveyed]) -> None:
    """Raise ConfigInvalid where two meters have a channel of one name: their watts would be added up."""
    names = [(c.scope, c.source, c.name, c.reading) for meter in found for c in meter.channels if c.scope is not None]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigInvalid(
            f"meters: two of them read {twice[2]!r} ({twice[1]}): name each once; two wall meters need a name= each"
        )


def _metering(asked: tuple[str, ...] | None, found: Sequence[Surveyed], cards: CardStore) -> Metering:
    """The meters to read: those asked for, which must answer, else those that do."""
    if asked == (NO_METER,):
        return Metering((), "no meter: switched off by the settings")
    usable = tuple(meter.meter for meter in found if meter.reason is None)
    refused = "; ".join(f"{meter.meter}: {meter.reason}" for meter in found if meter.reason is not None)
    if asked is not None and refused:
        raise MeterUnavailable(refused)
    _check_names(found)
    return Metering(usable, None if usable else f"no power sensor ({refused})", cards, _said(found))


def _said(found: Sequence[Surveyed]) -> dict[str, str]:
    """What each meter said, cut to what a trial can hold."""
    return {facts.meter[:_LONGEST_NAME]: facts.reason[:_LONGEST_REASON] for facts in facts_of(found)}
