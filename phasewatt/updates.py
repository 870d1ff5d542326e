"""What a sensor showed, from what a sampler read: the moments at which a value was new. Pure.

A sampler reads oftener or seldomer than a sensor updates, so a reading's time says little of the time its value
describes. An update is placed in the middle of what the readings leave open, and then moved by the sensor's lag.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from phasewatt import series
from phasewatt.traces import Channel, Trace

_MIN_CHANGES = 5  # below this the samples do not tell the period
_UNCHANGED = 1.5  # periods without a change after which an update has shown the same value again
_PATIENCE = 20  # so many equal updates in a row are a sensor that stands still, unless its steps are coarse
_SLOWEST_S = 3600.0  # a card that tells longer times than this tells none
_COARSE_PATIENCE = 600  # of such a one: a minute at ten updates a second
_LAG_UNSURE = 0.04  # periods: what cards of one sensor, taken twice, differ by
_COARSE = 0.005  # of the value: a step at least so large may well stay the same


class Sample(NamedTuple):
    """One reading: watts, or joules of a counter."""

    time_ns: int
    value: float


class Update(NamedTuple):
    """A new value of a sensor; `open_ns` is the width of the stretch in which it came."""

    time_ns: int
    value: float
    open_ns: int


class Timing(NamedTuple):
    """How a sensor behaves in time, by its card or, without one, by its samples alone."""

    period_ns: int | None
    averaging_ns: int
    lag_ns: int
    calibrated: bool
    jitter_ns: int = 0
    lag_unsure_ns: int = 0  # standard deviation of the lag
    patience_ns: int | None = None  # a value that stays the same for longer is no update; None: any time is likely

    @property
    def guard_ns(self) -> int:
        """Distance that a value keeps from the edges of a window: without a card a period, for the unknown lag."""
        return 0 if self.calibrated else self.period_ns or 0


def samples_of(traces: Sequence[Trace], channel: int) -> list[Sample]:
    """The readings of one channel over all parts of a trace, missing ones left out, in order of time, one a moment."""
    found: dict[int, float] = {}
    for trace in traces:
        times_ns = series.unpack_times(trace.time)
        values = series.unpack(trace.values[channel])
        found |= {at: value for at, value in zip(times_ns, values, strict=True) if value is not None}
    return [Sample(at, found[at]) for at in sorted(found)]


def summed(columns: Sequence[Sequence[Sample]]) -> list[Sample]:
    """Samples of channels that are read together, added up; moments that one of them lacks are left out."""
    first, *others = columns
    if not others:
        return list(first)
    by_time = [dict(column) for column in others]
    return [
        Sample(at, value + sum(column[at] for column in by_time))
        for at, value in first
        if all(at in column for column in by_time)
    ]


def is_calibrated(channel: Channel) -> bool:
    """Whether its card tells when a value was true: period and lag are known, and are times that a sensor can have."""
    card = channel.card
    if card is None or card.update_period_s is None or card.lag_s is None:
        return False
    others_s = (card.averaging_s or 0.0, card.lag_s, card.update_jitter_s or 0.0)
    return 1e-9 <= card.update_period_s <= _SLOWEST_S and all(0.0 <= other_s <= _SLOWEST_S for other_s in others_s)


def timing(samples: Sequence[Sample], channel: Channel) -> Timing:
    """The card's figures; where there is none, the period that the samples show and no lag."""
    card = channel.card
    if card is None or not is_calibrated(channel):
        period_ns = _period_ns(samples)
        unsure_ns = (period_ns or 0) // 2
        return Timing(period_ns, 0, 0, False, 0, unsure_ns, patience_ns=(period_ns or 0) * _PATIENCE)
    period_ns = round((card.update_period_s or 0.0) * 1e9)
    coarse = card.resolution is not None and bool(samples) and card.resolution >= _COARSE * _usual(samples)
    return Timing(
        period_ns,
        round((card.averaging_s or 0.0) * 1e9),
        round((card.lag_s or 0.0) * 1e9),
        calibrated=True,
        jitter_ns=round((card.update_jitter_s or 0.0) * 1e9),
        lag_unsure_ns=round(_LAG_UNSURE * period_ns),
        patience_ns=period_ns * (_COARSE_PATIENCE if coarse else _PATIENCE),
    )


def updates_of(samples: Sequence[Sample], timing: Timing) -> list[Update]:
    """Every update that the samples show: a change, or a value that stood for longer than the sensor's period."""
    period_ns, patience_ns = timing.period_ns, timing.patience_ns
    found: list[Update] = []
    changed_ns = last_ns = samples[0].time_ns if samples else 0
    for before, now in itertools.pairwise(samples):
        since_ns = now.time_ns - before.time_ns
        open_ns = since_ns if period_ns is None else min(since_ns, period_ns)
        if now.value != before.value:
            changed_ns = last_ns = now.time_ns - open_ns // 2
            found.append(Update(last_ns, now.value, open_ns))
        elif period_ns is not None and now.time_ns - last_ns >= _UNCHANGED * period_ns:
            seldom = since_ns > period_ns  # a reading shows the last update before it and none of the earlier ones
            last_ns = now.time_ns - open_ns // 2 if seldom else last_ns + period_ns
            if patience_ns is None or last_ns - changed_ns <= patience_ns:
                found.append(Update(last_ns, now.value, open_ns if seldom else period_ns // 2))
    return found


def _usual(samples: Sequence[Sample]) -> float:
    return statistics.median(abs(sample.value) for sample in samples)


def _period_ns(samples: Sequence[Sample]) -> int | None:
    """The usual time between changes, by the closest-read part of the samples; None if they change too seldom."""
    changes = [now.time_ns for before, now in itertools.pairwise(samples) if now.value != before.value]
    spacings = sorted(after - before for before, after in itertools.pairwise(changes) if after > before)
    if len(spacings) < _MIN_CHANGES:
        return None
    close = [spacing for spacing in spacings if spacing <= 2 * spacings[len(spacings) // 10]]
    return round(statistics.median(close))
