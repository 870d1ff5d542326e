"""The board's state about once a second, committed in batches: one record type on every platform."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

from agent import meters
from agent.columns import columns_of
from agent.host import Host
from agent.live import Audience
from agent.outbox import Outbox
from agent.stopping import Stop
from agent.watchdog import Beat, unwatched
from phasewatt import series
from phasewatt.errors import MeterUnavailable, PhasewattError
from phasewatt.traces import Channel, Telemetry

logger = logging.getLogger(__name__)

_FIRST_S = 0.25  # from the start to the first sample: CPU load is counted over some stretch


Open = Callable[[str, float], meters.Meter]


class Source:
    """A meter whose columns stay while it is let go of, or cannot be opened again."""

    def __init__(self, name: str, period_s: float, open_meter: Open) -> None:
        """Raises MeterUnavailable if it does not answer."""
        self._name = name
        self._period_s = period_s
        self._open = open_meter
        meter = open_meter(name, period_s)
        self._meter: meters.Meter | None = meter
        self.channels = meter.channels
        self.simulated = meter.simulated
        self.exclusive = name.partition(":")[0] in meters.EXCLUSIVE

    def read(self) -> tuple[float | None, ...]:
        """A value a channel, see `Meter.read`; None while it is not open."""
        return (None,) * len(self.channels) if self._meter is None else self._meter.read()

    def close(self) -> None:
        """Let go of the meter."""
        if self._meter is not None:
            self._meter.close()
        self._meter = None

    @property
    def is_open(self) -> bool:
        """Whether it is read."""
        return self._meter is not None

    def opened(self) -> meters.Meter | None:
        """The meter, newly opened; None where it does not answer, or answers otherwise than before."""
        try:
            meter = self._open(self._name, self._period_s)
        except MeterUnavailable as error:
            logger.warning("telemetry goes on without %s: %s", self._name, error)
            return None
        if _columns(meter.channels) == _columns(self.channels):
            return meter
        logger.warning("telemetry goes on without %s: it has other channels now", self._name)
        meter.close()
        return None

    def take(self, meter: meters.Meter) -> None:
        """Read that meter from now on."""
        self._meter = meter


class Telemeter:
    """Samples every `period_s` and commits a Telemetry record every `batch_s`, in a thread of its own.

    The first batch is of `first_batch_s`, so that whoever waits for a board that was just started sees it soon.

    The stretch since the last commit is what a power cut can take: the stated loss window.
    """

    def __init__(
        self,
        host: Host,
        outbox: Outbox,
        committed: Callable[[], None],
        batch_s: float,
        period_s: float = 1.0,
        meter_names: Sequence[str] = meters.AUTOMATIC,
        audience: Audience | None = None,
        open_meter: Open = meters.open_meter,
        first_batch_s: float | None = None,
        beat: Beat = unwatched,
    ) -> None:
        self._host = host
        self._outbox = outbox
        self._committed = committed
        self._batch_s = batch_s
        self._first_batch_s = batch_s if first_batch_s is None else first_batch_s
        self._beat = beat
        self._period_s = period_s
        self._audience = audience
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._reading = threading.Lock()  # of the sources
        self._suspended = False
        self._reopens = threading.Event()
        self._sources = _opened(meter_names, period_s, open_meter)
        self._columns = columns_of(host)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what was sampled, and end."""
        self._stop.set()
        self._thread.join()
        with self._reading:  # `suspended` may be opening one in another thread
            for source in self._sources:
                source.close()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """While this lasts, meters that one process alone can read are let go of, and their columns are missing."""
        with self._reading:
            self._suspended = True
            for source in self._sources:
                if source.exclusive:
                    source.close()
        try:
            yield
        finally:
            self._suspended = False
            self._reopens.set()

    def _run(self) -> None:
        psutil.cpu_percent()  # counts from its last call in this thread; the first has nothing to count from
        batch_s, lead_s = self._first_batch_s, min(_FIRST_S, self._period_s)
        due_ns = time.monotonic_ns() + round((lead_s - self._period_s) * 1e9)
        ended = False
        while not ended:
            times_ns: list[int] = []
            rows: list[list[float | None]] = []
            started_unix_s = time.time() + lead_s
            self._reopens.set()
            while not ended and (not times_ns or times_ns[-1] - times_ns[0] < batch_s * 1e9):
                due_ns = max(due_ns + round(self._period_s * 1e9), time.monotonic_ns())
                ended = self._stop.wait((due_ns - time.monotonic_ns()) * 1e-9)
                if self._reopens.is_set() and not ended:
                    self._reopens.clear()
                    self._reopen()
                self._beat()
                times_ns.append(time.monotonic_ns())
                rows.append(self._sample())
                self._show(times_ns[-1], rows[-1])
            self._commit(times_ns, rows, started_unix_s)
            batch_s, lead_s = self._batch_s, self._period_s

    def _sample(self) -> list[float | None]:
        with self._reading:
            metered = [value for source in self._sources for value in source.read()]
        return [column.read() for column in self._columns] + metered

    def _reopen(self) -> None:
        """Open what is not open; it may take seconds, so nobody who asks for a meter has to wait for it."""
        for source in self._sources:
            meter = None if source.is_open or self._suspended else source.opened()
            if meter is None:
                continue
            with self._reading:
                if wanted := not (self._suspended or self._stop.is_set()):
                    source.take(meter)
            if not wanted:
                meter.close()

    def _show(self, time_ns: int, row: Sequence[float | None]) -> None:
        if self._audience is not None and self._audience.watches:
            self._audience.show(self._record([time_ns], [row], time.time()))

    def _commit(self, times_ns: Sequence[int], rows: Sequence[Sequence[float | None]], started_unix_s: float) -> None:
        try:
            self._outbox.append([self._record(times_ns, rows, started_unix_s)])
            self._committed()
        except PhasewattError as error:
            logger.error("telemetry of %.0f s lost: %s", self._batch_s, error)

    def _record(
        self, times_ns: Sequence[int], rows: Sequence[Sequence[float | None]], started_unix_s: float
    ) -> Telemetry:
        named = [(c.name, c.unit, c.scale) for c in self._columns] + [
            (f"{c.scope.value if c.scope else c.source}/{c.name}/{c.reading.value}", c.unit, 1e-3)
            for source in self._sources
            for c in source.channels
        ]
        return Telemetry(
            device=self._host.device,
            boot_id=self._host.boot_id,
            started_unix_s=started_unix_s,
            time=series.pack_times(times_ns),
            values=tuple(series.pack(*name, [row[i] for row in rows]) for i, name in enumerate(named)),
            simulated=self._host.simulated or any(source.simulated for source in self._sources),
        )


def _columns(channels: Sequence[Channel]) -> list[tuple[str, str, str]]:
    """What tells the columns of one meter apart: not their cards, which may differ from one opening to the next."""
    return [(channel.name, channel.source, channel.unit) for channel in channels]


def _opened(names: Sequence[str], period_s: float, open_meter: Open) -> list[Source]:
    opened = []
    for name in names:
        with suppress(MeterUnavailable):
            opened.append(Source(name, period_s, open_meter))
    return opened
