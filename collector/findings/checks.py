"""A part of a claim: a value on one side of a threshold or not. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from phasewatt.fields import Record


class Verdict(enum.Enum):
    """How a claim, or a part of it, stands."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does_not_hold"
    NOT_ENOUGH_DATA = "not_enough_data"


class Side(enum.Enum):
    """Where a value is asked to lie."""

    ABOVE = "above"
    BELOW = "below"
    WITHIN = "within"


class Check(Record, frozen=True):
    """One part of a claim: a value with its interval, on one side of a threshold or not."""

    says: str
    verdict: Verdict
    value: float | None = None  # None: not measured
    low: float | None = None
    high: float | None = None
    unit: str = "1"
    side: Side | None = None  # where the whole interval must lie ...
    threshold: float | None = None  # ... of this; within: from it ...
    upper: float | None = None  # ... to this


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """A claim fails with any of its parts, holds with all of them, and is open otherwise."""
    found = set(verdicts)
    if Verdict.DOES_NOT_HOLD in found:
        return Verdict.DOES_NOT_HOLD
    return Verdict.HOLDS if found == {Verdict.HOLDS} else Verdict.NOT_ENOUGH_DATA


def unmeasured(says: str, unit: str = "1") -> Check:
    """A part that no trial here can decide."""
    return Check(says=says, verdict=Verdict.NOT_ENOUGH_DATA, unit=unit)


def opened(check: Check) -> Check:
    """The same figures, without a decision."""
    return msgspec.structs.replace(check, verdict=Verdict.NOT_ENOUGH_DATA)
