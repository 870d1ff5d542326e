"""A recording in place of a sensor: plays the traces of a file, again and again. What it gives is marked simulated.

The file holds one Trace record a line, as an agent writes them.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable
from pathlib import Path

from phasewatt import codec, series
from phasewatt.errors import MeterUnavailable, RecordRejected
from phasewatt.fields import Reading
from phasewatt.traces import Trace


class Replay:
    """See `Meter`; time in the recording starts at the first reading."""

    simulated = True
    driver = None
    mode = None
    refused: tuple[str, ...] = ()

    def __init__(self, period_s: float, argument: str = "", clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        traces = _recorded(Path(argument))
        self.channels = traces[0].channels
        self.read_costs_s = (None,) * len(self.channels)
        times_ns = [at for trace in traces for at in series.unpack_times(trace.time)]
        self._times_ns = [at - times_ns[0] for at in times_ns]
        self._columns = [
            [value for trace in traces for value in series.unpack(trace.values[index])]
            for index in range(len(self.channels))
        ]
        self._clock_ns = clock_ns
        self._began_ns: int | None = None

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        """See `Meter.read`: the last values that were recorded by now."""
        now_ns = self._clock_ns()
        self._began_ns = now_ns if self._began_ns is None else self._began_ns
        rounds, at_ns = divmod(now_ns - self._began_ns, self._times_ns[-1] + 1)
        row = bisect.bisect_right(self._times_ns, at_ns) - 1
        return tuple(self._value(index, row, rounds) for index in range(len(self.channels)))

    def notes(self) -> tuple[str, ...]:
        """See `Meter.notes`: nothing happens to a recording."""
        return ()

    def close(self) -> None:
        """See `Meter.close`."""

    def _value(self, index: int, row: int, rounds: int) -> float | None:
        column = self._columns[index]
        value = column[row]
        if value is None or self.channels[index].reading is not Reading.COUNTER:
            return value
        present = [joules for joules in column if joules is not None]
        return value + rounds * (present[-1] - present[0])  # a counter runs on


def _recorded(path: Path) -> list[Trace]:
    try:
        traces = [codec.decode(line, Trace) for line in path.read_bytes().splitlines()]
    except (OSError, RecordRejected) as error:
        raise MeterUnavailable(f"replay: cannot read {path}: {error}; expected one Trace record a line") from error
    if not traces or not traces[0].time.steps:
        raise MeterUnavailable(f"replay: {path} holds no trace")
    if any(trace.channels != traces[0].channels for trace in traces):
        raise MeterUnavailable(f"replay: the lines of {path} have other channels than its first: one recording a file")
    times_ns = [at for trace in traces for at in series.unpack_times(trace.time)]
    if times_ns != sorted(times_ns):
        raise MeterUnavailable(f"replay: the lines of {path} are not in order of time")
    return traces
