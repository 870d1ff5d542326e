"""Ordinary least squares with standardised coefficients and their intervals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy

from phasewatt.spread import student_975


class Coefficient(NamedTuple):
    """What one standard deviation of a term is worth, in standard deviations of the value."""

    value: float
    low: float
    high: float
    raw: float  # in the value's unit per unit of the term


def standardised(terms: Sequence[Sequence[float]], values: Sequence[float]) -> list[Coefficient] | None:
    """A coefficient for each column of `terms`, [values, columns]; None: too few values, or columns that are alike.

    A constant is fitted too. Intervals are of 95 %, by Student's t.
    """
    columns = numpy.asarray(terms, dtype=numpy.float64)
    value = numpy.asarray(values, dtype=numpy.float64)
    freedom = len(value) - columns.shape[1] - 1
    spread, of_value = columns.std(axis=0), float(value.std())
    if freedom < 1 or (spread == 0).any() or of_value == 0:
        return None
    scaled = (columns - columns.mean(axis=0)) / spread
    wanted = (value - value.mean()) / of_value
    products = scaled.T @ scaled
    if numpy.linalg.matrix_rank(products) < columns.shape[1]:
        return None
    inverse = numpy.linalg.inv(products)
    found = inverse @ scaled.T @ wanted
    left = float(((wanted - scaled @ found) ** 2).sum()) / freedom
    half = student_975(freedom) * numpy.sqrt(left * numpy.diag(inverse))
    return [
        Coefficient(float(each), float(each - width), float(each + width), float(each * of_value / deviation))
        for each, width, deviation in zip(found, half, spread, strict=True)
    ]
