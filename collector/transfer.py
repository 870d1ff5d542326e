"""An estimate for a device of which only the ceilings were measured, from another one's fitted trials. Pure.

What rises with the work goes by the ceiling that bounds it: prefill by matrix products, decode by reading memory. The
floor, which a launch-bound device takes however little it is asked, goes by the time of a launch; so does all of a
phase that reaches less than `NEAR` of both ceilings where it was measured. No estimate is below what the device's own
ceilings allow. How much of a ceiling kernels reach is another share on every device, anywhere from `NEAR` of it to
all, so an interval goes from `NEAR` times the estimate to the estimate over `NEAR`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from collector.conditions import printable
from collector.fitting import Fit
from collector.machine_ceilings import peaks_for, with_ceilings
from collector.measured_points import decode_terms, prefill_terms
from collector.prediction import (
    PHASES,
    Asked,
    Estimate,
    Family,
    PhaseFits,
    families,
    fitted,
)
from collector.stored import StoredTrial
from phasewatt import operators
from phasewatt.bounds import NEAR
from phasewatt.ceilings import Peaks, peaks_of
from phasewatt.fields import Phase, Record
from phasewatt.operators import Pass
from phasewatt.profiled_work import FAMILIES
from phasewatt.roofline import BYTES_PER_ELEMENT
from phasewatt.work import Work

_WHY = f"how much of a ceiling kernels reach differs between devices: from {NEAR:.0%} of it to all"
_NO_POWER = "ceilings of speed say nothing of power"
_SAMPLES = 9  # depths of a decode at which its steps are estimated


class Transferred(Record, frozen=True):
    """An estimate, and never a measurement nor a prediction from the device's own trials."""

    device: str
    processor: str | None
    source: str  # whose trials it rests on
    model: str
    ttft_s: Estimate
    duration_s: Estimate
    energy_j: Estimate
    ratios: dict[str, float]  # how many times as fast as the source: matmul, read, launch
    why: str  # the interval is so wide


class _Pair(NamedTuple):
    """From one machine to another."""

    work: Work
    source: Peaks
    target: Peaks


def transferred(trials: Sequence[StoredTrial], asked: Asked) -> tuple[Transferred, ...]:
    """From each family with fits and ceilings to each device that has ceilings and no trial of that model."""
    ceilings = sorted(with_ceilings(trials), key=lambda stored: stored.trial.started_unix_s)
    known = families(trials)
    found: list[Transferred] = []
    for family in known:
        for stored in ceilings:
            if not any(_did(other, stored, family) for other in known):
                found += _estimate(family, stored, ceilings, asked)
    newest = {(each.device, each.processor, each.source, each.model): each for each in found}
    return tuple(newest.values())


def _did(other: Family, stored: StoredTrial, family: Family) -> bool:
    """Whether the device has trials of its own of that model."""
    return other.shape == family.shape and any(trial.device == stored.trial.device for trial in other.trials)


def _estimate(
    family: Family, stored: StoredTrial, ceilings: Sequence[StoredTrial], asked: Asked
) -> Iterator[Transferred]:
    newest = max(family.trials, key=lambda trial: trial.started_unix_s)
    made = fitted(family)
    source = peaks_for(newest, ceilings)
    if newest.work is None or source.matmul.value is None or made.times[Phase.PREFILL].fit is None:
        return
    target = peaks_of(stored.trial.ceilings, newest.work.dtype, stored.trial.conditions, "")
    pair = _Pair(newest.work, source, target)
    yield Transferred(
        device=stored.trial.device,
        processor=None if stored.trial.conditions.processor is None else printable(stored.trial.conditions.processor),
        source=family.label,
        model=printable(family.shape.name),
        ttft_s=_sum(pair, made, asked, 0),
        duration_s=_sum(pair, made, asked, asked.output_tokens - 1),
        energy_j=Estimate(None, reason=_NO_POWER),
        ratios=_ratios(pair),
        why=_WHY,
    )


def _sum(pair: _Pair, made: PhaseFits, asked: Asked, steps: int) -> Estimate:
    reason = _unable(pair, made, steps)
    if reason is not None:
        return Estimate(None, reason=reason)
    prefill, decode = (made.times[phase].fit for phase in PHASES)
    assert prefill is not None
    first = Pass(asked.batch, asked.prompt_tokens, 0)
    value = _scaled(pair, prefill, prefill_terms(asked.batch, asked.prompt_tokens), first)
    if steps and decode is not None:
        depths = _depths(asked.prompt_tokens, steps)
        each = [
            _scaled(pair, decode, decode_terms(asked.batch, depth), Pass(asked.batch, 1, depth)) for depth in depths
        ]
        value += steps * sum(each) / len(each)
    return Estimate(value, value * NEAR, value / NEAR)


def _depths(first: int, steps: int) -> list[int]:
    """Some of the depths, evenly spread: a step's time is a line over them, or a line with a floor."""
    count = min(steps, _SAMPLES)
    return [first + (index * steps + steps // 2) // count for index in range(count)]


def _unable(pair: _Pair, made: PhaseFits, steps: int) -> str | None:
    """Why there is no estimate."""
    if pair.work.task.architecture.family not in FAMILIES or pair.work.dtype not in BYTES_PER_ELEMENT:
        return "there is no formula for this architecture or dtype"
    if pair.work.quantization is not None:
        return "quantized weights are computed in ways that ceilings do not tell of"
    if steps and made.times[Phase.DECODE].fit is None:
        return f"decode: {made.times[Phase.DECODE].reason}"
    lacking = [
        f"{whose}: {peak.reason}"
        for whose, peaks in (("there", pair.source), ("here", pair.target))
        for peak in (peaks.matmul, peaks.read, peaks.launch)
        if not peak.value
    ]
    return lacking[0] if lacking else None


def _scaled(pair: _Pair, fit: Fit, terms: tuple[float, ...], one: Pass) -> float:
    """Time of a pass on the other machine."""
    least_s = {machine: _least_s(pair, one, machine) for machine in (pair.source, pair.target)}
    value = fit.curve.at(terms)
    ratios = _ratios(pair)
    by_ceiling = 1 / ratios["matmul" if one.new > 1 else "read"]
    by_launch = 1 / ratios["launch"]
    if least_s[pair.source] < NEAR * value:
        return max(least_s[pair.target], value * by_launch)
    line_s = fit.curve.line(terms) * by_ceiling
    floor_s = (fit.curve.floor or 0.0) * by_launch
    return max(least_s[pair.target], line_s, floor_s)


def _least_s(pair: _Pair, one: Pass, machine: Peaks) -> float:
    """What a pass takes where every operator reaches the nearer ceiling."""
    assert machine.matmul.value and machine.read.value
    found = operators.costs(pair.work.task.architecture, pair.work.dtype, one).values()
    return max(
        sum(cost.flops for cost in found) / machine.matmul.value,
        sum(cost.moved_bytes for cost in found) / machine.read.value,
    )


def _ratios(pair: _Pair) -> dict[str, float]:
    """How many times as fast the other machine is, of what both have."""
    source, target = pair.source, pair.target
    pairs = {"matmul": (target.matmul, source.matmul), "read": (target.read, source.read)}
    found = {name: a.value / b.value for name, (a, b) in pairs.items() if a.value and b.value}
    if source.launch.value and target.launch.value:
        found["launch"] = source.launch.value / target.launch.value
    return found
