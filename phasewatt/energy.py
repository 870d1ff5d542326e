"""Joules with a verdict: the samples of a trial and its phases to energies, or to None with a reason. Pure.

A scope may be read in several ways: watts at moments are integrated, a counter is read at both ends. Where both exist,
`window_energy.preferred` says which gives the figure, and the other checks it. What a figure cannot do without
refuses it; what a reader must know beside it is a doubt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from phasewatt import doubts
from phasewatt.beats import Beat
from phasewatt.estimate import Estimate, refused
from phasewatt.fields import Phase, Reading, Scope
from phasewatt.records import CrossCheck, PhaseEnergy, PhaseRun
from phasewatt.traces import Channel, Trace
from phasewatt.updates import is_calibrated, samples_of
from phasewatt.window_energy import preferred, total_j

MIN_BUSY_SHARE = 0.95  # of the window inside repetitions: more idling between them is not the phase
AGREE_SHARE = 0.02  # readings of one scope that differ by more than this and both half-widths are doubtful ...
BELIEVE_SHARE = 0.10  # ... and by more than this, neither is believed
_COMPUTE = (Scope.GPU_BOARD, Scope.CPU_PACKAGE, Scope.DRAM)


class _Read(NamedTuple):
    """A scope read in one way."""

    channels: tuple[Channel, ...]
    estimate: Estimate


def phase_energies(traces: Sequence[Trace], runs: Iterable[PhaseRun]) -> tuple[PhaseEnergy, ...]:
    """A verdict for every phase and scope that the traces of one trial cover, idle-adjusted where idle was run."""
    if not traces:
        return ()
    energies: list[PhaseEnergy] = []
    for run in sorted(runs, key=lambda run: run.phase is not Phase.IDLE):
        told = doubts.of_window(traces, run)
        found = [_of_scope(traces, run, scope, told) for scope in _scopes(traces[0].channels)]
        for energy in [*found, *_compute(found)]:
            idle = next((e for e in energies if e.phase is Phase.IDLE and e.scope is energy.scope), None)
            energies.append(_idle_adjusted(energy, idle))
    return tuple(energies)


def _scopes(channels: Iterable[Channel]) -> list[Scope]:
    return list(dict.fromkeys(c.scope for c in channels if c.scope is not None and c.parts_of_total))


def _of_scope(traces: Sequence[Trace], run: PhaseRun, scope: Scope, told: tuple[str, ...]) -> PhaseEnergy:
    reads = [read for reading in Reading if (read := _read(traces, run, scope, reading)) is not None]
    taken, _ = preferred([(read.channels[0].reading, read.estimate) for read in reads])
    best = next(read for read in reads if read.channels[0].reading is taken)
    energy = _energy(best, run, told)
    checks = [_check(read) for read in reads if read.channels[0].reading not in (taken, Reading.AVERAGE)]
    return _checked(energy, checks[0]) if checks else energy


def _read(traces: Sequence[Trace], run: PhaseRun, scope: Scope, reading: Reading) -> _Read | None:
    chosen = [
        index
        for index, channel in enumerate(traces[0].channels)
        if channel.scope is scope and channel.reading is reading and channel.parts_of_total
    ]
    if not chosen:
        return None
    channels = tuple(traces[0].channels[index] for index in chosen)
    window, refusal = run.window, _run_refusal(run)
    if window is None or refusal is not None:
        return _Read(channels, refused(refusal or "no_window: no repetition counted as evidence"))
    columns = [samples_of(traces, index) for index in chosen]
    return _Read(channels, total_j(columns, window, channels, _beats(run)))


def _run_refusal(run: PhaseRun) -> str | None:
    window = run.window
    if window is None or window.end_ns <= window.start_ns:
        return "no_window: no repetition counted as evidence"
    busy = sum(span.duration_s for span in run.spans()) / window.duration_s
    if busy < MIN_BUSY_SHARE:
        return f"not_contiguous: repetitions fill {busy:.0%} of the window, at least {MIN_BUSY_SHARE:.0%} needed"
    return None


def _beats(run: PhaseRun) -> list[Beat]:
    """The rhythms of a run: its repetitions, and the decode steps within one."""
    if run.phase is Phase.IDLE:
        return []
    starts_ns, durations_ns = run.starts_ns[run.warmup :], run.durations_ns[run.warmup :]
    steps = run.phase.steps(run.kv_start, run.kv_end)
    return [Beat(starts_ns, durations_ns, parts) for parts in sorted({1, steps})]


def _energy(read: _Read, run: PhaseRun, told: tuple[str, ...]) -> PhaseEnergy:
    first, estimate, window = read.channels[0], read.estimate, run.window
    energy_j, half_width_j = estimate.energy_j, estimate.temporal_uncertainty_j
    calibrated = all(map(is_calibrated, read.channels))
    own = () if calibrated else ("uncalibrated: no sensor card that tells its period and lag",)
    wide = () if energy_j is None or half_width_j is None else doubts.of_width(energy_j, half_width_j)
    gains = [channel.gain_uncertainty for channel in read.channels]
    known = [gain for gain in gains if gain is not None]
    window_s = 0.0 if window is None else window.duration_s
    return PhaseEnergy(
        phase=run.phase,
        scope=first.scope or Scope.UNKNOWN,
        source=first.source,
        reading=first.reading,
        rails=tuple(channel.name for channel in read.channels),
        window_s=window_s,
        repetitions=len(run.durations_ns) - run.warmup,
        tokens=0 if window is None else window.tokens,
        energy_j=energy_j,
        reason=estimate.reason,
        idle_adjusted_j=None,
        idle_reason=None,
        mean_power_w=None if energy_j is None else energy_j / window_s,
        peak_power_w=estimate.peak_power_w,
        distinct_updates=estimate.distinct_updates,
        longest_gap_s=estimate.longest_gap_s,
        temporal_uncertainty_j=half_width_j,
        systematic_uncertainty_j=(None if energy_j is None or len(known) < len(gains) else abs(energy_j) * max(known)),
        calibrated=calibrated,
        doubts=() if energy_j is None else (*wide, *own, *told),
    )


def _check(read: _Read) -> CrossCheck:
    estimate, first = read.estimate, read.channels[0]
    return CrossCheck(
        source=first.source,
        reading=first.reading,
        energy_j=estimate.energy_j,
        reason=estimate.reason,
        temporal_uncertainty_j=estimate.temporal_uncertainty_j,
    )


def _checked(energy: PhaseEnergy, check: CrossCheck) -> PhaseEnergy:
    """`energy` with its check: doubted where they disagree, and refused where they do so grossly."""
    energy = msgspec.structs.replace(energy, check=check)
    if energy.energy_j is None or check.energy_j is None:
        return energy
    apart_j = abs(energy.energy_j - check.energy_j)
    allowed_j = math.hypot(energy.temporal_uncertainty_j or 0.0, check.temporal_uncertainty_j or 0.0)
    larger_j = max(abs(energy.energy_j), abs(check.energy_j))
    words = f"sources_disagree: {energy.source} {energy.energy_j:.4g} J, {check.source} {check.energy_j:.4g} J"
    if apart_j > allowed_j + BELIEVE_SHARE * larger_j:
        return _withdrawn(energy, words)
    if apart_j > allowed_j + AGREE_SHARE * larger_j:
        return msgspec.structs.replace(energy, doubts=(*energy.doubts, words))
    return energy


def _withdrawn(energy: PhaseEnergy, reason: str) -> PhaseEnergy:
    return msgspec.structs.replace(
        energy,
        energy_j=None,
        reason=reason,
        mean_power_w=None,
        peak_power_w=None,
        temporal_uncertainty_j=None,
        systematic_uncertainty_j=None,
        doubts=(),
    )


def _compute(found: Sequence[PhaseEnergy]) -> list[PhaseEnergy]:
    """GPU boards, CPU packages and their DRAM together, where the parts that this host has were all read."""
    parts = [energy for scope in _COMPUTE for energy in found if energy.scope is scope]
    if len(parts) < 2 or Scope.CPU_PACKAGE not in {part.scope for part in parts}:
        return []
    reason = next((f"{part.scope.value}: {part.reason}" for part in parts if part.reason), None)
    gains_j = [part.systematic_uncertainty_j for part in parts]
    whole = msgspec.structs.replace(
        parts[0],
        scope=Scope.COMPUTE,
        source="+".join(dict.fromkeys(part.source for part in parts)),
        rails=tuple(rail for part in parts for rail in part.rails),
        distinct_updates=min(part.distinct_updates for part in parts),
        longest_gap_s=max((p.longest_gap_s for p in parts if p.longest_gap_s is not None), default=None),
        calibrated=all(part.calibrated for part in parts),
        doubts=tuple(dict.fromkeys(doubt for part in parts for doubt in part.doubts if not doubt.startswith("wide"))),
        check=None,
    )
    if reason is not None:
        return [_withdrawn(whole, reason)]
    energy_j = math.fsum(part.energy_j or 0.0 for part in parts)
    half_width_j = math.hypot(*(part.temporal_uncertainty_j or 0.0 for part in parts))
    return [
        msgspec.structs.replace(
            whole,
            energy_j=energy_j,
            mean_power_w=math.fsum(part.mean_power_w or 0.0 for part in parts),
            peak_power_w=math.fsum(part.peak_power_w or 0.0 for part in parts),
            temporal_uncertainty_j=half_width_j,
            doubts=(*doubts.of_width(energy_j, half_width_j), *whole.doubts),
            systematic_uncertainty_j=None if None in gains_j else math.fsum(gain or 0.0 for gain in gains_j),
        )
    ]


def _idle_adjusted(energy: PhaseEnergy, idle: PhaseEnergy | None) -> PhaseEnergy:
    """`energy` less idle power times its window, or why not."""
    adjusted_j, reason = None, None
    if energy.phase is Phase.IDLE:
        reason = "this is the idle baseline"
    elif energy.energy_j is None:
        reason = "no gross energy"
    elif idle is None or idle.mean_power_w is None:
        reason = "no idle baseline" if idle is None else f"idle baseline: {idle.reason}"
    else:
        adjusted_j = energy.energy_j - idle.mean_power_w * energy.window_s
    return msgspec.structs.replace(energy, idle_adjusted_j=adjusted_j, idle_reason=reason)
