"""The rows of one piece of work: each metric on each group, with its interval and its ratio to the baseline. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from collector import stats
from collector.comparison import Cell, Row, Unavailable, UnlikeScopes, Verdict
from collector.conditions import printable, unsteady
from collector.machine_ceilings import peaks_for
from collector.metering import gain_of
from collector.pairing import Group, PairedWork
from collector.stored import StoredTrial
from phasewatt import distribution
from phasewatt.fields import Phase, Scope
from phasewatt.metrics import DISTRIBUTIONS, METRICS, Better, Ceilings, Context, Metric
from phasewatt.records import PhaseEnergy, Trial

_NOT_DONE = "this group did not do this work"
_OTHER_SCOPES = "not compared on these scopes"
_UNKNOWN_GAIN = "the gain of a power sensor is not known, so that figures of two sensors cannot be told apart"
_Sensor = tuple[str, bool, str, tuple[str, ...]]


class _Asked(NamedTuple):
    """A row to be made: a metric, on one scope, or on the baseline's scope beside another."""

    metric: Metric
    scope: Scope | None
    beside: Scope | None = None


class _Found(NamedTuple):
    """What the trials of one group say of one metric: a summary, or the reason for none."""

    summary: stats.Summary | None
    reason: str | None
    values: tuple[float, ...] = ()
    scope: Scope | None = None
    gain: float | None = None
    sensors: frozenset[_Sensor] = frozenset()
    settled: bool = True
    note: str | None = None
    doubts: tuple[str, ...] = ()


def rows_of(
    work: PairedWork,
    groups: Sequence[Group],
    unlike: Sequence[UnlikeScopes] = (),
    measured: Sequence[StoredTrial] = (),
) -> tuple[list[Row], list[Unavailable]]:
    """Rows of `work`, the first group being the baseline; and the metrics that no group has, with the reasons.

    Where nothing was metered at all, a single row says why there is no energy. `unlike` adds rows for the scopes that
    are to be compared though they differ; `measured` are trials that measured ceilings.
    """
    rows: list[Row] = []
    absent: list[Unavailable] = []
    pairs = {each.group: each.compared for each in unlike if each.compared}
    for asked in _asked(work, pairs.values()):
        found = [_on_its_scope(asked, work, group, index, pairs, measured) for index, group in enumerate(groups)]
        if any(each.summary for each in found):
            rows.append(_row(asked, groups, found))
        elif asked.beside is None:
            reasons = tuple(dict.fromkeys(each.reason for each in found if each.reason))
            absent.append(Unavailable(metric=asked.metric.name, scope=asked.scope, reasons=reasons))
    if not any(row.scope for row in rows):
        rows.append(_energy_row(work, groups))
    return rows, absent


def _asked(work: PairedWork, pairs: Iterable[tuple[Scope, Scope]]) -> Iterator[_Asked]:
    """Every metric, once a scope where it has scopes: those that any trial of this work was metered on.

    Of unlike scopes those metrics are set beside each other that have a better direction.
    """
    trials = [stored.trial for members in work.members.values() for stored in members]
    metered = {energy.scope for trial in trials for energy in trial.energy}
    for metric in METRICS.values():
        if not metric.scoped:
            yield _Asked(metric, None)
            continue
        yield from (_Asked(metric, scope) for scope in Scope if scope in metered)
        if metric.better is not Better.NEITHER:
            yield from (_Asked(metric, *pair) for pair in dict.fromkeys(pairs))


def _on_its_scope(
    asked: _Asked,
    work: PairedWork,
    group: Group,
    index: int,
    pairs: Mapping[str, tuple[Scope, Scope]],
    measured: Sequence[StoredTrial],
) -> _Found:
    """What a group says of a metric on the scope that is its own in this row."""
    if asked.beside is None or index == 0:
        return _found(asked.metric, asked.scope, work, group, measured)
    if pairs.get(group.label) != (asked.scope, asked.beside):
        return _Found(None, _OTHER_SCOPES)
    return _found(asked.metric, asked.beside, work, group, measured)


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


def _found(
    metric: Metric, scope: Scope | None, work: PairedWork, group: Group, measured: Sequence[StoredTrial]
) -> _Found:
    trials = _trials_of(work, group)
    readings = [metric.of(trial, _context(metric, scope, trial, measured)) for trial in trials]
    told = [each for each in readings if each.values]
    reasons = [printable(each.reason or "no value") for each in readings if not each.values]
    if not told:
        return _Found(None, "; ".join(dict.fromkeys(reasons)) or _NOT_DONE, scope=scope)
    energies = [e for trial in trials for e in trial.energy if metric.scoped and e.scope is scope]
    of_phase = [energy for energy in energies if energy.phase is metric.phase and energy.energy_j is not None]
    return _Found(
        summary=stats.summary(told, stream=f"{group.key} {work.work_id} {metric.name} {scope}"),
        reason=None,
        values=tuple(value for each in told for value in each.values),
        scope=scope,
        gain=gain_of(of_phase),
        sensors=frozenset(_sensor(group, energy) for energy in of_phase),
        settled=metric.phase is None or metric.phase.value not in unsteady(trials),
        note=_note(metric, trials, reasons),
        doubts=_doubts(metric, of_phase, energies),
    )


def _context(metric: Metric, scope: Scope | None, trial: Trial, measured: Sequence[StoredTrial]) -> Context:
    """With the ceilings of the trial's machine, where the metric is a share of them."""
    if not metric.of_ceilings:
        return Context(scope=scope)
    peaks = peaks_for(trial, measured)
    matmul, read = peaks.matmul.value, peaks.read.value
    if matmul is None or read is None:
        return Context(scope, None, peaks.matmul.reason or peaks.read.reason)
    return Context(scope, Ceilings(matmul, read))


def _sensor(group: Group, energy: PhaseEnergy) -> _Sensor:
    """What has one gain: the rails of one host by one driver, whichever of its readings is taken."""
    return group.key.device, group.key.reference, energy.source.partition(".")[0], energy.rails


def _doubts(metric: Metric, of_phase: Sequence[PhaseEnergy], energies: Sequence[PhaseEnergy]) -> tuple[str, ...]:
    """What trials doubt of the energy behind a figure, and of the idle baseline where that is subtracted."""
    doubts = [doubt for energy in of_phase for doubt in energy.doubts]
    if metric.name.endswith("_adjusted"):
        idle = [energy for energy in energies if energy.phase is Phase.IDLE]
        doubts += [f"idle baseline: {doubt}" for energy in idle for doubt in energy.doubts if doubt not in doubts]
    return tuple(dict.fromkeys(map(printable, doubts)))


def _note(metric: Metric, trials: Sequence[Trial], reasons: Sequence[str]) -> str | None:
    notes = [f"{len(reasons)} of {len(trials)} trials without a value: {reasons[0]}"] if reasons else []
    if metric.phase is not None and metric.phase.value in unsteady(trials):
        notes.append(f"{metric.phase.value} never settled")
    return "; ".join(notes) or None


def _row(asked: _Asked, groups: Sequence[Group], found: Sequence[_Found]) -> Row:
    base, metric = found[0], asked.metric
    cells = [_cell(group, each, metric) for group, each in zip(groups, found, strict=True)]
    beside = [_beside(cell, each, base, asked) for cell, each in zip(cells[1:], found[1:], strict=True)]
    return Row(
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        formula=metric.formula,
        phase=metric.phase,
        scope=asked.scope,
        cells=(cells[0], *beside),
        beside=asked.beside,
    )


def _cell(group: Group, found: _Found, metric: Metric) -> Cell:
    summary = found.summary
    if summary is None:
        return Cell(group=group.label, value=None, reason=found.reason, scope=found.scope, ratio_reason="no value")
    return Cell(
        group=group.label,
        value=summary.value,
        reason=None,
        scope=found.scope,
        low=summary.low,
        high=summary.high,
        quartiles=summary.quartiles,
        percentiles=distribution.percentiles(found.values) if metric.name in DISTRIBUTIONS else None,
        spread=distribution.spread(found.values),
        trials=summary.trials,
        repetitions=summary.repetitions,
        gain_uncertainty=found.gain,
        ratio_reason="this is the baseline",
        settled=found.settled,
        note=found.note,
        doubts=found.doubts,
    )


def _beside(cell: Cell, found: _Found, base: _Found, asked: _Asked) -> Cell:
    """`cell` with its ratio to the baseline, or the reason for none."""
    if found.summary is None:
        return cell
    if base.summary is None:
        return msgspec.structs.replace(cell, ratio_reason=f"baseline: {base.reason}")
    ratio = stats.ratio(found.summary, base.summary)
    if ratio is None:
        return msgspec.structs.replace(cell, ratio_reason="the baseline is not clearly above zero")
    gain = _ratio_gain(found, base) if asked.metric.scoped else 0.0
    verdict = _verdict(ratio, asked, gain, settled=found.settled and base.settled)
    note = _UNKNOWN_GAIN if gain is None and verdict is Verdict.UNCLEAR else None
    return msgspec.structs.replace(
        cell,
        ratio=ratio.value,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        ratio_reason=None,
        ratio_gain_uncertainty=gain if asked.metric.scoped else None,
        verdict=verdict,
        note="; ".join(told for told in (cell.note, note) if told) or None,
    )


def _ratio_gain(found: _Found, base: _Found) -> float | None:
    """Relative gain uncertainty of a ratio of energies: none for one sensor; not known where that of one is not."""
    if len(found.sensors) == 1 and found.sensors == base.sensors:
        return 0.0
    return None if found.gain is None or base.gain is None else math.hypot(found.gain, base.gain)


def _verdict(ratio: stats.Ratio, asked: _Asked, gain: float | None, settled: bool) -> Verdict | None:
    """Better or worse where the interval leaves no doubt, the gains of two different sensors allowed for."""
    if asked.metric.better is Better.NEITHER:
        return None
    if asked.beside is not None:
        return Verdict.UNLIKE
    if ratio.low is None or ratio.high is None or gain is None or not settled:
        return Verdict.UNCLEAR
    if ratio.low * (1 - gain) <= 1 <= ratio.high * (1 + gain):
        return Verdict.UNCLEAR
    return Verdict.BETTER if (ratio.value < 1) == (asked.metric.better is Better.LOWER) else Verdict.WORSE
