"""Sweeps over batch sizes: where throughput, latency and energy per token are best. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from phasewatt.fields import Outcome, Record, Scope
from phasewatt.metrics import METRICS, Better, Context
from phasewatt.records import Trial
from phasewatt.scopes import own_scope

SWEPT = ("decode_rate", "tpot", "decode_step_latency", "decode_token_energy", "request_token_energy")
_ENOUGH = 0.9  # of the best throughput: beyond it, more only takes longer


class Point(Record, frozen=True):
    """One batch size: medians over its trials of what was swept; None: no trial gives it."""

    batch: int
    trials: int
    figures: dict[str, float | None]
    scope: Scope | None  # of the energies


class Optimum(Record, frozen=True):
    """Where one metric of a sweep is best."""

    metric: str
    batch: int
    figure: float
    unit: str
    at_edge: bool  # the best is the first or last batch: the optimum may lie beyond the sweep


class Sweep(Record, frozen=True):
    """The same task on one device in one way, at several batch sizes."""

    device: str
    title: str
    simulated: bool
    points: tuple[Point, ...]
    optima: tuple[Optimum, ...]
    enough: int | None  # least batch that reaches 90 % of the best throughput; None: no throughput


def sweeps(trials: Iterable[Trial]) -> tuple[Sweep, ...]:
    """The sweeps in `trials`: those that differ in nothing but their batch, at two sizes or more."""
    found: dict[tuple[str, str, bool], dict[int, list[Trial]]] = {}
    for trial in trials:
        if trial.outcome is Outcome.OK and trial.work is not None:
            key = (trial.device, _title(trial), trial.conditions.simulated)
            found.setdefault(key, {}).setdefault(trial.work.task.batch, []).append(trial)
    return tuple(_sweep(*key, by_batch) for key, by_batch in found.items() if len(by_batch) > 1)


def in_words(sweep: Sweep) -> tuple[str, ...]:
    """The optima of a sweep, a line each."""
    lines = [
        f"{best.metric} is best at batch {best.batch}: {best.figure:.4g} {best.unit}"
        + (" (at the end of the sweep: it may lie beyond)" if best.at_edge else "")
        for best in sweep.optima
    ]
    if sweep.enough is not None:
        lines.append(f"{100 * _ENOUGH:.0f} % of the best throughput is reached at batch {sweep.enough}")
    return tuple(lines)


def _title(trial: Trial) -> str:
    """What the trials of a sweep share."""
    assert trial.work is not None
    work, how = trial.work, trial.conditions
    task = work.task
    parts = [task.architecture.name, f"{task.prompt_tokens}/{task.output_tokens}", work.weights.source, work.dtype]
    parts += [work.quantization or "", how.engine, how.mode, how.attention or "", how.processor or how.accelerator]
    parts += [f"{how.threads} threads" if how.threads else "", how.power_mode or ""]
    parts += ["" if how.parallelism == "single" else how.parallelism]
    parts += [f"chunks of {how.prefill_chunk}" if how.prefill_chunk else ""]
    return " · ".join(part for part in parts if part)


def _sweep(device: str, title: str, simulated: bool, by_batch: Mapping[int, Sequence[Trial]]) -> Sweep:
    points = tuple(_point(batch, by_batch[batch]) for batch in sorted(by_batch))
    best = (_best(name, points) for name in SWEPT)
    return Sweep(
        device=device,
        title=title,
        simulated=simulated,
        points=points,
        optima=tuple(each for each in best if each is not None),
        enough=_enough(points),
    )


def _point(batch: int, trials: Sequence[Trial]) -> Point:
    metered = {energy.scope for trial in trials for energy in trial.energy if energy.energy_j is not None}
    scope = own_scope(trials[0].conditions.accelerator, metered)
    figures = {name: _median(name, trials, scope) for name in SWEPT}
    return Point(batch=batch, trials=len(trials), figures=figures, scope=scope)


def _median(name: str, trials: Sequence[Trial], scope: Scope | None) -> float | None:
    values = [METRICS[name].of(trial, Context(scope=scope)).values for trial in trials]
    medians = [statistics.median(each) for each in values if each]
    return statistics.median(medians) if medians else None


def _best(name: str, points: Sequence[Point]) -> Optimum | None:
    known = [(figure, point.batch) for point in points if (figure := point.figures[name]) is not None]
    if len(known) < 2:
        return None
    metric = METRICS[name]
    sign = -1 if metric.better is Better.HIGHER else 1
    figure, batch = min(known, key=lambda pair: (sign * pair[0], pair[1]))
    ends = {known[0][1], known[-1][1]}
    return Optimum(metric=name, batch=batch, figure=figure, unit=metric.unit, at_edge=batch in ends)


def _enough(points: Sequence[Point]) -> int | None:
    rates = [(point.batch, rate) for point in points if (rate := point.figures["decode_rate"]) is not None]
    if len(rates) < 2:
        return None
    most = max(rate for _, rate in rates)
    return next(batch for batch, rate in rates if rate >= _ENOUGH * most)
