"""How far predictions are off at lengths and batches that they were not shown, beside what was aimed at. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from collector import noise
from collector.conditions import printable
from collector.fitting import LEAST_LENGTHS, LeftOut, left_out
from collector.measured_points import Sample
from collector.prediction import PHASES, Family, Fits, fitted
from collector.prediction import families as families_of
from collector.stored import StoredTrial
from phasewatt.fields import Record

TIME_GOAL, ENERGY_GOAL = 0.10, 0.15  # largest relative error of a length that was left out, on a server's GPU
LENGTH, BATCH = "length", "batch"


class HeldOut(Record, frozen=True):
    """One fit, each of its lengths, or each of its batches, predicted from the others."""

    group: str
    model: str
    subject: str  # "prefill device time"
    goal: float
    trials: int
    errors: dict[str, float]  # relative, by length or batch: predicted less measured; empty: see reason
    interpolated: dict[str, float]  # the same of what the others enclose, which the goal is judged by
    spreads: dict[str, float]  # how far measurements of one length or batch lie apart, where that can be told
    left_out: str = LENGTH  # or BATCH
    worst: float | None = None  # of `errors`, without its sign
    worst_interpolated: float | None = None  # None: every one is extrapolated
    middle: float | None = None  # median of `errors`, without signs
    within: bool | None = None  # whether the worst that is interpolated is within the goal
    reason: str | None = None
    note: str | None = None  # what weakens it: measurements as far apart as it is off, windows that never settled


def held_out(trials: Iterable[StoredTrial]) -> tuple[HeldOut, ...]:
    """Prefill, decode and their energies of each device, set of conditions and model."""
    return tuple(row for family in families_of(trials) for row in _rows(family))


def _rows(family: Family) -> Iterator[HeldOut]:
    made = fitted(family)
    kinds = (("time", made.times, TIME_GOAL), ("device time", made.device, TIME_GOAL))
    for what, fits, goal in (*kinds, ("energy", made.joules, ENERGY_GOAL)):
        for phase in PHASES:
            told = HeldOut(
                group=family.label,
                model=printable(family.shape.name),
                subject=f"{phase.value} {what}",
                goal=goal,
                trials=len(family.trials),
                errors={},
                interpolated={},
                spreads={},
            )
            yield _by_length(told, fits[phase])
            yield from _by_batch(told, fits[phase])


def _by_length(told: HeldOut, fits: Fits) -> HeldOut:
    if fits.fit is None:
        return msgspec.structs.replace(told, reason=fits.reason)
    keys = [sample.point.length for sample in fits.samples]
    return _judged(told, fits.fit.left_out, fits.samples, keys)


def _by_batch(told: HeldOut, fits: Fits) -> Iterator[HeldOut]:
    """A row where there are several batches: lengths left out say nothing of a batch that no other length has."""
    batches = sorted({sample.batch for sample in fits.samples})
    told = msgspec.structs.replace(told, left_out=BATCH)
    if fits.fit is not None and len(batches) >= LEAST_LENGTHS:
        keys = [sample.batch for sample in fits.samples]
        yield _judged(told, left_out([sample.point for sample in fits.samples], keys), fits.samples, keys)
    elif len(batches) > 1:
        few = f"needs {LEAST_LENGTHS} batches, measured here: {', '.join(map(str, batches))}"
        yield msgspec.structs.replace(told, reason=few if fits.fit is not None else fits.reason)


def _judged(told: HeldOut, found: dict[int, LeftOut], samples: Sequence[Sample], keys: Sequence[int]) -> HeldOut:
    inner = {key: each.interpolated for key, each in found.items() if each.interpolated is not None}
    sizes = [abs(each.error) for each in found.values()]
    worst = max(map(abs, inner.values()), default=None)
    within = None if worst is None else worst <= told.goal
    spread = noise.spreads(samples, keys)
    said = noise.remark(max(sizes) if worst is None else worst, spread, told.left_out)
    unsettled = noise.unsettled(samples) if said is not None or within is False else None
    return msgspec.structs.replace(
        told,
        errors={str(key): each.error for key, each in found.items()},
        interpolated={str(key): error for key, error in inner.items()},
        spreads={str(key): each for key, each in spread.items()},
        worst=max(sizes),
        worst_interpolated=worst,
        middle=statistics.median(sizes),
        within=within,
        note="; ".join(each for each in (said, unsettled) if each is not None) or None,
    )
