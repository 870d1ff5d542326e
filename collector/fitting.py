"""Lines and parabolas through what was measured, with an error that was not fitted. Pure.

A value is `max(floor, a + b x + c y)` with a, b and c at or above 0, fitted by relative error, since a short run
matters as much as a long one. The floor is what a launch-bound device takes however little it is asked. How good a fit
is, is said by leaving out one length after another and predicting it from the others; R2 is shown and judges nothing.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy

from phasewatt.spread import student_975

LEAST_LENGTHS = 4  # with one left out, three remain to tell a line from a bend
_SLACK = 1e-12  # relative; below it a coefficient is zero by rounding


class Point(NamedTuple):
    """One measured value, and what it is to be explained by."""

    terms: tuple[float, ...]
    value: float  # above 0
    length: int  # points of one length are left out together


class Curve(NamedTuple):
    """`max(floor, constant + sum of slope x term)`."""

    constant: float
    slopes: tuple[float, ...]
    floor: float | None  # None: no part of the points is flat

    def at(self, terms: Sequence[float]) -> float:
        """The value that the curve gives."""
        return self.line(terms) if self.floor is None else max(self.floor, self.line(terms))

    def line(self, terms: Sequence[float]) -> float:
        """What it would give without its floor."""
        return self.constant + math.fsum(slope * term for slope, term in zip(self.slopes, terms, strict=True))


class LeftOut(NamedTuple):
    """How far off a curve is at points that it was not shown: (predicted - measured) / measured."""

    error: float  # the largest
    interpolated: float | None  # the largest of those that the others enclose; None: all of them are extrapolated


class Fit(NamedTuple):
    """A curve with what is known of its error."""

    curve: Curve
    left_out: dict[int, LeftOut]  # by length
    half_width: float  # relative, of 95 %, from these errors
    r2: float
    ranges: tuple[tuple[float, float], ...]  # of each term, as measured

    @property
    def errors(self) -> Mapping[int, float]:
        """By length left out, the largest error of its points, extrapolated or not."""
        return {length: found.error for length, found in self.left_out.items()}

    @property
    def worst_error(self) -> float:
        """The largest error of a length that was left out, without its sign."""
        return max(abs(error) for error in self.errors.values())

    def reaches(self, terms: Sequence[float]) -> bool:
        """Whether every term lies within what was measured."""
        return _enclosed(terms, self.ranges)


def fit(points: Sequence[Point]) -> Fit | None:
    """The curve through `points`; None where fewer than `LEAST_LENGTHS` lengths were measured."""
    lengths = [point.length for point in points]
    if len(set(lengths)) < LEAST_LENGTHS:
        return None
    left = left_out(points, lengths)
    curve = curve_through(points)
    squares = statistics.fmean(each.error**2 for each in left.values())
    return Fit(
        curve=curve,
        left_out=left,
        half_width=student_975(len(left) - 1) * math.sqrt(squares),
        r2=_r2(curve, points),
        ranges=_ranges(points),
    )


def left_out(points: Sequence[Point], keys: Sequence[int]) -> dict[int, LeftOut]:
    """By key: points of it (a length, a batch; one key a point), predicted from all others.

    A point is extrapolated where its key is the smallest or the largest, or a term of it lies beyond the other points.
    """
    return {key: _without(key, points, keys) for key in sorted(set(keys))}


def _without(key: int, points: Sequence[Point], keys: Sequence[int]) -> LeftOut:
    paired = list(zip(keys, points, strict=True))
    shown = [point for other, point in paired if other != key]
    curve, ranges = curve_through(shown), _ranges(shown)
    errors = [
        (curve.at(point.terms) / point.value - 1, _enclosed(point.terms, ranges))
        for other, point in paired
        if other == key
    ]
    inner = [error for error, enclosed in errors if enclosed and min(keys) < key < max(keys)]
    return LeftOut(max((error for error, _ in errors), key=abs), max(inner, key=abs, default=None))


def _ranges(points: Sequence[Point]) -> tuple[tuple[float, float], ...]:
    return tuple((min(term), max(term)) for term in zip(*(point.terms for point in points), strict=True))


def _enclosed(terms: Sequence[float], ranges: Sequence[tuple[float, float]]) -> bool:
    return all(low <= term <= high for term, (low, high) in zip(terms, ranges, strict=True))


def curve_through(points: Sequence[Point]) -> Curve:
    """The curve of least relative squares; of curves with and without a floor the one that leaves less per freedom.

    A floor is one that at least two lengths lie on.
    """
    ordered = sorted(points, key=lambda point: point.terms)
    flats = (flat for flat in range(2, len(ordered) - 1) if ordered[0].length != ordered[flat - 1].length)
    candidates = [_with_floor(ordered, flat) for flat in (0, *flats)]
    return min((one for one in candidates if one is not None), key=lambda one: one[0])[1]


def _with_floor(ordered: Sequence[Point], flat: int) -> tuple[float, Curve] | None:
    """Mean squared relative error per degree of freedom, and the curve whose `flat` smallest points are its floor."""
    rising = ordered[flat:]
    constant, *slopes = _line(rising)
    floor = 1 / statistics.fmean(1 / point.value for point in ordered[:flat]) if flat else None
    curve = Curve(constant, tuple(slopes), floor)
    used = sum(each > 0 for each in (constant, *slopes)) + (1 if flat else 0)
    if len(ordered) - used < 1 or (flat and curve.at(rising[0].terms) == floor):
        return None
    squares = math.fsum((curve.at(point.terms) / point.value - 1) ** 2 for point in ordered)
    return squares / (len(ordered) - used), curve


def _line(points: Sequence[Point]) -> tuple[float, ...]:
    """Coefficients at or above 0, the constant first: the best of all choices of which are above 0."""
    rows = numpy.array([(1.0, *point.terms) for point in points]) / numpy.array([[point.value] for point in points])
    scale = rows.max(axis=0)
    scale[scale == 0] = 1.0
    ones = numpy.ones(len(points))
    best: tuple[float, ...] = (0.0,) * rows.shape[1]
    least = math.inf
    for chosen in _choices(rows.shape[1], len(points) - 1):
        found, _, _, _ = numpy.linalg.lstsq(rows[:, chosen] / scale[chosen], ones, rcond=None)
        left = float(numpy.sum((rows[:, chosen] / scale[chosen] @ found - ones) ** 2))
        if (found >= 0).all() and left < least - _SLACK:
            least = left
            values = dict(zip(chosen, found / scale[chosen], strict=True))
            best = tuple(float(values.get(column, 0.0)) for column in range(rows.shape[1]))
    return best


def _choices(columns: int, most: int) -> list[list[int]]:
    """All sets of at most `most` columns, so that a freedom is left to judge the fit by."""
    sizes = range(1, min(columns, most) + 1)
    return [list(each) for size in sizes for each in itertools.combinations(range(columns), size)]


def _r2(curve: Curve, points: Sequence[Point]) -> float:
    mean = statistics.fmean(point.value for point in points)
    total = math.fsum((point.value - mean) ** 2 for point in points)
    left = math.fsum((point.value - curve.at(point.terms)) ** 2 for point in points)
    return 1 - left / total if total else 0.0
