"""When a phase has warmed up: decided by its own durations, with the decision and its reason kept. Pure.

The rule, over the last `repetitions` durations:

- drift: the medians of the older and the newer half differ by at most `drift` of the median of all; where there are 24
  or more, no quarter's median is further than that from the median of all either, so that a step near the end, or a
  slow swing whose halves are alike, is seen too;
- spread: the interquartile range is at most `spread` of the median.

What never gets there says so. A series that is steady has settled at its level; whether the hardware could do better
(a slow host that launches kernels late is steady too) no series of durations can tell.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

_QUARTERED = 24  # durations from which a quarter is no fewer than six


class Rule(NamedTuple):
    """How steady is steady enough; relative to the median."""

    repetitions: int = 6
    drift: float = 0.05
    spread: float = 0.15


class Verdict(NamedTuple):
    """Whether the durations have settled, and the figures that say so."""

    steady: bool
    reason: str


def judge(durations_ns: Sequence[int], rule: Rule) -> Verdict:
    """The verdict over the last `rule.repetitions` of `durations_ns`."""
    last = durations_ns[-rule.repetitions :]
    if len(last) < rule.repetitions:
        return Verdict(False, f"only {len(last)} repetitions, {rule.repetitions} needed to tell")
    drift = _drift(last)
    quartiles = statistics.quantiles(last, n=4)
    spread = (quartiles[2] - quartiles[0]) / statistics.median(last)
    steady = drift <= rule.drift and spread <= rule.spread
    figures = f"drift {drift:.1%} (limit {rule.drift:.0%}), spread {spread:.1%} (limit {rule.spread:.0%})"
    return Verdict(steady, f"{'steady' if steady else 'not steady'}: {figures} over {len(last)} repetitions")


def _drift(durations_ns: Sequence[int]) -> float:
    """How far parts are from each other: the halves, and with enough durations each quarter from the whole."""
    middle = statistics.median(durations_ns)
    older, newer = _medians(durations_ns, 2)
    quarters = _medians(durations_ns, 4) if len(durations_ns) >= _QUARTERED else []
    return max(abs(newer - older), *(abs(quarter - middle) for quarter in quarters), 0.0) / middle


def _medians(durations_ns: Sequence[int], parts: int) -> list[float]:
    """Medians of `parts` stretches of the series, one after another."""
    edges = [len(durations_ns) * index // parts for index in range(parts + 1)]
    return [statistics.median(durations_ns[a:b]) for a, b in itertools.pairwise(edges)]
