"""The board's state about once a second, committed in batches: one record type on every platform."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import psutil

from agent import memory, meters
from agent.host import Host
from agent.outbox import Outbox
from agent.stopping import Stop
from phasewatt import series
from phasewatt.errors import MeterUnavailable, PhasewattError
from phasewatt.records import Telemetry

logger = logging.getLogger(__name__)


class Column(NamedTuple):
    """One figure that is sampled; `scale` is the step that it is stored in."""

    name: str
    unit: str
    scale: float
    read: Callable[[], float | None]


class Telemeter:
    """Samples every `period_s` and commits a Telemetry record every `batch_s`, in a thread of its own.

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
    ) -> None:
        self._host = host
        self._outbox = outbox
        self._committed = committed
        self._batch_s = batch_s
        self._period_s = period_s
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._meters = _open_meters(meter_names, period_s)
        self._columns = _columns(host)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what was sampled, and end."""
        self._stop.set()
        self._thread.join()
        for meter in self._meters:
            meter.close()

    def _run(self) -> None:
        psutil.cpu_percent()  # counts from its last call in this thread; the first has nothing to count from
        due_ns = time.monotonic_ns()
        ended = False
        while not ended:
            times_ns: list[int] = []
            rows: list[list[float | None]] = []
            started_unix_s = time.time() + self._period_s
            while not ended and (not times_ns or times_ns[-1] - times_ns[0] < self._batch_s * 1e9):
                due_ns = max(due_ns + round(self._period_s * 1e9), time.monotonic_ns())
                ended = self._stop.wait((due_ns - time.monotonic_ns()) * 1e-9)
                times_ns.append(time.monotonic_ns())
                rows.append(self._sample())
            self._commit(times_ns, rows, started_unix_s)

    def _sample(self) -> list[float | None]:
        return [_read(column) for column in self._columns] + [v for meter in self._meters for v in meter.read()]

    def _commit(self, times_ns: Sequence[int], rows: Sequence[Sequence[float | None]], started_unix_s: float) -> None:
        named = [(c.name, c.unit, c.scale) for c in self._columns] + [
            (f"{c.scope.value if c.scope else c.source}/{c.name}/{c.reading.value}", c.unit, 1e-3)
            for meter in self._meters
            for c in meter.channels
        ]
        record = Telemetry(
            device=self._host.device,
            boot_id=self._host.boot_id,
            started_unix_s=started_unix_s,
            time=series.pack_times(times_ns),
            values=tuple(series.pack(*name, [row[i] for row in rows]) for i, name in enumerate(named)),
        )
        try:
            self._outbox.append([record])
            self._committed()
        except PhasewattError as error:
            logger.error("telemetry of %.0f s lost: %s", self._batch_s, error)


def _read(column: Column) -> float | None:
    """The figure, or None where this host does not give it now: one column never ends the others."""
    try:
        return column.read()
    except (OSError, AttributeError, ValueError, RuntimeError, psutil.Error) as error:
        logger.debug("%s: %s", column.name, error)
        return None


def _open_meters(names: Sequence[str], period_s: float) -> list[meters.Meter]:
    opened = []
    for name in names:
        with suppress(MeterUnavailable):
            opened.append(meters.open_meter(name, period_s))
    return opened


def _columns(host: Host) -> tuple[Column, ...]:
    gpus = host.gpus
    everywhere = (
        Column("cpu_busy", "1", 1e-3, lambda: psutil.cpu_percent() / 100),
        Column("memory_available", "B", 1024.0, memory.available_bytes),
        Column("swap_used", "B", 1024.0, lambda: psutil.swap_memory().used),
        Column("load_1min", "1", 1e-2, lambda: os.getloadavg()[0]),
        Column("temperature", "degC", 0.1, host.temperature_c),
        Column("disk_free", "B", 1024.0, lambda: psutil.disk_usage("/").free),
        Column("network_sent", "B", 1.0, lambda: psutil.net_io_counters().bytes_sent),
        Column("network_received", "B", 1.0, lambda: psutil.net_io_counters().bytes_recv),
    )
    if not gpus.facts():
        return everywhere
    return (
        *everywhere,
        Column("gpu_busy", "1", 1e-2, gpus.utilisation),
        Column("gpu_clock", "Hz", 1e6, gpus.clock_hz),
        Column("gpu_temperature", "degC", 1.0, gpus.temperature_c),
        Column("gpu_memory_used", "B", 1024.0, gpus.memory_used_bytes),
    )
