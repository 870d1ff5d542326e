"""Columns of numbers packed as integer steps: a quarter of the bytes of rows, and no rounding twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from phasewatt.traces import Series


def pack(name: str, unit: str, scale: float, values: Iterable[float | None]) -> Series:
    """`values`, in `unit`, as steps of `scale`; a value that is None or not finite becomes a missing step."""
    steps: list[int | None] = []
    last = 0
    for value in values:
        if value is None or not math.isfinite(value):
            steps.append(None)
            continue
        ticks = round(value / scale)
        steps.append(ticks - last)
        last = ticks
    return Series(name=name, unit=unit, scale=scale, steps=tuple(steps))


def unpack(series: Series) -> list[float | None]:
    """The values of `series` in its unit, None where missing."""
    return [None if ticks is None else ticks * series.scale for ticks in _ticks(series.steps)]


def pack_times(times_ns: Sequence[int]) -> Series:
    """Monotonic times in ns as a series in seconds with a step of one ns."""
    steps = [now - before for before, now in itertools.pairwise([0, *times_ns])]
    return Series(name="time", unit="s", scale=1e-9, steps=tuple(steps))


def unpack_times(series: Series) -> list[int]:
    """Monotonic times in ns, exact.

    Raises:
        ValueError: not a time series of ours, or one with holes.
    """
    if series.scale != 1e-9 or None in series.steps:
        raise ValueError(f"series {series.name!r} is no series of times in ns")
    return [ticks for ticks in _ticks(series.steps) if ticks is not None]


def _ticks(steps: Iterable[int | None]) -> Iterator[int | None]:
    total = 0
    for step in steps:
        if step is None:
            yield None
        else:
            total += step
            yield total
