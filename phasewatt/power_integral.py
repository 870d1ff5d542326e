"""Watts at moments to joules over a window, by trapezoids. Pure.

Only values that describe the inside of the window alone are used, moved by the sensor's lag to the time that they
describe. The stretches before the first and after the last of them, each shorter than a period, are continued along the
window's own slope: to interpolate across an edge, where the work begins or ends, would mix in the power of other work.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from phasewatt import beats, spread
from phasewatt.estimate import Estimate, longest_gap_s, refused, stood_s, too_few
from phasewatt.records import Span
from phasewatt.updates import Sample, Timing, Update, updates_of

MIN_UPDATES = 8  # below this, what the values say of their own spread is too little
MAX_GAP_SHARE = 0.25  # of the window: a longer silence of the sensor hides too much of it
_EVEN_SHARE = 0.1  # of the period: an update that strays further is none of an even grid
_UNIFORM_95 = 0.95 / 2  # of a step: half-width of 95 % of a rounding error
_DITHERED = 0.08  # of a level's updates, seen one step beside it: noise begins to even its error out
_SAME = 0.5  # of a step: rails' values that differ by less, as by their voltage, are one count of current


class Rail(NamedTuple):
    """One of the channels whose sum is integrated, and its step."""

    samples: Sequence[Sample]
    resolution_w: float | None


def integrate(
    samples: Sequence[Sample],
    span: Span,
    timing: Timing,
    resolution_w: float | None = None,
    rhythm: Iterable[beats.Beat] = (),
    rails: Sequence[Rail] = (),
) -> Estimate:
    """Energy of `span` in joules; refused where updates are too few, too far apart or locked to the work's `rhythm`.

    Where `samples` are a sum, `rails` are what was summed: each was rounded by itself.
    """
    points = _described(samples, span, timing)
    if len(points) < MIN_UPDATES:
        return too_few(len(points), MIN_UPDATES, span)
    moments_ns = [point.time_ns for point in points]
    gap_s = longest_gap_s(moments_ns, span)
    if gap_s > MAX_GAP_SHARE * span.duration_s:
        reason = f"gap: the sensor was silent for {gap_s:.2f} s of {span.duration_s:.2f} s"
        return refused(reason, len(points), gap_s)
    looked_ns, unsure_ns = _looked(points, timing)
    resultant = beats.resultant(looked_ns, (timing.averaging_ns, unsure_ns), rhythm)
    if beats.is_locked(resultant, len(points)):
        reason = f"aliased: the sensor saw one moment of every repetition (resultant {resultant:.2f}); vary a length"
        return refused(reason, len(points), gap_s)
    averaged = timing.averaging_ns / (span.end_ns - span.start_ns)
    rounding_w = _rails_rounding_w(rails, span, timing) if rails else _rounding_w(points, resolution_w)
    energy_j, half_width_j = _trapezoids(points, span, averaged, resultant, rounding_w)
    peak_w = max(point.value for point in points)
    return Estimate(energy_j, None, peak_w, len(points), gap_s, half_width_j)


def _trapezoids(
    points: Sequence[Update], span: Span, averaged: float, resultant: float, rounding_w: float
) -> tuple[float, float]:
    """Energy in joules and its half-width."""
    times_s = [(point.time_ns - span.start_ns) * 1e-9 for point in points]
    watts = [point.value for point in points]
    window_s = span.duration_s
    slope_w_per_s, residuals_w = spread.trend(times_s, watts)
    weights_s = stood_s(times_s, window_s)
    ends_j = slope_w_per_s * ((window_s - times_s[-1]) ** 2 - times_s[0] ** 2) / 2
    energy_j = math.fsum(weight * power for weight, power in zip(weights_s, watts, strict=True)) + ends_j
    sampling_j = spread.half_width(residuals_w, averaged) * math.sqrt(
        math.fsum(weight * weight for weight in weights_s)
    )
    spread_w = statistics.pstdev(residuals_w)
    unseen_j = math.sqrt(2) * spread_w * resultant * window_s  # a beat of that amplitude, seen one-sidedly
    edges_j = spread_w * averaged * window_s  # an average sees half of what happens at either edge
    return energy_j, math.hypot(max(sampling_j, unseen_j), edges_j, rounding_w * window_s)


def _described(samples: Sequence[Sample], span: Span, timing: Timing) -> list[Update]:
    """The updates that describe nothing but `span`, at the middle of the stretch that each describes."""
    found = []
    for update in updates_of(samples, timing):
        end_ns = update.time_ns - timing.lag_ns
        start_ns = end_ns - timing.averaging_ns
        unsure_ns = update.open_ns // 2 + 2 * timing.jitter_ns
        if start_ns - unsure_ns >= span.start_ns + timing.guard_ns and end_ns + unsure_ns <= span.end_ns:
            found.append(update._replace(time_ns=(start_ns + end_ns) // 2))
    return found


def _looked(points: Sequence[Update], timing: Timing) -> tuple[list[int], int]:
    """When the sensor looked, and how far that is known: a sensor with an even period is known by all its updates."""
    times_ns = [point.time_ns for point in points]
    even = timing.calibrated and timing.jitter_ns <= _EVEN_SHARE * (timing.period_ns or 0)
    if not timing.period_ns or not even or times_ns[-1] - times_ns[0] < timing.period_ns:
        return times_ns, round(statistics.median(point.open_ns for point in points))
    beat_ns = timing.period_ns
    counts = [round((at - times_ns[0]) / beat_ns) for at in times_ns]
    slope = statistics.linear_regression(counts, times_ns)
    return [round(slope.intercept + slope.slope * count) for count in counts], timing.jitter_ns


def _rails_rounding_w(rails: Sequence[Rail], span: Span, timing: Timing) -> float:
    """Half-width of the rounding error of a sum: one rail may stand still while another moves the sum."""
    return math.hypot(
        *(_rounding_w(_described(rail.samples, span, timing), rail.resolution_w, of_sum=True) for rail in rails)
    )


def _rounding_w(points: Sequence[Update], resolution_w: float | None, of_sum: bool = False) -> float:
    """Half-width of the mean's rounding error beyond what the residuals show.

    Equal values in a row share one error, but where power passes through a step, the errors of its row even out.
    Rails of a sum, which return to a level without dithering around it, have the same error again.
    """
    if not resolution_w or not points:
        return 0.0
    rows = _rows([point.value for point in points], _SAME * resolution_w)
    levels = [round(value_w / resolution_w) for value_w, _ in rows]
    still = _still(rows, levels) if of_sum else set()
    ends = [rows[0], *rows, rows[-1]]
    shared: Counter[tuple[str, int]] = Counter()
    for index, ((before_w, _), (value_w, count), (after_w, _)) in enumerate(zip(ends, rows, ends[2:], strict=False)):
        if not before_w < value_w < after_w and not before_w > value_w > after_w:
            shared["level", levels[index]] += count if levels[index] in still else 0
            shared["row", index] += 0 if levels[index] in still else count
    return _UNIFORM_95 * resolution_w * math.sqrt(sum(n * (n - 1) for n in shared.values())) / len(points)


def _rows(watts: Sequence[float], same_w: float) -> list[tuple[float, int]]:
    """Values that stand for a while, each with how many updates it stood."""
    rows: list[tuple[float, int]] = []
    for value_w in watts:
        if rows and abs(value_w - rows[-1][0]) < same_w:
            rows[-1] = (rows[-1][0], rows[-1][1] + 1)
        else:
            rows.append((value_w, 1))
    return rows


def _still(rows: Sequence[tuple[float, int]], levels: Sequence[int]) -> set[int]:
    """The levels that noise hardly takes to their neighbours, so that their rounding errors do not even out."""
    counts: Counter[int] = Counter()
    for level, (_, count) in zip(levels, rows, strict=True):
        counts[level] += count
    return {
        level for level in counts if counts.get(level - 1, 0) + counts.get(level + 1, 0) < _DITHERED * counts[level]
    }
