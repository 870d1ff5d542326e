"""A measured value with its interval, what follows from several, and on which side of a threshold it lies. Pure.

Intervals are carried through sums and ratios by their ends, which is wider than their common distribution would be:
a decision that survives it is safe.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from collector import stats
from collector.findings.checks import Check, Side, Verdict
from phasewatt.metrics import Readings

# Of any time or energy. Source: device-busy times of one trial spread by up to 0.6 % in the shipped H200 trials; a
# single profiled repetition shows no spread at all, and neither shows what changes from day to day.
LEAST_HALF_WIDTH = 0.02


class Bounds(NamedTuple):
    """A value above 0 within its interval of 95 % or wider."""

    value: float
    low: float
    high: float

    def over(self, other: Bounds) -> Bounds:
        """The ratio to `other`, which lies above 0."""
        return Bounds(self.value / other.value, self.low / other.high, self.high / other.low)

    def plus(self, other: Bounds) -> Bounds:
        """The sum."""
        return Bounds(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Bounds:
        """All scaled by a number above 0 that is known."""
        return Bounds(self.value * factor, self.low * factor, self.high * factor)

    def share(self, rest: Bounds) -> Bounds:
        """The part of this in the sum of this and `rest`."""
        whole = self.value + rest.value
        return Bounds(self.value / whole, self.low / (self.low + rest.high), self.high / (self.high + rest.low))


def exact(value: float) -> Bounds:
    """What is counted or computed, not measured."""
    return Bounds(value, value, value)


def measured(trials: Sequence[Readings], stream: str) -> Bounds | None:
    """The median over trials with its interval, never narrower than `LEAST_HALF_WIDTH`; None: no value above 0."""
    useful = [readings for readings in trials if readings.values]
    if not useful:
        return None
    found = stats.summary(useful, stream)
    if found.value <= 0:
        return None
    least = found.value * LEAST_HALF_WIDTH
    low = found.value if found.low is None else max(found.low, 0.0)
    high = found.value if found.high is None else found.high
    return Bounds(found.value, min(low, found.value - least), max(high, found.value + least))


def between(points: Sequence[tuple[float, Bounds]], place: float) -> Bounds:
    """The value at `place` on straight lines between `points`, in order; beyond their ends that of the end."""
    if place <= points[0][0]:
        return points[0][1]
    for (left, at_left), (right, at_right) in itertools.pairwise(points):
        if place <= right:
            share = (place - left) / (right - left)
            return Bounds(*(a + share * (b - a) for a, b in zip(at_left, at_right, strict=True)))
    return points[-1][1]


def above(says: str, found: Bounds, threshold: float, unit: str = "1") -> Check:
    """Holds where the whole interval lies above `threshold`, fails where none of it does."""
    verdict = _side(found.low > threshold, found.high <= threshold)
    return _check(says, verdict, found, unit, Side.ABOVE, threshold)


def below(says: str, found: Bounds, threshold: float, unit: str = "1") -> Check:
    """Holds where the whole interval lies below `threshold`, fails where none of it does."""
    verdict = _side(found.high < threshold, found.low >= threshold)
    return _check(says, verdict, found, unit, Side.BELOW, threshold)


def within(says: str, found: Bounds, lowest: float, highest: float, unit: str = "1") -> Check:
    """Holds where the whole interval lies from `lowest` to `highest`, fails where all of it lies beyond."""
    inside = lowest <= found.low and found.high <= highest
    verdict = _side(inside, found.high < lowest or found.low > highest)
    return _check(says, verdict, found, unit, Side.WITHIN, lowest, highest)


def _side(holds: bool, fails: bool) -> Verdict:
    if holds:
        return Verdict.HOLDS
    return Verdict.DOES_NOT_HOLD if fails else Verdict.NOT_ENOUGH_DATA


def _check(
    says: str, verdict: Verdict, found: Bounds, unit: str, side: Side, threshold: float, upper: float | None = None
) -> Check:
    return Check(
        says=says,
        verdict=verdict,
        value=found.value,
        low=found.low,
        high=found.high,
        unit=unit,
        side=side,
        threshold=threshold,
        upper=upper,
    )
