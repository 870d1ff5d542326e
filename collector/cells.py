"""The rows of one piece of work: each metric on each group, with its interval and its ratio to the baseline. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from collector import stats
from collector.comparison import Cell, Row, Unavailable, Verdict
from collector.conditions import printable, unsteady
from collector.pairing import Group, PairedWork
from phasewatt.metrics import METRICS, Better, Context, Metric
from phasewatt.records import Scope, Trial

_DISTRIBUTIONS = frozenset({"itl"})  # metrics whose tail matters as much as their middle
_NOT_DONE = "this group did not do this work"


class _Found(NamedTuple):
    """What the trials of one group say of one metric: a summary, or the reason for none."""

    summary: stats.Summary | None
    reason: str | None
    values: tuple[float, ...] = ()
    gain: float | None = None
    settled: bool = True
    note: str | None = None


def rows_of(work: PairedWork, groups: Sequence[Group]) -> tuple[list[Row], list[Unavailable]]:
    """Rows of `work`, the first group being the baseline; and the metrics that no group has, with the reasons.

    Where nothing was metered at all, a single row says why there is no energy.
    """
    rows: list[Row] = []
    absent: list[Unavailable] = []
    for metric, scope in _asked(work):
        found = [_found(metric, scope, work, group) for group in groups]
        if any(each.summary for each in found):
            rows.append(_row(metric, scope, groups, found))
        else:
            reasons = tuple(dict.fromkeys(each.reason for each in found if each.reason))
            absent.append(Unavailable(metric=metric.name, scope=scope, reasons=reasons))
    if not any(row.scope for row in rows):
        rows.append(_energy_row(work, groups))
    return rows, absent


def _asked(work: PairedWork) -> list[tuple[Metric, Scope | None]]:
    """Every metric, once a scope where it has scopes: those that any trial of this work was metered on."""
    trials = [stored.trial for members in work.members.values() for stored in members]
    metered = {energy.scope for trial in trials for energy in trial.energy}
    scopes = [scope for scope in Scope if scope in metered]
    return [(metric, scope) for metric in METRICS.values() for scope in (scopes if metric.scoped else [None])]


def _trials_of(work: PairedWork, group: Group) -> list[Trial]:
    return [stored.trial for stored in work.members.get(group.key, ())]


def _energy_row(work: PairedWork, groups: Sequence[Group]) -> Row:
    cells = [
        Cell(group=group.label, value=None, reason=_no_energy(_trials_of(work, group)), ratio_reason="no value")
        for group in groups
    ]
    return Row(metric="energy", unit="J", better=Better.LOWER, formula="", phase=None, scope=None, cells=tuple(cells))


def _no_energy(trials: Sequence[Trial]) -> str:
    """Why none of a group's trials has any energy."""
    if not trials:
        return _NOT_DONE
    refused = [f"{energy.phase.value}: {energy.reason}" for trial in trials for energy in trial.energy if energy.reason]
    whole = [trial.energy_reason for trial in trials if trial.energy_reason]
    return printable("; ".join(dict.fromkeys([*whole, *refused]))) or "no power sensor"


def _found(metric: Metric, scope: Scope | None, work: PairedWork, group: Group) -> _Found:
    trials = _trials_of(work, group)
    readings = [metric.of(trial, Context(scope=scope)) for trial in trials]
    told = [each for each in readings if each.values]
    reasons = [printable(each.reason or "no value") for each in readings if not each.values]
    if not told:
        return _Found(None, "; ".join(dict.fromkeys(reasons)) or _NOT_DONE)
    return _Found(
        summary=stats.summary(told, stream=f"{group.key} {work.work_id} {metric.name} {scope}"),
        reason=None,
        values=tuple(value for each in told for value in each.values),
        gain=_gain(metric, scope, trials),
        settled=metric.phase is None or metric.phase.value not in unsteady(trials),
        note=_note(metric, trials, reasons),
    )


def _gain(metric: Metric, scope: Scope | None, trials: Iterable[Trial]) -> float | None:
    """Relative gain uncertainty of the sensor behind a power metric, the largest of its trials'."""
    found = [
        abs(energy.systematic_uncertainty_j / energy.energy_j)
        for trial in trials
        for energy in trial.energy
        if (energy.scope, energy.phase) == (scope, metric.phase) and energy.energy_j and energy.systematic_uncertainty_j
    ]
    return max(found, default=None) if metric.scoped else None


def _note(metric: Metric, trials: Sequence[Trial], reasons: Sequence[str]) -> str | None:
    notes = [f"{len(reasons)} of {len(trials)} trials without a value: {reasons[0]}"] if reasons else []
    if metric.phase is not None and metric.phase.value in unsteady(trials):
        notes.append(f"{metric.phase.value} never settled")
    return "; ".join(notes) or None


def _row(metric: Metric, scope: Scope | None, groups: Sequence[Group], found: Sequence[_Found]) -> Row:
    base, device = found[0], groups[0].key.device
    cells = [_cell(group, each, metric) for group, each in zip(groups, found, strict=True)]
    beside = [
        _beside(cell, each, base, metric, same_sensor=group.key.device == device)
        for cell, each, group in zip(cells[1:], found[1:], groups[1:], strict=True)
    ]
    return Row(
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        formula=metric.formula,
        phase=metric.phase,
        scope=scope,
        cells=(cells[0], *beside),
    )


def _cell(group: Group, found: _Found, metric: Metric) -> Cell:
    summary = found.summary
    if summary is None:
        return Cell(group=group.label, value=None, reason=found.reason, ratio_reason="no value")
    return Cell(
        group=group.label,
        value=summary.value,
        reason=None,
        low=summary.low,
        high=summary.high,
        quartiles=summary.quartiles,
        percentiles=stats.percentiles(found.values) if metric.name in _DISTRIBUTIONS else None,
        trials=summary.trials,
        repetitions=summary.repetitions,
        gain_uncertainty=found.gain,
        ratio_reason="this is the baseline",
        settled=found.settled,
        note=found.note,
    )


def _beside(cell: Cell, found: _Found, base: _Found, metric: Metric, same_sensor: bool) -> Cell:
    """`cell` with its ratio to the baseline, or the reason for none."""
    if found.summary is None:
        return cell
    if base.summary is None:
        return msgspec.structs.replace(cell, ratio_reason=f"baseline: {base.reason}")
    ratio = stats.ratio(found.summary, base.summary)
    if ratio is None:
        return msgspec.structs.replace(cell, ratio_reason="the baseline is not clearly above zero")
    gain = 0.0 if same_sensor else math.hypot(found.gain or 0.0, base.gain or 0.0)
    return msgspec.structs.replace(
        cell,
        ratio=ratio.value,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        ratio_reason=None,
        verdict=_verdict(ratio, metric.better, gain, settled=found.settled and base.settled),
    )


def _verdict(ratio: stats.Ratio, better: Better, gain: float, settled: bool) -> Verdict | None:
    """Better or worse where the interval leaves no doubt, the gains of two different sensors allowed for."""
    if better is Better.NEITHER:
        return None
    if ratio.low is None or ratio.high is None or not settled:
        return Verdict.UNCLEAR
    if ratio.low * (1 - gain) <= 1 <= ratio.high * (1 + gain):
        return Verdict.UNCLEAR
    return Verdict.BETTER if (ratio.value < 1) == (better is Better.LOWER) else Verdict.WORSE
