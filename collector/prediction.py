"""What a workload that was never run would take, from the trials of one device under one set of conditions. Pure.

Prefill is fitted over the tokens of a batch and over the pairs that attention works on, decode steps over the batch and
over the tokens in its cache; time on the host, the device-busy part of it, and the energy of the power scope that most
trials have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from collector.conditions import GroupKey, group_of, in_order, labels, printable
from collector.fitting import LEAST_LENGTHS, Fit, fit
from collector.measured_points import (
    Sample,
    decode_terms,
    device_times,
    energies,
    host_times,
    no_device_time,
    prefill_terms,
    usual_scope,
)
from collector.stored import StoredTrial
from phasewatt.fields import Outcome, Phase, Record, Scope
from phasewatt.records import Trial
from phasewatt.work import Architecture

PHASES = (Phase.PREFILL, Phase.DECODE)
NO_ENERGY = "no trial here has energy"


class Asked(NamedTuple):
    """A workload."""

    prompt_tokens: int
    output_tokens: int
    batch: int = 1


class Estimate(Record, frozen=True):
    """A predicted value with its interval of 95 %, or the reason for none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class Fitted(Record, frozen=True):
    """One fit: of what, by which formula, and how far off it is at lengths that it was not shown."""

    subject: str  # "prefill time"
    unit: str
    formula: str
    lengths: tuple[int, ...]
    left_out_errors: dict[str, float]  # relative, by length
    half_width: float  # relative
    r2: float


class Forecast(Record, frozen=True):
    """What one group of trials says of a workload."""

    group: str
    model: str
    trials: int
    ttft_s: Estimate
    duration_s: Estimate
    device_s: Estimate  # of the duration, what the device is busy; the rest is launch overhead
    energy_j: Estimate  # of all sequences of the batch together
    scope: Scope | None
    fits: tuple[Fitted, ...]
    remarks: tuple[str, ...]  # where it extrapolates, and what weakens it


class FamilyFits(NamedTuple):
    """The fits of one group's trials of one model, without a workload that is asked for."""

    group: str
    model: str
    fits: tuple[Fitted, ...]


class Family(NamedTuple):
    """Trials that one set of fits is made of."""

    label: str
    reference: bool
    shape: Architecture
    trials: tuple[Trial, ...]


class PhaseFits(NamedTuple):
    """What one family's trials are fitted to: times, and energies on one scope."""

    times: Mapping[Phase, Fits]  # on the host's clock
    device: Mapping[Phase, Fits]  # device-busy
    joules: Mapping[Phase, Fits]
    scope: Scope | None  # None: no trial has energy


def forecasts(trials: Iterable[StoredTrial], asked: Asked) -> tuple[Forecast, ...]:
    """A forecast of each device, set of conditions and model that has a trial that went well."""
    return tuple(_forecast(family, asked) for family in families(trials))


def fits_by_family(trials: Iterable[StoredTrial]) -> tuple[FamilyFits, ...]:
    """The fits of each device, set of conditions and model that has lengths enough for one."""
    found = (FamilyFits(each.label, printable(each.shape.name), _shown_fits(fitted(each))) for each in families(trials))
    return tuple(each for each in found if each.fits)


def families(trials: Iterable[StoredTrial]) -> list[Family]:
    """The trials that went well, by device, set of conditions and model."""
    members: defaultdict[tuple[GroupKey, Architecture], list[Trial]] = defaultdict(list)
    for stored in trials:
        if stored.trial.outcome is Outcome.OK and stored.trial.work is not None:
            shape = stored.trial.work.task.architecture
            members[group_of(stored, across=True), shape].append(stored.trial)
    keys = in_order({key for key, _ in members})
    named = labels(keys)
    ordered = sorted(members, key=lambda each: (keys.index(each[0]), each[1].name))
    return [Family(named[key], key.reference, shape, tuple(members[key, shape])) for key, shape in ordered]


def fitted(family: Family) -> PhaseFits:
    """The fits of a family, as far as its lengths allow."""
    trials, scope = family.trials, usual_scope(family.trials)
    return PhaseFits(
        times={phase: Fits(host_times(trials, phase)) for phase in PHASES},
        device={phase: Fits(device_times(trials, phase), no_device_time(trials, phase)) for phase in PHASES},
        joules={phase: Fits(energies(trials, phase, scope), None if scope else NO_ENERGY) for phase in PHASES},
        scope=scope,
    )


def _shown_fits(made: PhaseFits) -> tuple[Fitted, ...]:
    kinds = (("time", "s", made.times), ("device time", "s", made.device), ("energy", "J", made.joules))
    shown = (
        _shown(f"{phase.value} {what}", unit, phase, fits[phase]) for what, unit, fits in kinds for phase in PHASES
    )
    return tuple(each for each in shown if each is not None)


def _forecast(family: Family, asked: Asked) -> Forecast:
    made = fitted(family)
    steps = asked.output_tokens - 1
    return Forecast(
        group=family.label,
        model=printable(family.shape.name),
        trials=len(family.trials),
        ttft_s=_sum(made.times, asked, 0),
        duration_s=_sum(made.times, asked, steps),
        device_s=_sum(made.device, asked, steps),
        energy_j=_sum(made.joules, asked, steps) if made.scope else Estimate(None, reason=NO_ENERGY),
        scope=made.scope,
        fits=_shown_fits(made),
        remarks=tuple(_remarks(family.trials, made.times, asked, family.shape)),
    )


class Fits:
    """The fit of one phase, or the reason for none."""

    def __init__(self, samples: Sequence[Sample], nothing: str | None = None) -> None:
        """`nothing`: why there are no samples, where there are none."""
        self.samples = tuple(samples)
        self.lengths = tuple(sorted({sample.point.length for sample in samples}))
        self.fit: Fit | None = fit([sample.point for sample in samples])
        self._nothing = nothing

    @property
    def reason(self) -> str:
        """Why there is no fit."""
        if not self.lengths and self._nothing:
            return self._nothing
        return f"needs {LEAST_LENGTHS} lengths, measured here: {', '.join(map(str, self.lengths)) or 'none'}"


def _sum(fits: Mapping[Phase, Fits], asked: Asked, steps: int) -> Estimate:
    """A prefill and `steps` decode steps; their errors are taken to go the same way."""
    prefill, decode = fits[Phase.PREFILL], fits[Phase.DECODE]
    if prefill.fit is None:
        return Estimate(None, reason=f"prefill: {prefill.reason}")
    if steps and decode.fit is None:
        return Estimate(None, reason=f"decode: {decode.reason}")
    value = prefill.fit.curve.at(prefill_terms(asked.batch, asked.prompt_tokens))
    half_width = value * prefill.fit.half_width
    if steps and decode.fit is not None:
        depths = range(asked.prompt_tokens, asked.prompt_tokens + steps)
        decoded = sum(decode.fit.curve.at(decode_terms(asked.batch, depth)) for depth in depths)
        value, half_width = value + decoded, half_width + decoded * decode.fit.half_width
    return Estimate(value, max(0.0, value - half_width), value + half_width)


def _shown(subject: str, unit: str, phase: Phase, made: Fits) -> Fitted | None:
    if made.fit is None:
        return None
    return Fitted(
        subject=subject,
        unit=unit,
        formula=_formula(made.fit, _TERMS[phase]),
        lengths=made.lengths,
        left_out_errors={str(length): error for length, error in made.fit.errors.items()},
        half_width=made.fit.half_width,
        r2=made.fit.r2,
    )


_TERMS = {Phase.PREFILL: ("batch x n", "batch x n²"), Phase.DECODE: ("batch", "batch x depth")}


def _formula(made: Fit, terms: Sequence[str]) -> str:
    curve = made.curve
    parts = [f"{curve.constant:.3g}"] if curve.constant else []
    parts += [f"{slope:.3g} x {term}" for slope, term in zip(curve.slopes, terms, strict=True) if slope]
    line = " + ".join(parts) or "0"
    return line if curve.floor is None else f"max({curve.floor:.3g}, {line})"


def _remarks(trials: Sequence[Trial], times: Mapping[Phase, Fits], asked: Asked, shape: Architecture) -> Iterable[str]:
    deepest = asked.prompt_tokens + max(0, asked.output_tokens - 2)
    wanted = {
        Phase.PREFILL: [prefill_terms(asked.batch, asked.prompt_tokens)],
        Phase.DECODE: [decode_terms(asked.batch, depth) for depth in {asked.prompt_tokens, deepest}],
    }
    for phase in PHASES:
        made = times[phase]
        steps = phase is Phase.PREFILL or asked.output_tokens > 1
        if made.fit is not None and steps and not all(made.fit.reaches(terms) for terms in wanted[phase]):
            measured = f"{made.lengths[0]} to {made.lengths[-1]} tokens"
            yield f"{phase.value} is extrapolated: measured with {measured}, batches {_batches(trials)}"
    if deepest + 1 > shape.max_position:
        yield f"{deepest + 1} tokens are more than the {shape.max_position} positions of {printable(shape.name)}"
    unsettled = sum(not run.steady for trial in trials for run in trial.runs if run.phase in PHASES)
    if unsettled:
        yield f"{unsettled} of the windows that it rests on never settled"


def _batches(trials: Iterable[Trial]) -> str:
    return ", ".join(str(batch) for batch in sorted({trial.work.task.batch for trial in trials if trial.work}))
