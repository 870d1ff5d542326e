"""Energy of one window by one channel or by the total of several: which way to take, and what refuses it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from phasewatt import joule_counter, power_integral
from phasewatt.beats import Beat
from phasewatt.estimate import Estimate, refused
from phasewatt.fields import Reading, Scope
from phasewatt.records import Span
from phasewatt.traces import Channel
from phasewatt.updates import Sample, Timing, summed, timing

MIN_AVERAGES = 4  # lengths of a sensor's averaging in a window, where it averages for longer than its update period
WIDE_SHARE = 0.02  # of the energy: a temporal uncertainty above it is wide
_ORDER = (Reading.COUNTER, Reading.INSTANT, Reading.AVERAGE)
_TOGETHER = (Scope.MODULE, Scope.BOARD_INPUT)  # rails of one board, whose errors are not independent


def energy_j(
    samples: Sequence[Sample],
    span: Span,
    channel: Channel,
    rhythm: Iterable[Beat] = (),
    rails: Sequence[power_integral.Rail] = (),
) -> Estimate:
    """Energy of `span` in joules from the samples of one channel, with its verdict; of the sum of `rails` if given."""
    when = timing(samples, channel)
    refusal = _refusal(samples, span, channel, when)
    if refusal is not None:
        return refused(refusal)
    if channel.reading is Reading.COUNTER:
        return joule_counter.difference(samples, span, when)
    resolution_w = channel.card.resolution if channel.card is not None else None
    return power_integral.integrate(samples, span, when, resolution_w, rhythm, rails)


def total_j(
    columns: Sequence[Sequence[Sample]], span: Span, channels: Sequence[Channel], rhythm: Sequence[Beat] = ()
) -> Estimate:
    """Energy of `span` over several channels of one scope and reading: of all of them, or refused."""
    first = channels[0]
    if len(columns) > 1 and first.scope in _TOGETHER and first.reading is not Reading.COUNTER:
        silent = [c.name for column, c in zip(columns, channels, strict=True) if not _within(column, span)]
        if 0 < len(silent) < len(columns):
            return refused(f"rail_missing: no reading of {', '.join(silent)} in the window, and so no total")
        rails = [
            power_integral.Rail(column, c.card.resolution if c.card is not None else None)
            for column, c in zip(columns, channels, strict=True)
        ]
        return energy_j(summed(columns), span, _merged(channels), rhythm, rails)
    return added([energy_j(column, span, c, rhythm) for column, c in zip(columns, channels, strict=True)])


def added(estimates: Sequence[Estimate]) -> Estimate:
    """The sum of independent estimates, or the reason of the first that has none."""
    updates = min(estimate.distinct_updates for estimate in estimates)
    gap_s = max((e.longest_gap_s for e in estimates if e.longest_gap_s is not None), default=None)
    reason = next((estimate.reason for estimate in estimates if estimate.reason), None)
    if reason is not None:
        return refused(reason, updates, gap_s)
    return Estimate(
        energy_j=math.fsum(estimate.energy_j or 0.0 for estimate in estimates),
        reason=None,
        peak_power_w=math.fsum(estimate.peak_power_w or 0.0 for estimate in estimates),
        distinct_updates=updates,
        longest_gap_s=gap_s,
        temporal_uncertainty_j=math.hypot(*(estimate.temporal_uncertainty_j or 0.0 for estimate in estimates)),
    )


def preferred(found: Sequence[tuple[Reading, Estimate]]) -> tuple[Reading, Estimate]:
    """Of a scope's readings the one to take: a counter, which misses nothing, then watts, then averages.

    One that is wide gives way to one that is not half as unsure. To always take the narrowest would pick, of two, the
    one that happens to look surer than it is.
    """
    figures = [each for each in found if each[1].energy_j is not None]
    first, *others = sorted(figures or found, key=lambda each: _ORDER.index(each[0]))
    narrowest = min([first, *others], key=lambda each: each[1].temporal_uncertainty_j or math.inf)
    width_j, least_j = first[1].temporal_uncertainty_j or 0.0, narrowest[1].temporal_uncertainty_j or 0.0
    wide = width_j > WIDE_SHARE * abs(first[1].energy_j or 0.0)
    return narrowest if wide and least_j < width_j / 2 else first


def _within(samples: Sequence[Sample], span: Span) -> bool:
    return any(span.start_ns <= sample.time_ns <= span.end_ns for sample in samples)


def _refusal(samples: Sequence[Sample], span: Span, channel: Channel, when: Timing) -> str | None:
    if span.end_ns <= span.start_ns:
        return "no_window: it ends before it begins"
    if channel.scope is Scope.UNKNOWN:
        return "scope_unknown: the source does not say what this power is of"
    if channel.reading is Reading.AVERAGE and not when.averaging_ns:
        return "averaged_source: the sensor averages over a time that is not known; meters --calibrate finds it"
    long_average = channel.reading is not Reading.COUNTER and when.averaging_ns > (when.period_ns or 0)
    if long_average and MIN_AVERAGES * when.averaging_ns > span.end_ns - span.start_ns:
        return f"averaged_source: the sensor averages over {when.averaging_ns * 1e-9:.1f} s of {span.duration_s:.1f} s"
    if not samples or samples[0].time_ns > span.start_ns or samples[-1].time_ns < span.end_ns + when.lag_ns:
        return "not_bracketed: samples do not reach over both ends of the window"
    return None


def _merged(channels: Sequence[Channel]) -> Channel:
    """Rails that are read together as one channel: their rounding errors add as independent ones do."""
    cards = [channel.card for channel in channels if channel.card is not None]
    if len(cards) < len(channels):
        return msgspec.structs.replace(channels[0], card=None)
    resolution = math.hypot(*(card.resolution or 0.0 for card in cards))
    return msgspec.structs.replace(channels[0], card=msgspec.structs.replace(cards[0], resolution=resolution or None))
