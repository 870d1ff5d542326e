"""How sure a mean over a window is, from the values alone, whatever rhythm they have. Pure.

Readings of a power sensor are not independent: the work has a beat, and a sensor that looks at it ten times a second
sees another, slower beat. What counts is the variance at frequency zero. It is taken from the lowest frequencies that
are left when the trend is removed, by equally weighted cosines, and judged by Student's t with as many degrees of
freedom as there are cosines. Source: Lazarus, Lewis, Stock and Watson, "HAR Inference", JBES 36 (2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

TREND_ORDER = 2  # a level, a slope and a bend are integrated and are no uncertainty
_LEAST_COSINES = 3
_MOST_COSINES = 12
_PASSED_CYCLES = 0.3  # within an average: more cycles lose over a quarter of their power
_COSINES = 0.4  # times n to 2/3. Source: as above, section 4
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)  # Student, 1 to 12


def student_975(freedom: int) -> float:
    """The 97.5th percentile of Student's t; above 12 degrees of freedom that of 12, which is a little too wide."""
    return _T_975[min(freedom, len(_T_975)) - 1]


class Trend(NamedTuple):
    """The slope of values over time, per unit of time, and what is left when slope and bend are taken out."""

    slope: float
    residuals: list[float]


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """The least-squares trend of `values`, of order `TREND_ORDER`; at least as many values as that and one more."""
    centre = (times[0] + times[-1]) / 2
    half = (times[-1] - times[0]) / 2 or 1.0
    basis = _orthogonal([(time - centre) / half for time in times])
    left = list(values)
    slope = 0.0
    for order, column in enumerate(basis):
        share = _dot(column, values) / _dot(column, column)
        left = [value - share * part for value, part in zip(left, column, strict=True)]
        slope = share / half if order == 1 else slope
    return Trend(slope, left)


def half_width(residuals: Sequence[float], averaged_share: float = 0.0) -> float:
    """Half-width of 95 % of one residual, such that its product with sqrt(sum of squared weights) is that of a sum.

    `averaged_share` is the part of the window that each value is a mean over: cosines that such a mean has
    flattened say nothing of frequency zero.
    """
    usual = round(_COSINES * len(residuals) ** (2 / 3))
    passed = math.floor(2 * _PASSED_CYCLES / averaged_share) - TREND_ORDER if averaged_share else usual
    cosines = max(_LEAST_COSINES, min(_MOST_COSINES, usual, passed))
    first = TREND_ORDER + 1  # lower ones went with the trend
    found = [_cosine(residuals, order) for order in range(first, first + cosines)]
    return student_975(cosines) * math.sqrt(math.fsum(part * part for part in found) / cosines)


def _cosine(values: Sequence[float], order: int) -> float:
    count = len(values)
    step = math.pi * order / count
    return math.sqrt(2 / count) * math.fsum(v * math.cos(step * (at + 0.5)) for at, v in enumerate(values))


def _orthogonal(times: Sequence[float]) -> list[list[float]]:
    """Polynomials up to `TREND_ORDER`, made orthogonal over `times`."""
    columns: list[list[float]] = []
    for order in range(TREND_ORDER + 1):
        column = [time**order for time in times]
        for earlier in columns:
            share = _dot(earlier, column) / _dot(earlier, earlier)
            column = [value - share * part for value, part in zip(column, earlier, strict=True)]
        columns.append(column)
    return columns


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))
