"""What a board showed last, from the newest row of its telemetry: power by scope, and a few figures beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from phasewatt import rails, series
from phasewatt.fields import Reading, Scope
from phasewatt.traces import Telemetry

_SHOWN = tuple(scope for scope in Scope if scope not in (Scope.UNKNOWN, Scope.COMPUTE))  # the others say no total


class Value(NamedTuple):
    """One column of telemetry, now; None: the board did not get it this time."""

    unit: str
    value: float | None


class _Power(NamedTuple):
    """A column that is power; an energy counter became one by its growth since the sample before."""

    scope: str
    name: str
    reading: str
    power_w: float | None


class Sample(NamedTuple):
    """The newest row: when it was taken, by the board's monotonic clock in s, and every column."""

    boot_id: str
    time_s: float
    values: Mapping[str, Value]
    simulated: bool = False


def sample_of(telemetry: Telemetry, before_last: int = 0) -> Sample | None:
    """The last row, or one that many rows before it; None where there is none."""
    times_ns = series.unpack_times(telemetry.time)
    at = len(times_ns) - 1 - before_last
    if at < 0:
        return None
    values = {column.name: Value(column.unit, series.unpack(column)[at]) for column in telemetry.values}
    return Sample(telemetry.boot_id, times_ns[at] * 1e-9, values, telemetry.simulated)


def power_w(now: Sample, before: Sample | None) -> dict[str, float | None]:
    """Total power of each scope that the board reads, in W; None while a part of it is missing.

    `before` is the sample before, without which counters tell no power yet.
    """
    found: dict[str, float | None] = {}
    for scope in _SHOWN:
        powers = [power for power in _powers(now, before) if power.scope == scope.value]
        if powers:
            found[scope.value] = _total_w(scope, _by_name(powers))
    return found


def figure(now: Sample, *names: str) -> float | None:
    """The first of these columns that has a value."""
    values = (now.values[name].value for name in names if name in now.values)
    return next((value for value in values if value is not None), None)


def _powers(now: Sample, before: Sample | None) -> Iterator[_Power]:
    for column, (unit, value) in now.values.items():
        scope, _, rest = column.partition("/")
        name, _, reading = rest.rpartition("/")
        if name and unit == "W":
            yield _Power(scope, name, reading, value)
        elif name and unit == "J":
            yield _Power(scope, name, reading, _growth_w(column, value, now, before))


def _growth_w(column: str, joules: float | None, now: Sample, before: Sample | None) -> float | None:
    """Mean power since the sample before; None where there is none, or the counter began anew."""
    if joules is None or before is None or before.boot_id != now.boot_id or now.time_s <= before.time_s:
        return None
    earlier = before.values.get(column, Value("J", None)).value
    return None if earlier is None or earlier > joules else (joules - earlier) / (now.time_s - before.time_s)


def _by_name(powers: list[_Power]) -> dict[str, float | None]:
    """One power a sensor: the reading of the moment, else the mean, else what a counter grew by."""
    order = (Reading.COUNTER.value, Reading.AVERAGE.value, Reading.INSTANT.value)
    known = sorted((power for power in powers if power.reading in order), key=lambda power: order.index(power.reading))
    missing: dict[str, float | None] = {power.name: None for power in powers}
    return missing | {power.name: power.power_w for power in known if power.power_w is not None}


def _total_w(scope: Scope, powers_w: Mapping[str, float | None]) -> float | None:
    """By the module's rule where the names are its rails; else all of them together."""
    total = rails.totals(powers_w).get(scope)
    if total is not None:
        return rails.total_w(powers_w, total)
    parts_w = [part_w for part_w in powers_w.values() if part_w is not None]
    return sum(parts_w) if len(parts_w) == len(powers_w) else None
