"""Trials as points that a curve can go through: host time, device-busy time or energy of a prefill or a step. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from collector.fitting import Point
from collector.scopes import NEAREST
from phasewatt import distribution
from phasewatt.fields import Phase, Scope
from phasewatt.metric_readings import Context, device, seconds
from phasewatt.records import PhaseEnergy, PhaseRun, Trial

_PHASES = (Phase.PREFILL, Phase.DECODE)


class Sample(NamedTuple):
    """One trial's phase: what is fitted, and how steady it was."""

    point: Point
    batch: int
    spread: float | None  # relative, of what the value was made from; None: from too little to tell
    settled: bool | None  # whether the window that it is from did; None: it is from no window


class _Read(NamedTuple):
    value: float  # of one repetition
    spread: float | None
    settled: bool | None


def host_times(trials: Iterable[Trial], phase: Phase) -> list[Sample]:
    """Median seconds of a prefill or of a decode step on the host's clock."""

    def read(trial: Trial, run: PhaseRun) -> _Read | None:
        taken = [span.duration_s for span in run.spans()]
        return _Read(statistics.median(taken), _spread(taken, run.steady), run.steady) if taken else None

    return _samples(trials, phase, read)


def device_times(trials: Iterable[Trial], phase: Phase) -> list[Sample]:
    """Median device-busy seconds of a prefill or of a decode step, of repetitions profiled apart."""

    def read(trial: Trial, run: PhaseRun) -> _Read | None:
        taken = device(phase, seconds)(trial, Context()).values
        return _Read(statistics.median(taken), distribution.spread(taken), None) if taken else None

    return _samples(trials, phase, read)


def energies(trials: Iterable[Trial], phase: Phase, scope: Scope | None) -> list[Sample]:
    """Gross joules of a prefill or of a decode step on `scope`, spread as their temporal uncertainty tells."""

    def read(trial: Trial, run: PhaseRun) -> _Read | None:
        found = _energy(trial, phase, scope)
        if found is None or not found.energy_j:
            return None
        unsure = found.temporal_uncertainty_j
        share = None if unsure is None else unsure / found.energy_j
        return _Read(found.energy_j / max(1, found.repetitions), share, run.steady)

    return _samples(trials, phase, read)


def no_device_time(trials: Iterable[Trial], phase: Phase) -> str | None:
    """Why no trial has device-busy time of `phase`, in the words of the first that says so; None: some has."""
    found = [device(phase, seconds)(trial, Context()) for trial in trials if trial.run_of(phase) is not None]
    if any(each.values for each in found):
        return None
    return next((f"no device-busy time: {each.reason}" for each in found), None)


def usual_scope(trials: Iterable[Trial]) -> Scope | None:
    """The scope that most trials have energy on; of equals the one nearest to the processor's module."""
    known = Counter(
        scope
        for trial in trials
        for scope in {each.scope for each in trial.energy if each.energy_j is not None and each.phase in _PHASES}
    )
    return max(NEAREST, key=lambda scope: known[scope]) if any(known[scope] for scope in NEAREST) else None


def prefill_terms(batch: int, tokens: int) -> tuple[float, ...]:
    """What the time of a prefill is fitted over."""
    return (batch * tokens, batch * tokens**2)


def decode_terms(batch: int, depth: float) -> tuple[float, ...]:
    """What the time of a decode step is fitted over."""
    return (batch, batch * depth)


def _samples(trials: Iterable[Trial], phase: Phase, read: Callable[[Trial, PhaseRun], _Read | None]) -> list[Sample]:
    found = []
    for trial in trials:
        run = trial.run_of(phase)
        if run is None or run.window is None or trial.work is None:
            continue
        taken = read(trial, run)
        if taken is not None and taken.value > 0:
            batch = trial.work.task.batch
            found.append(Sample(_point(run, batch, taken.value), batch, taken.spread, taken.settled))
    return found


def _point(run: PhaseRun, batch: int, value: float) -> Point:
    """A prefill, or one step of a decode at the middle of its depths."""
    if run.phase is Phase.PREFILL:
        return Point(prefill_terms(batch, run.kv_end), value, run.kv_end)
    middle = (run.kv_start + run.kv_end - 1) / 2 + run.deeper
    return Point(decode_terms(batch, middle), value / (run.kv_end - run.kv_start), run.kv_start)


def _spread(taken: Sequence[float], settled: bool) -> float | None:
    """The middle half of repetitions that settled, all of others, over the median: theirs is a matter of luck."""
    if settled or len(taken) < 2:
        return distribution.spread(taken)
    return (max(taken) - min(taken)) / statistics.median(taken)


def _energy(trial: Trial, phase: Phase, scope: Scope | None) -> PhaseEnergy | None:
    return next((each for each in trial.energy if each.phase is phase and each.scope is scope), None)
