"""Percentiles and spread of repetitions. Pure.

A percentile is given where the values can tell it: the 99th of ten values is their largest, and no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

LEAST: Mapping[int, int] = {50: 2, 90: 10, 95: 20, 99: 100}  # values that a percentile needs


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p95 and p99 by name, as far as `values` can tell them; interpolated between neighbours."""
    ordered = sorted(values)
    return {f"p{percent}": _at(ordered, percent / 100) for percent, least in LEAST.items() if len(ordered) >= least}


def spread(values: Sequence[float]) -> float | None:
    """Interquartile range over the median; None with fewer than four values, or a median of 0."""
    ordered = sorted(values)
    if len(ordered) < 4 or not (middle := _at(ordered, 0.5)):
        return None
    return (_at(ordered, 0.75) - _at(ordered, 0.25)) / abs(middle)


def _at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
