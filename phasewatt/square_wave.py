"""How late a sensor is, and over what stretch it averages: the model that fits what it showed under a known wave. Pure.

A value shown at t is taken for the mean power over [t - lag - averaging, t - lag], where power has two levels, with and
without the load. The pair that leaves the least mean absolute error is sought on a coarse grid and then refined.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from phasewatt.rhythm import Change, Refusal

_LEAST_EDGES = 6  # between stretches that the sensor can show
_LEAST_POINTS = 20
_MOST_POINTS = 1500
_LARGEST_ERROR = 0.2  # mean absolute, of the step between the levels: more is no square wave seen through a mean
_LEAST_STRETCH_S = 1e-4
_GRID = 14
_REWEIGHTINGS = 2
_FINEST_S = 5e-4
_NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -2), (-1, 2), (1, -1), (-1, 1))  # of lag, averaging


class Wave:
    """A load that was on in known stretches of time, in s."""

    def __init__(self, loads: Sequence[tuple[float, float]]) -> None:
        self.loads = sorted(loads)
        self.edges = [edge for load in self.loads for edge in load]
        self._on_s = [0.0]
        for index, (before, after) in enumerate(itertools.pairwise(self.edges)):
            self._on_s.append(self._on_s[-1] + (after - before if index % 2 == 0 else 0.0))

    def on_s(self, time_s: float) -> float:
        """Time under load up to `time_s`."""
        passed = bisect.bisect_right(self.edges, time_s)
        if passed == 0:
            return 0.0
        return self._on_s[passed - 1] + (time_s - self.edges[passed - 1] if passed % 2 else 0.0)

    def edges_between(self, least_s: float) -> int:
        """Edges with at least `least_s` of one state on either side."""
        spans_s = [math.inf, *(after - before for before, after in itertools.pairwise(self.edges)), math.inf]
        return sum(min(before, after) >= least_s for before, after in itertools.pairwise(spans_s))

    def share(self, start_s: float, end_s: float) -> float:
        """Part of a stretch that was under load."""
        return (self.on_s(end_s) - self.on_s(start_s)) / (end_s - start_s)


class Fit(NamedTuple):
    """The model that fits best; the levels and the mean absolute error are in W."""

    lag_s: float
    averaging_s: float
    off_w: float
    on_w: float
    error_w: float

    @property
    def age_s(self) -> float:
        """From the middle of the stretch that a value describes to when it first shows."""
        return self.lag_s + self.averaging_s / 2


def fit(
    shown: Sequence[Change], wave: Wave, period_s: float, most_lag_s: float, most_averaging_s: float
) -> Fit | Refusal:
    """Lag and averaging stretch of a sensor with that period, from the power that it showed, in W."""
    if (edges := wave.edges_between(period_s)) < _LEAST_EDGES:
        return Refusal(f"only {edges} edges of the load stood long enough for it to show")
    points = _near(shown, wave, most_lag_s + most_averaging_s)
    if len(points) < _LEAST_POINTS:
        return Refusal(f"it showed only {len(points)} new values while the load changed")
    best = _best(points, wave, most_lag_s, most_averaging_s)
    if best.error_w > _LARGEST_ERROR * abs(best.on_w - best.off_w):
        return Refusal("what it showed does not follow the load")
    if best.lag_s > most_lag_s or best.averaging_s > most_averaging_s:
        return Refusal(f"it is later than {most_lag_s:.2g} s, or averages over more than {most_averaging_s:.2g} s")
    halves = [_best(points[odd::2], wave, most_lag_s, most_averaging_s) for odd in (0, 1)]
    apart_s = abs(halves[0].age_s - halves[1].age_s)
    if apart_s > period_s:
        return Refusal(f"two halves of what it showed place it {apart_s:.2g} s apart")
    return best


def _near(shown: Sequence[Change], wave: Wave, reach_s: float) -> list[Change]:
    """Points that the wave can have a part in, thinned evenly to what is fitted in a second."""
    first_s, last_s = wave.edges[0] - reach_s, wave.edges[-1] + reach_s
    near = [point for point in shown if first_s <= point.time_s <= last_s]
    return near[:: 1 + len(near) // _MOST_POINTS]


def _best(points: Sequence[Change], wave: Wave, most_lag_s: float, most_averaging_s: float) -> Fit:
    return _refined(_coarse(points, wave, most_lag_s, most_averaging_s), points, wave)


def _coarse(points: Sequence[Change], wave: Wave, most_lag_s: float, most_averaging_s: float) -> Fit:
    """The best of a grid that is finer towards 0."""
    shares = [(step / _GRID) ** 2 for step in range(_GRID + 1)]
    tried = (_tried(lag * most_lag_s, avg * most_averaging_s, points, wave) for lag in shares for avg in shares)
    return min(tried, key=lambda found: found.error_w)


def _refined(best: Fit, points: Sequence[Change], wave: Wave) -> Fit:
    """`best` moved downhill in ever smaller steps."""
    step_s = max(best.lag_s, best.averaging_s, 0.05) / 4
    while step_s > _FINEST_S:
        places = [(best.lag_s + lag * step_s, best.averaging_s + avg * step_s) for lag, avg in _NEIGHBOURS]
        tried = [_tried(lag, avg, points, wave) for lag, avg in places if lag >= 0 and avg >= 0]
        better = min(tried, key=lambda found: found.error_w, default=best)
        if better.error_w < best.error_w:
            best = better
        else:
            step_s /= 2
    return best


def _tried(lag_s: float, averaging_s: float, points: Sequence[Change], wave: Wave) -> Fit:
    """The levels that suit one lag and stretch best, by least squares reweighted towards least absolute error."""
    stretch_s = max(averaging_s, _LEAST_STRETCH_S)
    shares = [wave.share(time_s - lag_s - stretch_s, time_s - lag_s) for time_s, _ in points]
    values = [value for _, value in points]
    off_w, slope_w = _line(shares, values, [1.0] * len(points))
    for _ in range(_REWEIGHTINGS):
        errors = [abs(value - off_w - slope_w * share) for share, value in zip(shares, values, strict=True)]
        floor = 0.1 * sum(errors) / len(errors) or 1e-12
        off_w, slope_w = _line(shares, values, [1 / max(error, floor) for error in errors])
    errors = [abs(value - off_w - slope_w * share) for share, value in zip(shares, values, strict=True)]
    return Fit(lag_s, averaging_s, off_w, off_w + slope_w, sum(errors) / len(errors))


def _line(shares: Sequence[float], values: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope of the weighted least-squares line."""
    total = sum(weights)
    mean_share = sum(map(float.__mul__, weights, shares)) / total
    mean_value = sum(map(float.__mul__, weights, values)) / total
    moment = spread = 0.0
    for weight, share, value in zip(weights, shares, values, strict=True):
        moment += weight * (share - mean_share) * (value - mean_value)
        spread += weight * (share - mean_share) ** 2
    slope = moment / spread if spread > 0 else 0.0
    return mean_value - slope * mean_share, slope
