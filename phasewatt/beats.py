"""The beats of the work: whether a sensor looked at all of a repetition, or always at the same moment of it. Pure."""

from __future__ import annotations

import bisect
import cmath
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_HARMONICS = (1, 2, 3)
_LOCKED = 0.5  # a resultant above it
_CHANCE = 5.0  # what a few moments reach by chance: a resultant above sqrt(5 / n) has a chance of 0.7 %


class Beat(NamedTuple):
    """Something that repeats: where each repetition starts, and how many equal parts it has."""

    starts_ns: Sequence[int]
    durations_ns: Sequence[int]
    parts: int = 1


def resultant(moments_ns: Sequence[int], widths_ns: Sequence[int], beats: Iterable[Beat]) -> float:
    """How one-sidedly `moments_ns` lie in the strongest of `beats`: 0 everywhere alike, 1 always the same moment.

    A beat shorter than the `widths_ns` that a value is a mean over, or that its moment is known to, does not count.
    """
    return max((_resultant(moments_ns, widths_ns, beat) for beat in beats), default=0.0)


def is_locked(resultant: float, moments: int) -> bool:
    """Whether so many moments saw too little of the beat for any statement."""
    return resultant > max(_LOCKED, math.sqrt(_CHANCE / max(1, moments)))


def _resultant(moments_ns: Sequence[int], widths_ns: Sequence[int], beat: Beat) -> float:
    phases = [phase for at in moments_ns if (phase := _phase(at, beat)) is not None]
    if not phases:
        return 0.0
    usual_ns = sorted(beat.durations_ns)[len(beat.durations_ns) // 2] / beat.parts
    return max(
        abs(sum(cmath.exp(2j * math.pi * harmonic * phase) for phase in phases))
        / len(phases)
        * math.prod(_passed(harmonic * width_ns / usual_ns) for width_ns in widths_ns)
        for harmonic in _HARMONICS
    )


def _phase(at_ns: int, beat: Beat) -> float | None:
    """Where in a part of the beat a moment lies, 0 to 1; None outside of all repetitions."""
    index = bisect.bisect_right(beat.starts_ns, at_ns) - 1
    if index < 0 or at_ns >= beat.starts_ns[index] + beat.durations_ns[index]:
        return None
    return (at_ns - beat.starts_ns[index]) / beat.durations_ns[index] * beat.parts % 1.0


def _passed(cycles: float) -> float:
    """What averaging over so many cycles leaves of a wave."""
    return 1.0 if cycles == 0 else abs(math.sin(math.pi * cycles) / (math.pi * cycles))
