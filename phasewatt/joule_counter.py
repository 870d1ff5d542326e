"""A counter of joules read at both ends of a window. Pure.

The counter moves in steps, once a period, and is exact at them however seldom it was read between. Each edge of the
window is reached from the step nearest to it: from within at the window's own power, from without at the power of the
period beyond, which the edge does not touch.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from phasewatt.estimate import Estimate, refused, too_few
from phasewatt.records import Span
from phasewatt.updates import Sample, Timing

MIN_UPDATES = 4  # steps that the counter made inside the window, read or not
NEAR = 1.5  # periods: an edge further than this from every step that was read is not known, ...
NEAR_SHARE = 0.02  # ... or than this part of the window, where the counter is faster than its reader
_BEARING = 4  # periods before and after a window that bear on it
_SIGMAS = 1.96  # half-width of 95 %
_SPREAD = 0.3  # of the power: what it may vary by from step to step where too few steps were read to tell
_ENOUGH = 3  # powers that tell


class MeanPower(NamedTuple):
    """Mean power over a stretch of time."""

    start_ns: int
    end_ns: int
    power_w: float


class _Step(NamedTuple):
    """A step of the counter: when it came, and what it led to."""

    time_ns: int
    counter_j: float
    unsure_ns: int  # standard deviation of `time_ns`


class _Edge(NamedTuple):
    """The counter at an edge of the window."""

    counter_j: float
    variance_j2: float
    jump_w: float  # by how much power within and beyond differ


class _Course(NamedTuple):
    """Power within the window as the counter's steps show it: a straight line, and what they leave of it."""

    centre_ns: int
    mean_w: float
    slope_w_per_ns: float
    spread_w: float
    peak_w: float

    def power_w(self, at_ns: int) -> float:
        """Power at a time."""
        return self.mean_w + self.slope_w_per_ns * (at_ns - self.centre_ns)


def difference(samples: Sequence[Sample], span: Span, timing: Timing) -> Estimate:
    """Energy of `span` in joules; refused where the counter ran backwards, or was not read at an edge."""
    samples = _around(samples, span, timing)
    if any(after.value < before.value for before, after in itertools.pairwise(samples)):
        return refused("counter_backwards: the energy counter was reset or ran backwards")
    steps = _steps(samples, timing)
    reach_ns = (timing.period_ns or 0) // 2
    inside = [step for step in steps if span.start_ns - reach_ns <= step.time_ns <= span.end_ns + reach_ns]
    if len(inside) < 2:
        return too_few(len(inside), MIN_UPDATES, span)
    period_ns = timing.period_ns or _usual_ns(inside)
    made = max(len(inside), 1 + _periods(inside[0], inside[-1], period_ns))
    if made < MIN_UPDATES:
        return too_few(made, MIN_UPDATES, span)
    course = _course(inside, period_ns)
    before = [_mirrored(step) for step in reversed(steps)]  # seen from the start, the window's inside comes first
    near_ns = max(NEAR * period_ns, NEAR_SHARE * (span.end_ns - span.start_ns))
    start = _edge(before, -span.start_ns, course.power_w(span.start_ns), course.spread_w, period_ns, near_ns)
    end = _edge(steps, span.end_ns, course.power_w(span.end_ns), course.spread_w, period_ns, near_ns)
    if start is None or end is None:
        return refused("gap: the counter was not read near an edge of the window", made)
    lag_j = max(start.jump_w, end.jump_w) * timing.lag_unsure_ns * 1e-9
    half_width_j = _SIGMAS * math.sqrt(start.variance_j2 + end.variance_j2 + lag_j**2)
    energy_j = end.counter_j + start.counter_j
    peak_w = max(course.peak_w, energy_j / span.duration_s)
    return Estimate(energy_j, None, peak_w, made, None, half_width_j)


def _around(samples: Sequence[Sample], span: Span, timing: Timing) -> Sequence[Sample]:
    """The samples that bear on a window: what a counter did long before or after it is no matter."""
    length_ns = span.end_ns - span.start_ns
    margin_ns = round(max(_BEARING * (timing.period_ns or 0), 2 * NEAR_SHARE * length_ns)) + timing.lag_ns
    first = bisect.bisect_left(samples, span.start_ns - margin_ns, key=lambda sample: sample.time_ns)
    last = bisect.bisect_right(samples, span.end_ns + margin_ns, key=lambda sample: sample.time_ns)
    return samples[max(0, first - 1) : last + 1]


def powers(samples: Sequence[Sample], timing: Timing) -> list[MeanPower]:
    """Mean power between the steps that were read, where the counter did not run backwards."""
    steps = _steps(samples, timing)
    period_ns = timing.period_ns or _usual_ns(steps)
    return [
        MeanPower(before.time_ns, after.time_ns, _power_w(before, after, period_ns))
        for before, after in itertools.pairwise(steps)
        if after.counter_j >= before.counter_j and after.time_ns > before.time_ns
    ]


def _steps(samples: Sequence[Sample], timing: Timing) -> list[_Step]:
    """The steps of the counter by what they led to, moved by the lag.

    A step that was seen closely also tells when the one before it came, a period earlier, if that was not seen.
    """
    period_ns = timing.period_ns
    steps: list[_Step] = []
    for before, now in itertools.pairwise(samples):
        if now.value == before.value:
            continue
        since_ns = now.time_ns - before.time_ns
        open_ns = since_ns if period_ns is None else min(since_ns, period_ns)
        at_ns = now.time_ns - open_ns // 2 - timing.lag_ns
        unsure_ns = round(math.hypot(open_ns / math.sqrt(12), timing.jitter_ns))
        if period_ns is not None and open_ns < period_ns / 2:
            earlier = _Step(at_ns - period_ns, before.value, unsure_ns)
            if not steps:
                steps.append(earlier)
            elif steps[-1].unsure_ns > unsure_ns and _is_same(steps, earlier, period_ns):
                steps[-1] = earlier
        steps.append(_Step(at_ns, now.value, unsure_ns))
    return steps


def _is_same(steps: Sequence[_Step], step: _Step, period_ns: int) -> bool:
    """Whether `step` may be the last of `steps`, better placed."""
    after_ns = steps[-2].time_ns if len(steps) > 1 else -math.inf
    return after_ns < step.time_ns and abs(steps[-1].time_ns - step.time_ns) < period_ns


def _edge(
    steps: Sequence[_Step], edge_ns: int, power_w: float, spread_w: float, period_ns: int, near_ns: float
) -> _Edge | None:
    """The counter at the end of the window that lies before `edge_ns`, by the nearest step; None without one near."""
    inside = [step for step in steps if step.time_ns <= edge_ns]
    beyond = [step for step in steps if step.time_ns > edge_ns]
    within_ns = edge_ns - inside[-1].time_ns if inside else math.inf
    past_ns = beyond[0].time_ns - edge_ns if len(beyond) > 1 else math.inf
    if min(within_ns, past_ns) > near_ns:
        return None
    beyond_w = _power_w(beyond[0], beyond[1], period_ns) if len(beyond) > 1 else 0.0
    jump_w = abs(power_w - beyond_w)
    if within_ns <= past_ns:
        nearest, away_s = inside[-1], within_ns * 1e-9
    else:
        nearest, away_s = beyond[0], -past_ns * 1e-9
        power_w, spread_w = beyond_w, _SPREAD * beyond_w
    variance_j2 = (power_w * nearest.unsure_ns * 1e-9) ** 2 + (spread_w * away_s) ** 2
    return _Edge(nearest.counter_j + power_w * away_s, variance_j2, jump_w)


def _course(inside: Sequence[_Step], period_ns: int) -> _Course:
    pairs = list(itertools.pairwise(inside))
    powers_w = [_power_w(before, after, period_ns) for before, after in pairs]
    weights = [after.time_ns - before.time_ns for before, after in pairs]
    centre_ns = (inside[0].time_ns + inside[-1].time_ns) // 2
    mean_w = (inside[-1].counter_j - inside[0].counter_j) / (sum(weights) * 1e-9)
    if len(powers_w) < _ENOUGH:
        return _Course(centre_ns, mean_w, 0.0, _SPREAD * mean_w, max(powers_w))
    away_ns = [(before.time_ns + after.time_ns) // 2 - centre_ns for before, after in pairs]
    moment = sum(weight * away**2 for weight, away in zip(weights, away_ns, strict=True))
    lean = sum(w * away * (p - mean_w) for w, away, p in zip(weights, away_ns, powers_w, strict=True))
    slope = lean / moment if moment else 0.0
    left_w = [power - mean_w - slope * away for power, away in zip(powers_w, away_ns, strict=True)]
    return _Course(centre_ns, mean_w, slope, statistics.stdev(left_w), max(powers_w))


def _mirrored(step: _Step) -> _Step:
    """A step as seen by one who goes back in time, with a counter that counts down."""
    return _Step(-step.time_ns, -step.counter_j, step.unsure_ns)


def _usual_ns(steps: Sequence[_Step]) -> int:
    """The usual time between steps; of fewer than two, any that is no 0."""
    spacings_ns = [after.time_ns - before.time_ns for before, after in itertools.pairwise(steps)]
    return round(statistics.median(spacings_ns)) if spacings_ns else 1


def _periods(before: _Step, after: _Step, period_ns: int) -> int:
    return max(1, round((after.time_ns - before.time_ns) / period_ns))


def _power_w(before: _Step, after: _Step, period_ns: int) -> float:
    """Mean power between two steps, by the counter's own even period."""
    return (after.counter_j - before.counter_j) / (_periods(before, after, period_ns) * period_ns * 1e-9)
