"""Telemetry hour by hour: the sums that older records left, and the same sums of records that are still whole."""

from __future__ import annotations

import math

from collector.store import Store
from collector.store.rollup import HOUR_S, HourKey, HourSum, sums_of
from collector.stored import TelemetryHour

_LONGEST_RECORD_S = 3600.0  # a record that began before an hour may reach into it


def hours_of(store: Store, device: str, since_unix_s: float = -math.inf) -> list[TelemetryHour]:
    """Hours of `device` by its own clock that reach beyond `since_unix_s`, oldest first, then by name.

    Raises:
        StoreUnavailable: the database failed.
    """
    sums = sums_of(store.telemetry(device, since_unix_s - HOUR_S - _LONGEST_RECORD_S))
    for left in store.telemetry_hours(device):
        key = HourKey(left.hour_unix_s, left.name, left.unit)
        one = HourSum(left.samples, left.lowest, left.highest, left.total)
        sums[key] = sums[key].plus(one) if key in sums else one
    return [
        TelemetryHour(**key._asdict(), **total._asdict())
        for key, total in sorted(sums.items())
        if key.hour_unix_s + HOUR_S > since_unix_s
    ]
