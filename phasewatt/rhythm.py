"""How often a sensor updates, from the moments at which its value was seen to change. Pure.

A value that is shown again cannot be seen, so the time between changes is a small multiple of the period.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

_LEAST_CHANGES = 10
_LEAST_READS = 3  # of one update: read seldomer, a sensor's period cannot be told from the reader's
_OFF_GRID = 0.25  # of a period: a change that far from a multiple of it speaks against it
_MOST_OFF_GRID = 1 / 3
_ON_GRID_SHARE = 0.9
_MOST_PERIODS = 3  # longer spacings say little of one period


class Change(NamedTuple):
    """A new value, in the middle of the time in which it may have come."""

    time_s: float
    value: float


class Refusal(NamedTuple):
    """Why something could not be found."""

    reason: str


class Rhythm(NamedTuple):
    """The even grid on which a sensor updates."""

    period_s: float
    jitter_s: float  # standard deviation of one update

    def periods(self, spacing_s: float) -> int:
        """Whole periods between two changes."""
        return max(1, round(spacing_s / self.period_s))


def rhythm(changes: Sequence[Change], read_every_s: float) -> Rhythm | Refusal:
    """The period that the spacings of `changes` are small multiples of, of a sensor read every `read_every_s`."""
    if len(changes) < _LEAST_CHANGES:
        return Refusal(f"its value changed {len(changes)} times" if changes else "its value never changed")
    spacings_s = sorted(after.time_s - before.time_s for before, after in itertools.pairwise(changes))
    tried = [_refined(spacings_s[len(spacings_s) * tenth // 10], spacings_s, read_every_s) for tenth in range(10)]
    explained, found = max(tried)
    if found.period_s < _LEAST_READS * read_every_s:
        return Refusal(f"its value changed at nearly every reading, and it was read every {read_every_s:.3g} s")
    return found if explained >= _ON_GRID_SHARE else Refusal("its value changed at no even pace")


def _refined(period_s: float, spacings_s: Sequence[float], read_every_s: float) -> tuple[float, Rhythm]:
    """The period near a first guess, behind the share of the spacings of a few periods that it explains."""
    for _ in range(2):
        near = [spacing for spacing in spacings_s if spacing < (_MOST_PERIODS + 0.5) * period_s]
        close = _multiples(near, period_s, read_every_s)
        if not close:
            return 0.0, Rhythm(period_s, 0.0)
        period_s = sum(near) / sum(max(1, round(spacing / period_s)) for spacing in near)
    squares = [(spacing - count * period_s) ** 2 for spacing, count in close]
    jitter_s = math.sqrt(sum(squares) / len(squares) / 2)  # a spacing has the jitter of both its ends
    return round(len(close) / len(near), 2), Rhythm(period_s, jitter_s)


def _multiples(spacings_s: Sequence[float], period_s: float, read_every_s: float) -> list[tuple[float, int]]:
    """The spacings that are a multiple of a period, each with the multiple."""
    tolerance_s = max(_OFF_GRID * period_s, min(read_every_s, _MOST_OFF_GRID * period_s))
    counted = [(spacing, max(1, round(spacing / period_s))) for spacing in spacings_s]
    return [(spacing, count) for spacing, count in counted if abs(spacing - count * period_s) <= tolerance_s]
