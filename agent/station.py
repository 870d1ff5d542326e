"""The agent's parts, put together: the one place where they meet."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from agent import meters
from agent.bench import Bench
from agent.campaigns import Campaigns
from agent.control import RunRequest, StateLock
from agent.host import Host, device_id
from agent.link import Link
from agent.measuring import Stage, Tell, run_suite
from agent.outbox import Outbox
from agent.runner import Metering, Runner
from agent.settings import Settings, broker_of
from agent.stopping import Stop
from phasewatt import codec
from phasewatt.messages import Facts
from phasewatt.records import Event, HostFacts

logger = logging.getLogger(__name__)


class Station:
    """One agent on its state directory: measures, keeps, delivers.

    Raises:
        StateBusy: another agent works there.
        ConfigInvalid, StoreUnavailable: the settings or the disk do not allow it.
    """

    def __init__(self, state: Path, settings: Settings, sends_telemetry: bool = False) -> None:
        broker = broker_of(settings.broker)
        self._lock = StateLock(state)
        self.host = Host(device_id(state, settings.device))
        self.facts = self.host.facts()
        self.outbox = Outbox.open(state, settings.outbox_cap_bytes)
        self._metering = _metering(settings.meters, self.facts)
        self.link: Link | None = None
        if broker is not None:
            self.link = Link(
                broker,
                self.outbox,
                Facts(schema=codec.SCHEMA, host=self.facts),
                self.host.clock,
                telemetry_interval_s=settings.telemetry_interval_s if sends_telemetry else None,
            )
            self.link.start()
        self._campaigns = Campaigns(self.outbox)
        if self.outbox.set_aside is not None:
            self.note("spool-set-aside", f"the outbox was damaged: set aside as {self.outbox.set_aside.name}")

    def execute(self, request: RunRequest, tell: Tell, stop: Stop) -> None:
        """Run a suite.

        Raises:
            Stopped: asked to end.
        """

        def told(report: object) -> None:
            tell(report)  # type: ignore[arg-type]
            self.notify()

        def stage(text: str) -> None:
            tell(Stage(text=text))

        bench = Bench(stop, stage)
        runner = Runner(self.host, bench, self._metering, stop, stage)
        try:
            run_suite(request.suite, runner, self._campaigns, request.fresh, told, stop.pause)
        finally:
            bench.clear()

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


def _metering(asked: tuple[str, ...] | None, facts: HostFacts) -> Metering:
    """The meters to read: those asked for, which must answer, else those that do."""
    if asked == ("none",):
        return Metering((), "no meter: switched off by the settings")
    if asked is not None:
        for name in asked:
            meters.open_meter(name, 1.0).close()
        return Metering(asked, None)
    usable = tuple(sensor.meter for sensor in facts.sensors if sensor.usable)
    refused = "; ".join(f"{sensor.meter}: {sensor.reason}" for sensor in facts.sensors if not sensor.usable)
    return Metering(usable, None if usable else f"no power sensor ({refused})")
