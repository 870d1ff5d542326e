"""What one channel says of the energy of one window: joules, or the reason why there are none. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from phasewatt.records import Span


class Estimate(NamedTuple):
    """Energy of one channel over one window. `energy_j` is None with a `reason`, or stands without one."""

    energy_j: float | None
    reason: str | None  # a code, then words
    peak_power_w: float | None
    distinct_updates: int
    longest_gap_s: float | None  # None: a counter, which misses nothing between its readings, or no update at all
    temporal_uncertainty_j: float | None  # half-width of 95 %


def refused(reason: str, updates: int = 0, gap_s: float | None = None) -> Estimate:
    """No joules, and why."""
    return Estimate(None, reason, None, updates, gap_s, None)


def too_few(updates: int, needed: int, span: Span) -> Estimate:
    """No joules: the sensor looked too seldom."""
    return refused(f"too_few_updates: {updates} in {span.duration_s:.2f} s, at least {needed} needed", updates)


def longest_gap_s(times_ns: Sequence[int], span: Span) -> float:
    """The longest time inside `span` without one of `times_ns`."""
    marks = [span.start_ns, *times_ns, span.end_ns]
    return max(after - before for before, after in itertools.pairwise(marks)) * 1e-9


def stood_s(times_s: Sequence[float], window_s: float) -> list[float]:
    """The time that each value in a window stands for: half of the way to its neighbours, all of the way to an edge."""
    edges = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(times_s)), window_s]
    return [after - before for before, after in itertools.pairwise(edges)]
