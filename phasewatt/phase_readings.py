"""What channels beside power showed phase by phase: clocks, temperature, utilisation. Pure.

Travels in the trial, so that a lost trace loses no number. A mean is one over time: near the edges of a window channels
are read oftener than within it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Sequence

from phasewatt.estimate import stood_s
from phasewatt.records import PhaseReading, PhaseRun
from phasewatt.traces import Channel, Trace
from phasewatt.updates import samples_of

_BITS = "bits"  # a mask has no mean: the doubts tell what it says


def phase_readings(traces: Sequence[Trace], runs: Iterable[PhaseRun]) -> tuple[PhaseReading, ...]:
    """Mean, lowest and highest value of every channel that is no power, over every phase's window."""
    if not traces:
        return ()
    beside = [
        (i, c) for i, c in enumerate(traces[0].channels) if c.scope is None and c.parts_of_total and c.unit != _BITS
    ]
    columns = [(channel, samples_of(traces, index)) for index, channel in beside]
    return tuple(reading for run in runs for channel, samples in columns for reading in _within(run, channel, samples))


def _within(run: PhaseRun, channel: Channel, samples: Sequence[tuple[int, float]]) -> Iterator[PhaseReading]:
    window = run.window
    inside = [] if window is None else [each for each in samples if window.start_ns <= each[0] <= window.end_ns]
    if window is not None and inside:
        values = [value for _, value in inside]
        stood = stood_s([(at - window.start_ns) * 1e-9 for at, _ in inside], window.duration_s)
        yield PhaseReading(
            phase=run.phase,
            name=channel.name,
            source=channel.source,
            unit=channel.unit,
            mean=math.fsum(map(operator.mul, values, stood)) / window.duration_s,
            lowest=min(values),
            highest=max(values),
            readings=len(values),
        )
