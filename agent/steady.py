"""When a phase has warmed up: decided by its own durations, with the decision and its reason kept. Pure.

The rule: over the last `repetitions` durations, the medians of the older and the newer half differ by at most `drift`,
and the interquartile range is at most `spread` of the median. What never gets there says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


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
    middle = statistics.median(last)
    half = len(last) // 2
    drift = abs(statistics.median(last[half:]) - statistics.median(last[:half])) / middle
    quartiles = statistics.quantiles(last, n=4)
    spread = (quartiles[2] - quartiles[0]) / middle
    steady = drift <= rule.drift and spread <= rule.spread
    figures = f"drift {drift:.1%} (limit {rule.drift:.0%}), spread {spread:.1%} (limit {rule.spread:.0%})"
    return Verdict(steady, f"{'steady' if steady else 'not steady'}: {figures} over {len(last)} repetitions")
