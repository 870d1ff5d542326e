"""Whether the level of a device's nightly canaries has changed, against the device's own history. Pure.

Each night gives one value a series. The newest `RECENT` nights are compared with the nights before them, back to the
last change. A change is told when the recent level differs by more than the nights before differ among themselves:

- the recent level is the median of three nights, and each of the three must have moved with it, so that neither one bad
  night nor two are a change;
- all is done on logarithms, so that 5 % up and 5 % down are alike, and the spread is a share of the level;
- the spread of the nights is that of their values, the farthest ones pulled in (winsorized), so that bad nights in the
  history neither hide a change nor make one;
- the bar is Student's t at a false-alarm rate that is shared out over a year of nights and the series of the device;
- and a change of less than `LEAST` is told of no one, however sure it is.

A change ends the history: the nights at the new level begin another one. Source: the variance of the median of three
normal values is 0.4487 of theirs (order statistics, H. A. David, 1970); the rest is simulated by
benchmarks/drift_power.py, which also says how much noise is too much.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

RECENT = 3
LEAST_HISTORY = 10  # nights; before, their spread is not known well enough
MOST_HISTORY = 60
LEAST = 0.02
FALSE_ALARMS_A_YEAR = 0.8  # of one device, over all its series
_NIGHTS_A_YEAR = 365
_MEDIAN_OF_THREE = 0.4487
_NEAREST = 0.25  # of the change: that far every recent night has gone
_TRIMMED = 0.1  # of the history at each end, pulled in
_WINSORIZED = 1.24  # the spread of normal values over that of the same, pulled in so: simulated, 20 to 60 nights
_FREEDOM = 0.68  # degrees of freedom a night that such a spread has: simulated likewise
_LEAST_SPREAD = 1e-3  # a clock of a night's median is no better


class Change(NamedTuple):
    """A level that changed; `effect` and its interval of 95 % are shares of the level before."""

    first: int  # index of the first night at the new level
    found: int  # index of the night that showed it
    before: float
    after: float
    effect: float
    low: float
    high: float
    nights: int  # that the level before rests on


class Level(NamedTuple):
    """Where a series stands now."""

    value: float | None  # of the newest nights; None: no night
    nights: int  # since the last change
    spread: float | None  # of one night, as a share of the level; None: too few nights
    detectable: float | None  # the least change that three nights would show nearly always (95 %)


def changes(values: Sequence[float], series: int = 1) -> list[Change]:
    """The changes of level in `values`, one a night in order, all above 0; `series`: how many the device has."""
    found: list[Change] = []
    begin = 0
    for night in range(len(values)):
        change = _change(values, begin, night, series)
        if change is not None:
            found.append(change)
            begin = change.first
    return found


def level(values: Sequence[float], series: int = 1) -> Level:
    """Where `values` stand after their last change."""
    if not values:
        return Level(None, 0, None, None)
    past = changes(values, series)
    since = list(values[past[-1].first :] if past else values)
    now = statistics.median(since[-RECENT:])
    if len(since) < LEAST_HISTORY:
        return Level(now, len(since), None, None)
    noise = spread([math.log(value) for value in since[-MOST_HISTORY:]])
    count = min(len(since), MOST_HISTORY)
    sure = (bar(count, series) + 1.645) * _deviation(noise, count)
    return Level(now, len(since), noise, max(LEAST, math.expm1(sure)))


def bar(nights: int, series: int) -> float:
    """How many deviations a change must have, with a history of so many nights."""
    rate = FALSE_ALARMS_A_YEAR / (_NIGHTS_A_YEAR * max(1, series))
    return student(1 - rate / 2, max(3, round(_FREEDOM * nights)))


def spread(logarithms: Sequence[float]) -> float:
    """The standard deviation of nights, the farthest tenth at each end pulled in and what that costs put back."""
    ordered = sorted(logarithms)
    cut = round(_TRIMMED * len(ordered))
    low, high = ordered[cut], ordered[-1 - cut]
    pulled = [min(max(value, low), high) for value in ordered]
    return max(_LEAST_SPREAD, _WINSORIZED * statistics.stdev(pulled))


def student(probability: float, freedom: int) -> float:
    """The quantile of Student's t above the median. Source: G. W. Hill, Algorithm 396, CACM 13 (1970)."""
    tail = 2 * (1 - probability)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    y = (d * tail) ** (2 / freedom)
    if y > 0.05 + a:
        x = statistics.NormalDist().inv_cdf(tail / 2)
        y = x * x
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        z = ((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3
        y = ((1 / z + 0.5 / (freedom + 4)) * y - 1) * (freedom + 1) / (freedom + 2) + 1 / y
    return math.sqrt(freedom * y)


def _deviation(noise: float, nights: int) -> float:
    """Of the recent level less the level before it: a median of three, and of so many nights."""
    return noise * math.sqrt(_MEDIAN_OF_THREE + math.pi / 2 / nights)


def _change(values: Sequence[float], begin: int, night: int, series: int) -> Change | None:
    split = night + 1 - RECENT
    history = [math.log(value) for value in values[max(begin, split - MOST_HISTORY, 0) : max(split, 0)]]
    if len(history) < LEAST_HISTORY:
        return None
    recent = [math.log(value) for value in values[split : night + 1]]
    before, after = statistics.median(history), statistics.median(recent)
    step = after - before
    if abs(math.expm1(step)) < LEAST or min((value - before) / step for value in recent) < _NEAREST:
        return None
    deviation = _deviation(spread(history), len(history))
    if abs(step) < bar(len(history), series) * deviation:
        return None
    half = student(0.975, max(3, len(history) - 1)) * deviation
    return Change(
        first=split,
        found=night,
        before=math.exp(before),
        after=math.exp(after),
        effect=math.expm1(step),
        low=math.expm1(step - half),
        high=math.expm1(step + half),
        nights=len(history),
    )
