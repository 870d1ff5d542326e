"""Canaries as series, night by night, and what changed beside a level that changed. Pure.

A series is one metric of one cell on one device. What may change with a level (driver, power mode, clocks, heat) is no
part of its name, so that the history goes on over an upgrade, and the upgrade is named beside the change.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from collector import drift
from collector.conditions import printable, setting_words
from collector.drift import Change, Level
from collector.scopes import NEAREST
from phasewatt.fields import Record, Scope
from phasewatt.metrics import METRICS, Better, Context
from phasewatt.records import Trial

WATCHED = ("prefill_latency", "decode_step_latency", "decode_token_energy")
_WARMER_C = 5.0
_CLOCK_SHARE = 0.02
_MOST_TOLD = 16


class Beside(Record, frozen=True):
    """A condition that is not as it was."""

    name: str
    before: str
    after: str


class Found(Record, frozen=True):
    """A change of level of one series, as it is stored and published."""

    device: str
    series: str
    metric: str
    unit: str
    cell: str
    since_unix_s: float  # the first night at the new level
    found_unix_s: float  # the night that showed it
    before: float
    after: float
    effect: float  # share of the level before ...
    low: float  # ... with its interval of 95 %
    high: float
    nights: int  # that the level before rests on
    worse: bool | None  # None: the metric has no better direction
    beside: tuple[Beside, ...] = ()


class Night(NamedTuple):
    """A series on one night: the median of its trials, and these."""

    due_unix_s: float
    value: float
    trials: tuple[Trial, ...]


class Series(NamedTuple):
    """One metric of one cell on one device."""

    device: str
    cell: str
    metric: str
    nights: tuple[Night, ...]

    @property
    def name(self) -> str:
        """What tells it from the others of its device."""
        return f"{self.metric} of {self.cell}"


class Watched(NamedTuple):
    """A series with where it stands and what changed in it."""

    series: Series
    level: Level
    changes: tuple[Found, ...]


def watched(canaries: Iterable[tuple[float, Trial]]) -> list[Watched]:
    """Every series of good canary trials, each with the moment for which it was made, oldest first."""
    made = _series(canaries)
    counts: dict[str, int] = {}
    for series in made:
        counts[series.device] = counts.get(series.device, 0) + 1
    return [_judged(series, counts[series.device]) for series in made]


def unit_of(series: Series) -> str:
    """The unit of its values."""
    return METRICS[series.metric].unit


def sentence(found: Found) -> str:
    """A change in words."""
    day = datetime.datetime.fromtimestamp(found.since_unix_s, datetime.timezone.utc).strftime("%Y-%m-%d")
    turn = {True: "worse", False: "better", None: "another level"}[found.worse]
    told = (
        f"{found.series}: {found.effect:+.1%} [{found.low:+.1%}, {found.high:+.1%}] since {day}, {turn} "
        f"({found.before:.4g} to {found.after:.4g} {found.unit}, against {found.nights} nights)"
    )
    beside = "; ".join(f"{each.name} {each.before} -> {each.after}" for each in found.beside)
    return printable(f"{told}; changed with it: {beside}" if beside else f"{told}; no known condition changed with it")


def _series(canaries: Iterable[tuple[float, Trial]]) -> list[Series]:
    gathered: dict[tuple[str, str, str], dict[float, list[tuple[float, Trial]]]] = {}
    for due_unix_s, trial in canaries:
        scope = _own_scope(trial)
        for metric, value in _values(trial, scope):
            cell = trial.cell if scope is None or not METRICS[metric].scoped else f"{trial.cell}, {scope.value}"
            nights = gathered.setdefault((trial.device, cell, metric), {})
            nights.setdefault(due_unix_s, []).append((value, trial))
    return [Series(*key, _nights(nights)) for key, nights in sorted(gathered.items())]


def _own_scope(trial: Trial) -> Scope | None:
    """The power scope that is nearest to the processor which does the work; None: none has a figure."""
    own = Scope.GPU_BOARD if trial.conditions.accelerator == "cuda" else Scope.CPU_PACKAGE
    metered = {energy.scope for energy in trial.energy if energy.energy_j is not None}
    return next((scope for scope in (own, *NEAREST) if scope in metered), None)


def _values(trial: Trial, scope: Scope | None) -> Iterable[tuple[str, float]]:
    for metric in WATCHED:
        found = METRICS[metric].of(trial, Context(scope=scope)).values
        if found and (value := statistics.median(found)) > 0:
            yield metric, value


def _nights(nights: Mapping[float, Sequence[tuple[float, Trial]]]) -> tuple[Night, ...]:
    return tuple(
        Night(due, statistics.median(value for value, _ in made), tuple(trial for _, trial in made))
        for due, made in sorted(nights.items())
    )


def _judged(series: Series, count: int) -> Watched:
    values = [night.value for night in series.nights]
    found: list[Found] = []
    begin = 0
    for change in drift.changes(values, count):
        found.append(_found(series, change, begin))
        begin = change.first
    return Watched(series, drift.level(values, count), tuple(found))


def _found(series: Series, change: Change, begin: int) -> Found:
    metric, nights = METRICS[series.metric], series.nights
    before = [trial for night in nights[begin : change.first] for trial in night.trials]
    after = [trial for night in nights[change.first : change.found + 1] for trial in night.trials]
    rises = change.effect > 0
    return Found(
        device=series.device,
        series=series.name,
        metric=series.metric,
        unit=metric.unit,
        cell=series.cell,
        since_unix_s=nights[change.first].due_unix_s,
        found_unix_s=nights[change.found].due_unix_s,
        before=change.before,
        after=change.after,
        effect=change.effect,
        low=change.low,
        high=change.high,
        nights=change.nights,
        worse=None if metric.better is Better.NEITHER else rises is (metric.better is Better.LOWER),
        beside=tuple(_beside(before, after))[:_MOST_TOLD],
    )


def _beside(before: Sequence[Trial], after: Sequence[Trial]) -> Iterable[Beside]:
    """What is not as it was: settings that the newest of the nights before did not have, then what was observed."""
    then, now = dict(setting_words(before[-1].conditions)), dict(setting_words(after[-1].conditions))
    then["agent"], now["agent"] = before[-1].agent_version, after[-1].agent_version
    for name in dict.fromkeys([*then, *now]):
        if then.get(name) != now.get(name):
            yield Beside(name=name, before=then.get(name) or "not stated", after=now.get(name) or "not stated")
    yield from _observed(before, after)


def _observed(before: Sequence[Trial], after: Sequence[Trial]) -> Iterable[Beside]:
    was, now = (_median(trial.conditions.temperature_c[0] for trial in trials) for trials in (before, after))
    if was is not None and now is not None and abs(now - was) >= _WARMER_C:
        yield Beside(name="temperature before", before=f"{was:.0f} °C", after=f"{now:.0f} °C")
    was, now = (_median(trial.conditions.clock_hz[1] for trial in trials) for trials in (before, after))
    if was and now and abs(now / was - 1) >= _CLOCK_SHARE:
        yield Beside(name="clock", before=f"{was * 1e-9:.2f} GHz", after=f"{now * 1e-9:.2f} GHz")
    held, holds = (_held_back(trials) for trials in (before, after))
    if held != holds:
        yield Beside(name="throttled", before=held, after=holds)


def _held_back(trials: Sequence[Trial]) -> str:
    """What held more than half of the trials back."""
    reasons = [reason for trial in trials for reason in set(trial.conditions.throttled or ())]
    often = sorted(reason for reason in set(reasons) if 2 * reasons.count(reason) > len(trials))
    return ", ".join(often) or "no"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
