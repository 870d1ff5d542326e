"""How other tools make joules of a sensor's readings: for comparison, on readings taken ten times a second."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from phasewatt.fields import Reading
from phasewatt.records import Span
from phasewatt.updates import Sample

Readings = Mapping[Reading, Sequence[Sample]]


def mean_times_duration(readings: Readings, span: Span) -> float | None:
    """Mean of the power readings within the window, times its length."""
    inside = _inside(readings, Reading.INSTANT, span)
    return sum(s.value for s in inside) / len(inside) * span.duration_s if inside else None


def last_minus_first(readings: Readings, span: Span) -> float | None:
    """Last counter reading within the window less the first."""
    inside = _inside(readings, Reading.COUNTER, span)
    return inside[-1].value - inside[0].value if inside else None


def rectangles(readings: Readings, span: Span) -> float | None:
    """Each power reading times the time since the one before."""
    inside = _inside(readings, Reading.INSTANT, span)
    pairs = itertools.pairwise(inside)
    return sum(b.value * (b.time_ns - a.time_ns) * 1e-9 for a, b in pairs) if len(inside) > 1 else None


def averages(readings: Readings, span: Span) -> float | None:
    """Mean of the one-second-average readings within the window, times its length."""
    inside = _inside(readings, Reading.AVERAGE, span)
    return sum(s.value for s in inside) / len(inside) * span.duration_s if inside else None


RULES: dict[str, Callable[[Readings, Span], float | None]] = {
    "mean x duration": mean_times_duration,
    "last - first": last_minus_first,
    "rectangles": rectangles,
    "averages": averages,
}


def _inside(readings: Readings, reading: Reading, span: Span) -> list[Sample]:
    return [s for s in readings.get(reading, ()) if span.start_ns <= s.time_ns <= span.end_ns]
