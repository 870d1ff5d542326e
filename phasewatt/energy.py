"""Joules with a verdict: power samples and a window of time to an energy, or to None with a reason. Pure.

Two ways to the same figure, by what the sensor gives: watts at moments are integrated by trapezoids with both
edges of the window interpolated; a joule counter is read at both edges, interpolated between its updates.
Averaged watts describe another stretch of time than the one asked for and never become joules.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from phasewatt import series
from phasewatt.records import Channel, Phase, PhaseEnergy, PhaseRun, Reading, Scope, Span, Trace

MIN_UPDATES = 8  # below this, one late or early update moves the result by more than a tenth
MAX_GAP_SHARE = 0.25  # of the window: a longer silence of the sensor hides too much of it
MIN_BUSY_SHARE = 0.95  # of the window inside repetitions: more idling between them is not the phase
_SIGMAS = 2.0  # half-widths are two standard deviations


class Sample(NamedTuple):
    """One reading: watts, or joules of a counter."""

    time_ns: int
    value: float


class Estimate(NamedTuple):
    """Energy of one channel over one window. `energy_j` is None with a `reason`, or stands without one."""

    energy_j: float | None
    reason: str | None
    peak_power_w: float | None
    distinct_updates: int
    longest_gap_s: float | None
    temporal_uncertainty_j: float | None


def samples_of(traces: Sequence[Trace], channel: int) -> list[Sample]:
    """The readings of one channel over all parts of a trace, missing ones left out, in order of time."""
    found: list[Sample] = []
    for trace in traces:
        times_ns = series.unpack_times(trace.time)
        values = series.unpack(trace.values[channel])
        found += [Sample(at, value) for at, value in zip(times_ns, values, strict=True) if value is not None]
    return sorted(found)


def updates_of(samples: Sequence[Sample]) -> list[Sample]:
    """The samples at which the sensor showed a new value: polling faster than it updates adds nothing."""
    return [now for at, now in enumerate(samples) if at == 0 or samples[at - 1].value != now.value]


def energy_j(samples: Sequence[Sample], span: Span, reading: Reading) -> Estimate:
    """Energy of `span` in joules from the samples of one channel, with its verdict."""
    updates = updates_of(samples)
    inside = [update for update in updates if span.start_ns <= update.time_ns <= span.end_ns]
    gap_s = _longest_gap_s(updates, span)
    reason = _refusal(samples, inside, gap_s, span, reading)
    if reason is not None:
        return Estimate(None, reason, None, len(inside), gap_s, None)
    measure = _from_counter if reading is Reading.COUNTER else _from_power
    energy, peak_w, half_width_j = measure(samples, inside, span)
    return Estimate(energy, None, peak_w, len(inside), gap_s, half_width_j)


def phase_energies(traces: Sequence[Trace], runs: Iterable[PhaseRun]) -> tuple[PhaseEnergy, ...]:
    """A verdict for every phase and scope that the traces of one trial cover, idle-adjusted where idle was run."""
    energies: list[PhaseEnergy] = []
    if not traces:
        return ()
    for run in sorted(runs, key=lambda run: run.phase is not Phase.IDLE):
        for scope in _scopes(traces[0].channels):
            idle = next((e for e in energies if e.phase is Phase.IDLE and e.scope is scope), None)
            best = _best_of_scope(traces, run, scope, idle)
            if best is not None:
                energies.append(best)
    return tuple(energies)


def _best_of_scope(
    traces: Sequence[Trace], run: PhaseRun, scope: Scope, idle: PhaseEnergy | None
) -> PhaseEnergy | None:
    """Of the readings that a scope offers, the one that is least unsure of when it looked."""
    channels = traces[0].channels
    verdicts = []
    for reading in Reading:
        chosen = [
            index
            for index, channel in enumerate(channels)
            if channel.scope is scope and channel.reading is reading and channel.parts_of_total
        ]
        if chosen:
            verdicts.append(_of_channels(traces, run, chosen, idle))
    return min(verdicts, key=_unsureness, default=None)


def _unsureness(energy: PhaseEnergy) -> tuple[bool, bool, float]:
    half_width_j = energy.temporal_uncertainty_j
    refused = energy.energy_j is None
    return refused, energy.reading is Reading.AVERAGE, math.inf if half_width_j is None else half_width_j


def _of_channels(
    traces: Sequence[Trace], run: PhaseRun, chosen: Sequence[int], idle: PhaseEnergy | None
) -> PhaseEnergy:
    """The total of the chosen channels of one scope and reading over the run's window."""
    channels: list[Channel] = [traces[0].channels[index] for index in chosen]
    window = run.window
    estimates = (
        [] if window is None else [energy_j(samples_of(traces, index), window, channels[0].reading) for index in chosen]
    )
    reason = _run_refusal(run, window) or next((e.reason for e in estimates if e.reason), None)
    total_j = None if reason else math.fsum(e.energy_j or 0.0 for e in estimates)
    window_s = 0.0 if window is None else window.duration_s
    adjusted_j, idle_reason = _idle_adjusted(total_j, window_s, run.phase, idle)
    return PhaseEnergy(
        phase=run.phase,
        scope=channels[0].scope,
        source=channels[0].source,
        reading=channels[0].reading,
        rails=tuple(channel.name for channel in channels),
        window_s=window_s,
        repetitions=len(run.durations_ns) - run.warmup,
        tokens=0 if window is None else window.tokens,
        energy_j=total_j,
        reason=reason,
        idle_adjusted_j=adjusted_j,
        idle_reason=idle_reason,
        mean_power_w=None if total_j is None else total_j / window_s,
        peak_power_w=None if total_j is None else math.fsum(e.peak_power_w or 0.0 for e in estimates),
        distinct_updates=min((e.distinct_updates for e in estimates), default=0),
        longest_gap_s=max((e.longest_gap_s for e in estimates if e.longest_gap_s is not None), default=None),
        temporal_uncertainty_j=(
            None if total_j is None else math.fsum(e.temporal_uncertainty_j or 0.0 for e in estimates)
        ),
        systematic_uncertainty_j=None if total_j is None else total_j * max(c.gain_uncertainty for c in channels),
    )


def _run_refusal(run: PhaseRun, window: Span | None) -> str | None:
    if window is None or window.end_ns <= window.start_ns:
        return "no_window: no repetition counted as evidence"
    busy = sum(span.duration_s for span in run.spans()) / window.duration_s
    if busy < MIN_BUSY_SHARE:
        return f"not_contiguous: repetitions fill {busy:.0%} of the window, at least {MIN_BUSY_SHARE:.0%} needed"
    return None


def _idle_adjusted(
    total_j: float | None, window_s: float, phase: Phase, idle: PhaseEnergy | None
) -> tuple[float | None, str | None]:
    if phase is Phase.IDLE:
        return None, "this is the idle baseline"
    if total_j is None:
        return None, "no gross energy"
    if idle is None or idle.mean_power_w is None:
        return None, "no idle baseline" if idle is None else f"idle baseline: {idle.reason}"
    return total_j - idle.mean_power_w * window_s, None


def _scopes(channels: Iterable[Channel]) -> list[Scope]:
    return list(dict.fromkeys(channel.scope for channel in channels if channel.parts_of_total))


def _longest_gap_s(updates: Sequence[Sample], span: Span) -> float | None:
    """The longest time inside `span` without an update; None without any update."""
    if not updates:
        return None
    inside = [u.time_ns for u in updates if span.start_ns < u.time_ns < span.end_ns]
    marks = [span.start_ns, *inside, span.end_ns]
    return max(after - before for before, after in itertools.pairwise(marks)) * 1e-9


def _refusal(
    samples: Sequence[Sample], inside: Sequence[Sample], gap_s: float | None, span: Span, reading: Reading
) -> str | None:
    if reading is Reading.AVERAGE:
        return "averaged_source: the sensor averages over a window of its own"
    if not samples or samples[0].time_ns > span.start_ns or samples[-1].time_ns < span.end_ns:
        return "not_bracketed: samples do not reach over both ends of the window"
    if any(after.value < before.value for before, after in itertools.pairwise(samples)) and (
        reading is Reading.COUNTER
    ):
        return "counter_backwards: the energy counter was reset or ran backwards"
    if len(inside) < MIN_UPDATES:
        return f"too_few_updates: {len(inside)} in {span.duration_s:.2f} s, at least {MIN_UPDATES} needed"
    if gap_s is not None and gap_s > MAX_GAP_SHARE * span.duration_s:
        return f"gap: the sensor was silent for {gap_s:.2f} s of {span.duration_s:.2f} s"
    return None


def _from_power(samples: Sequence[Sample], inside: Sequence[Sample], span: Span) -> tuple[float, float, float]:
    """Energy, peak power, and half-width of the energy, by trapezoids over instantaneous watts."""
    within = [sample for sample in samples if span.start_ns < sample.time_ns < span.end_ns]
    corners = [_at(samples, span.start_ns), *within, _at(samples, span.end_ns)]
    steps = itertools.pairwise(corners)
    total = math.fsum((a.value + b.value) / 2 * (b.time_ns - a.time_ns) for a, b in steps) * 1e-9
    spread_w = statistics.stdev(update.value for update in inside)
    half_width_j = _SIGMAS * spread_w / math.sqrt(len(inside)) * span.duration_s
    return total, max(sample.value for sample in corners), half_width_j


def _from_counter(samples: Sequence[Sample], inside: Sequence[Sample], span: Span) -> tuple[float, float, float]:
    """Energy, peak power, and half-width of the energy, by reading a joule counter at both edges."""
    updates = _with_last(updates_of(samples), samples[-1])
    total = _at(updates, span.end_ns).value - _at(updates, span.start_ns).value
    steps = list(itertools.pairwise(inside))
    powers_w = [(b.value - a.value) / ((b.time_ns - a.time_ns) * 1e-9) for a, b in steps]
    largest_step_j = max(b.value - a.value for a, b in steps)
    return total, max(powers_w), largest_step_j  # half an update at each edge


def _with_last(updates: list[Sample], last: Sample) -> list[Sample]:
    """`updates` reaching to the last reading, so that a counter that stood still still brackets the window."""
    return updates if updates[-1].time_ns == last.time_ns else [*updates, last]


def _at(samples: Sequence[Sample], time_ns: int) -> Sample:
    """The value at `time_ns`, interpolated between its neighbours; `samples` reach over it."""
    after = bisect.bisect_left(samples, time_ns, key=lambda sample: sample.time_ns)
    right = samples[after]
    if right.time_ns == time_ns or after == 0:
        return right
    left = samples[after - 1]
    share = (time_ns - left.time_ns) / (right.time_ns - left.time_ns)
    return Sample(time_ns, left.value + share * (right.value - left.value))
