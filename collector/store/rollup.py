"""Telemetry as sums by the hour. Pure.

Sums are made when raw telemetry goes by age, not when it comes: until then the raw samples tell more, and ingest stays
bare. Every record goes once, in the transaction that adds it to its hours, so it does not matter in how many batches
an hour came, nor how late.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from phasewatt import series
from phasewatt.traces import Telemetry

HOUR_S = 3600
_FARTHEST_S = 2.0**40  # a label beyond it, of a clock that was never set, goes to the last hour that is told


class HourKey(NamedTuple):
    """What one sum is of; the hour is a label by the board's clock."""

    hour_unix_s: int
    name: str
    unit: str


class HourSum(NamedTuple):
    """Samples that were there, and what they come to."""

    samples: int
    lowest: float
    highest: float
    total: float

    def plus(self, other: HourSum) -> HourSum:
        """Both together."""
        return HourSum(
            samples=self.samples + other.samples,
            lowest=min(self.lowest, other.lowest),
            highest=max(self.highest, other.highest),
            total=self.total + other.total,
        )


def sums_of(records: Iterable[Telemetry]) -> dict[HourKey, HourSum]:
    """The sums of `records`, by hour and series; missing samples are in none."""
    sums: dict[HourKey, HourSum] = {}
    for record in records:
        hours = _hours(record)
        for column in record.values:
            for hour, value in zip(hours, series.unpack(column), strict=True):
                if value is not None:
                    key = HourKey(hour, column.name, column.unit)
                    one = HourSum(1, value, value, value)
                    sums[key] = sums[key].plus(one) if key in sums else one
    return sums


def _hours(record: Telemetry) -> list[int]:
    times_ns = series.unpack_times(record.time)
    started_s = max(-_FARTHEST_S, min(record.started_unix_s, _FARTHEST_S))
    return [int((started_s + (time_ns - times_ns[0]) * 1e-9) // HOUR_S) * HOUR_S for time_ns in times_ns]
