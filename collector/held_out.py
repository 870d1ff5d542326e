"""How far predictions are off at lengths that they were not shown, device by device, beside what was aimed at. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator

import msgspec

from collector.conditions import printable
from collector.prediction import NO_ENERGY, PHASES, Fits, fitted
from collector.prediction import families as families_of
from collector.stored import StoredTrial
from phasewatt.fields import Record

TIME_GOAL, ENERGY_GOAL = 0.10, 0.15  # largest relative error of a length that was left out, on a server's GPU


class HeldOut(Record, frozen=True):
    """One fit, each of its lengths predicted from the others."""

    group: str
    model: str
    subject: str  # "prefill time"
    goal: float
    trials: int
    errors: dict[str, float]  # relative, by length: predicted less measured; empty: see reason
    worst: float | None = None  # without its sign
    middle: float | None = None  # median, without signs
    within: bool | None = None  # whether the worst is within the goal
    reason: str | None = None


def held_out(trials: Iterable[StoredTrial]) -> tuple[HeldOut, ...]:
    """Prefill, decode and their energies of each device, set of conditions and model."""
    return tuple(_rows(trials))


def _rows(trials: Iterable[StoredTrial]) -> Iterator[HeldOut]:
    for family in families_of(trials):
        made = fitted(family)
        sets = (("time", made.times, TIME_GOAL, None), ("energy", made.joules, ENERGY_GOAL, _no_energy(made.scope)))
        for what, fits, goal, none in sets:
            for phase in PHASES:
                told = HeldOut(
                    group=family.label,
                    model=printable(family.shape.name),
                    subject=f"{phase.value} {what}",
                    goal=goal,
                    trials=len(family.trials),
                    errors={},
                )
                yield _judged(told, fits[phase], none)


def _judged(told: HeldOut, fits: Fits, none: str | None) -> HeldOut:
    if none is not None or fits.fit is None:
        return msgspec.structs.replace(told, reason=none or fits.reason)
    sizes = [abs(error) for error in fits.fit.errors.values()]
    return msgspec.structs.replace(
        told,
        errors={str(length): error for length, error in fits.fit.errors.items()},
        worst=max(sizes),
        middle=statistics.median(sizes),
        within=max(sizes) <= told.goal,
    )


def _no_energy(scope: object | None) -> str | None:
    return NO_ENERGY if scope is None else None
