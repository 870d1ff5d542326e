"""A sensor card from what the sensor showed while a load was switched on and off at known times. Pure.

The samples must be read several times oftener than the sensor updates, and show nothing but idling and those loads.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from phasewatt import rhythm, square_wave
from phasewatt.fields import Reading
from phasewatt.rhythm import Change, Refusal, Rhythm
from phasewatt.square_wave import Fit, Wave
from phasewatt.traces import SensorCard

SQUARE_WAVE = "square-wave"
DOCUMENTED = "documented"

_MOST_LAG_PERIODS, _MOST_LAG_S = 4, 0.5
_MOST_AVERAGING_PERIODS, _MOST_AVERAGING_S = 4, 2.0
_SETTLING_PERIODS = 2  # after a switch the power overshoots
_LEAST_STEADY = 6
_LEAST_SEPARATION = 5.0  # of on from off, in standard deviations of an update
_FINEST, _DECIMALS = 1e-6, 6  # watts or joules: what differs by less came from arithmetic


def is_current(card: SensorCard, driver: str | None, mode: str | None) -> bool:
    """Whether `card` holds for that driver and mode; a documented one holds for all."""
    return card.origin == DOCUMENTED or (card.driver, card.mode) == (driver, mode)


def card(
    samples: Iterable[tuple[int, float | None]],
    loads: Sequence[tuple[int, int]],
    reading: Reading,
    read_cost_s: float | None = None,
    driver: str | None = None,
    mode: str | None = None,
    measured_unix_s: float | None = None,
) -> SensorCard:
    """The card of one channel from its (time in ns, value) as read, and (start, end) in ns of each load."""
    kept = sorted((at, value) for at, value in samples if value is not None and math.isfinite(value))
    origin_ns = kept[0][0] if kept else 0
    seen = [Change((at - origin_ns) * 1e-9, value) for at, value in kept]
    wave = Wave([((start - origin_ns) * 1e-9, (end - origin_ns) * 1e-9) for start, end in loads])
    changes = _changes(seen)
    pace = rhythm.rhythm(changes, _usual_spacing_s(seen))
    fitted = _fit(changes, pace, wave, reading)
    noise = _noise(changes, pace, fitted, wave)
    fitted = _told_apart(fitted, pace, noise, reading)
    resolution = _resolution(changes, reading)
    return SensorCard(
        origin=SQUARE_WAVE,
        update_period_s=pace.period_s if isinstance(pace, Rhythm) else None,
        update_jitter_s=pace.jitter_s if isinstance(pace, Rhythm) else None,
        averaging_s=fitted.averaging_s if isinstance(fitted, Fit) else None,
        lag_s=fitted.lag_s if isinstance(fitted, Fit) else None,
        resolution=resolution if isinstance(resolution, float) else None,
        noise=noise if isinstance(noise, float) else None,
        read_cost_s=read_cost_s,
        reason=_reasons({"period": pace, "averaging and lag": fitted, "noise": noise, "resolution": resolution}),
        driver=driver,
        mode=mode,
        measured_unix_s=measured_unix_s,
    )


def borrowed(card: SensorCard, lender: SensorCard, name: str) -> SensorCard:
    """`card` with the timing of another channel of the same source, which is called `name`."""
    return msgspec.structs.replace(
        card,
        update_period_s=lender.update_period_s,
        update_jitter_s=lender.update_jitter_s,
        averaging_s=lender.averaging_s,
        lag_s=lender.lag_s,
        reason=f"the load hardly reached it: its timing is that of {name}",
    )


def _reasons(found: dict[str, object]) -> str | None:
    """What could not be found, and why; what has one cause together."""
    names_by_reason: dict[str, list[str]] = {}
    for name, result in found.items():
        if isinstance(result, Refusal):
            names_by_reason.setdefault(result.reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in names_by_reason.items()) or None


def _changes(seen: Sequence[Change]) -> list[Change]:
    """Each new value, midway between the reading that first showed it and the one before."""
    pairs = [(a, b) for a, b in itertools.pairwise(seen) if a.value != b.value and a.time_s < b.time_s]
    return [Change((before.time_s + after.time_s) / 2, after.value) for before, after in pairs]


def _usual_spacing_s(seen: Sequence[Change]) -> float:
    return statistics.median(b.time_s - a.time_s for a, b in itertools.pairwise(seen)) if len(seen) > 1 else 0.0


def _fit(changes: Sequence[Change], pace: Rhythm | Refusal, wave: Wave, reading: Reading) -> Fit | Refusal:
    if isinstance(pace, Refusal):
        return pace
    powers = _powers(changes, pace) if reading is Reading.COUNTER else changes
    most_lag_s = max(_MOST_LAG_S, _MOST_LAG_PERIODS * pace.period_s)
    most_averaging_s = max(_MOST_AVERAGING_S, _MOST_AVERAGING_PERIODS * pace.period_s)
    return square_wave.fit(powers, wave, pace.period_s, most_lag_s, most_averaging_s)


def _powers(changes: Sequence[Change], pace: Rhythm) -> list[Change]:
    """The mean power that each update of a counter stands for, by its own period: a reader's clock is coarser."""
    return [
        Change(after.time_s, (after.value - before.value) / pace.period_s)
        for before, after in itertools.pairwise(changes)
        if pace.periods(after.time_s - before.time_s) == 1
    ]


def _noise(changes: Sequence[Change], pace: Rhythm | Refusal, fitted: Fit | Refusal, wave: Wave) -> float | Refusal:
    """Standard deviation of an update under load; second differences of neighbours leave a drift out of it."""
    if isinstance(pace, Refusal):
        return pace
    if isinstance(fitted, Refusal):
        return fitted
    settled_s = fitted.lag_s + fitted.averaging_s + _SETTLING_PERIODS * pace.period_s
    squares = []
    for start_s, end_s in wave.loads:
        steady = [change for change in changes if start_s + settled_s <= change.time_s <= end_s + fitted.lag_s]
        values = _evenly(steady, pace)
        squares += [(a - 2 * b + c) ** 2 for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    if len(squares) < _LEAST_STEADY:
        return Refusal("no load was steady for long enough")
    return math.sqrt(sum(squares) / len(squares) / 6)  # var(a - 2b + c) is 6 var for independent values


def _evenly(changes: Sequence[Change], pace: Rhythm) -> list[float]:
    """The value of every update, those that showed the same again put back."""
    values = [changes[0].value] if changes else []
    for before, after in itertools.pairwise(changes):
        values += [before.value] * (pace.periods(after.time_s - before.time_s) - 1) + [after.value]
    return values


def _told_apart(
    fitted: Fit | Refusal, pace: Rhythm | Refusal, noise: float | Refusal, reading: Reading
) -> Fit | Refusal:
    """The fit, unless the load hardly stands out of the noise."""
    if isinstance(fitted, Refusal) or isinstance(pace, Refusal) or isinstance(noise, Refusal):
        return fitted
    step = abs(fitted.on_w - fitted.off_w) * (pace.period_s if reading is Reading.COUNTER else 1.0)
    if step < _LEAST_SEPARATION * noise:
        return Refusal(f"the load changed it by {step / noise:.1f} times its noise")
    return fitted


def _resolution(changes: Sequence[Change], reading: Reading) -> float | Refusal:
    """The smallest step between distinct values; of a counter, between distinct increments."""
    values = [change.value for change in changes]
    if reading is Reading.COUNTER:
        values = [after - before for before, after in itertools.pairwise(values)]
    steps = [after - before for before, after in itertools.pairwise(sorted(values)) if after - before > _FINEST / 2]
    return round(min(steps), _DECIMALS) if steps else Refusal("it showed too few distinct values")
