"""How a trial gives each metric of `metrics`: raw values, one a repetition where there are some, or a reason. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from phasewatt import distribution, roofline, service
from phasewatt.fields import Phase, Scope
from phasewatt.records import PhaseEnergy, PhaseRun, Trial
from phasewatt.throttling import CLOCK_SOURCES
from phasewatt.work import Work


class Ceilings(NamedTuple):
    """What this machine was measured to do at best."""

    matmul_flop_per_s: float
    read_bytes_per_s: float


class Context(NamedTuple):
    """What a metric is asked about beside the trial itself."""

    scope: Scope | None = None  # which power figures count; None: no power metric is asked for
    ceilings: Ceilings | None = None
    no_ceilings: str | None = None  # why there are none


class Readings(NamedTuple):
    """Values of one metric in one trial. None at all: see reason."""

    values: tuple[float, ...]
    reason: str | None = None
    half_width: float | None = None  # stated uncertainty of a value that has no repetitions

    @property
    def percentiles(self) -> dict[str, float]:
        """p50, p90, p95, p99 of the values, as far as there are enough of them."""
        return distribution.percentiles(self.values)

    @property
    def spread(self) -> float | None:
        """Interquartile range over the median; None: too few values."""
        return distribution.spread(self.values)


def ttft(trial: Trial, context: Context) -> Readings:
    """Seconds to the first token of each request."""
    return _of_requests(trial, lambda run: [first * 1e-9 for first in (run.first_token_ns or ())[run.warmup :]])


def tpot(trial: Trial, context: Context) -> Readings:
    """Seconds an output token after the first, of each request."""
    return _of_requests(trial, lambda run: service.tpot_s(run, trial.work.task.output_tokens if trial.work else 2))


def itl(trial: Trial, context: Context) -> Readings:
    """Seconds between consecutive tokens, of all requests."""
    run = trial.run_of(Phase.REQUEST)
    if run is not None and run.gaps_of_chunks:
        return Readings((), "several tokens came at a time, so the gaps between them were not seen")
    return _of_requests(trial, lambda run: [gap * 1e-9 for gaps in run.gaps_ns or () for gap in gaps])


def _of_requests(trial: Trial, values: Callable[[PhaseRun], Iterable[float]]) -> Readings:
    run = trial.run_of(Phase.REQUEST)
    if run is None:
        return Readings((), "request was not run")
    found = tuple(values(run))
    return Readings(found, None if found else "the request has a single token, or its tokens were not timed")


def durations(phase: Phase, value: Callable[[PhaseRun, float], float]) -> Callable[[Trial, Context], Readings]:
    """One value a repetition from its host time in seconds."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(phase)
        if run is None:
            return Readings((), f"{phase.value} was not run")
        return Readings(tuple(value(run, span.duration_s) for span in run.spans()))

    return read


def device(phase: Phase, value: Callable[[PhaseRun, float], float]) -> Callable[[Trial, Context], Readings]:
    """One value a profiled repetition from its device-busy time in seconds."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(phase)
        if run is None or not run.device_busy_ns:
            reason = f"{phase.value} was not run" if run is None else run.device_busy_reason
            return Readings((), reason or f"{phase.value}: device time was not taken")
        return Readings(tuple(value(run, busy * 1e-9) for busy in run.device_busy_ns))

    return read


def launch_overhead(phase: Phase) -> Callable[[Trial, Context], Readings]:
    """Share of the host time in which the device is not busy."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(phase)
        if run is None or not run.device_busy_ns:
            return device(phase, seconds)(trial, context)
        busy_s = sorted(run.device_busy_ns)[len(run.device_busy_ns) // 2] * 1e-9
        return Readings(tuple(1 - busy_s / span.duration_s for span in run.spans()))

    return read


def seconds(run: PhaseRun, duration_s: float) -> float:
    """A repetition as it is."""
    return duration_s


def per_step(run: PhaseRun, duration_s: float) -> float:
    """Seconds of one decode step of a repetition."""
    return duration_s / (run.kv_end - run.kv_start)


def rate(run: PhaseRun, duration_s: float) -> float:
    """Tokens a second of a repetition."""
    return run.tokens / duration_s


def joules(
    phase: Phase, per: Callable[[Trial, PhaseEnergy], float], adjusted: bool = False
) -> Callable[[Trial, Context], Readings]:
    """Energy of a phase's window divided by `per`, gross or less the idle baseline."""

    def read(trial: Trial, context: Context) -> Readings:
        energy, reason = _energy_of(trial, phase, context.scope)
        if energy is None:
            return Readings((), reason)
        joules = energy.idle_adjusted_j if adjusted else energy.energy_j
        if joules is None:
            return Readings((), (energy.idle_reason if adjusted else energy.reason) or "no reason was recorded")
        count = per(trial, energy)
        if not count:
            return Readings((), "the window holds nothing to divide by")
        half_width_j = energy.temporal_uncertainty_j
        if adjusted and half_width_j is not None:
            half_width_j = math.hypot(half_width_j, _idle_half_width_j(trial, energy))
        return Readings((joules / count,), None, None if half_width_j is None else half_width_j / count)

    return read


def _idle_half_width_j(trial: Trial, energy: PhaseEnergy) -> float:
    """What the idle baseline's own uncertainty amounts to over the window of `energy`."""
    idle, _ = _energy_of(trial, Phase.IDLE, energy.scope)
    if idle is None or idle.temporal_uncertainty_j is None or not idle.window_s:
        return 0.0
    return idle.temporal_uncertainty_j * energy.window_s / idle.window_s


def watts(phase: Phase, adjusted: bool = False) -> Callable[[Trial, Context], Readings]:
    """Mean power of a phase's window."""
    return joules(phase, lambda trial, energy: energy.window_s, adjusted)


def peak_watts(phase: Phase, adjusted: bool = False) -> Callable[[Trial, Context], Readings]:
    """Largest power in a phase's window."""

    def read(trial: Trial, context: Context) -> Readings:
        energy, reason = _energy_of(trial, phase, context.scope)
        if energy is None or energy.peak_power_w is None:
            return Readings((), reason if energy is None else energy.reason)
        if not adjusted:
            return Readings((energy.peak_power_w,))
        idle, reason = _energy_of(trial, Phase.IDLE, context.scope)
        if idle is None or idle.mean_power_w is None:
            return Readings((), energy.idle_reason or reason)
        return Readings((energy.peak_power_w - idle.mean_power_w,))

    return read


def _energy_of(trial: Trial, phase: Phase, scope: Scope | None) -> tuple[PhaseEnergy | None, str]:
    for energy in trial.energy:
        if energy.phase is phase and energy.scope is scope:
            return energy, ""
    if not trial.energy:
        return None, trial.energy_reason or "no power sensor"
    if scope is None:
        metered = ", ".join(dict.fromkeys(energy.scope.value for energy in trial.energy))
        return None, f"no meter covers the processor that did the work; metered beside it: {metered}"
    return None, f"{phase.value} was not metered on scope {scope.value}"


def repetitions(trial: Trial, energy: PhaseEnergy) -> float:
    """Divides by repetitions."""
    return energy.repetitions


def sequences(trial: Trial, energy: PhaseEnergy) -> float:
    """Divides by requests, one a sequence."""
    run, batch = trial.run_of(Phase.REQUEST), trial.work.task.batch if trial.work else 1
    return energy.repetitions * (batch if run is None else service.sequences(run, batch))


def tokens(trial: Trial, energy: PhaseEnergy) -> float:
    """Divides by the tokens of the window."""
    return energy.tokens


def output_tokens(trial: Trial, energy: PhaseEnergy) -> float:
    """Divides by the tokens that requests put out."""
    return sequences(trial, energy) * (trial.work.task.output_tokens if trial.work else 1)


def request_rate(tokens_each: bool = False) -> Callable[[Trial, Context], Readings]:
    """Requests, or their output tokens, a second of the window."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(Phase.REQUEST)
        if run is None or trial.work is None:
            return Readings((), "request was not run")
        rate = service.requests_per_s(run, trial.work.task.batch)
        each = trial.work.task.output_tokens if tokens_each else 1
        return Readings(() if rate is None else (rate * each,))

    return read


def goodput(trial: Trial, context: Context) -> Readings:
    """Requests a second within the limits that were set."""
    run = trial.run_of(Phase.REQUEST)
    if run is None or trial.work is None:
        return Readings((), "request was not run")
    rate = service.requests_per_s(run, trial.work.task.batch)
    share = service.good_share(run, trial.work.task.output_tokens, trial.conditions)
    if rate is None or share is None:
        return Readings((), "no limit on TTFT or TPOT was set (ttft_limit_s, tpot_limit_s), or tokens were not timed")
    return Readings((rate * share,))


def host_memory(trial: Trial, context: Context) -> Readings:
    """Peak resident bytes."""
    return _bytes(trial, None if trial.memory is None else trial.memory.host_peak_bytes)


def accelerator_memory(trial: Trial, context: Context) -> Readings:
    """Peak bytes that the engine allocated."""
    return _bytes(trial, None if trial.memory is None else trial.memory.accelerator_peak_bytes)


def _bytes(trial: Trial, peak: int | None) -> Readings:
    if peak is None:
        return Readings((), (trial.memory.reason if trial.memory else None) or "memory was not measured")
    return Readings((float(peak),))


def _seen(phase: Phase, sources: Collection[str], what: str) -> Callable[[Trial, Context], Readings]:
    """Mean over the phase's window of the channels of some sources, several GPUs counting alike."""

    def read(trial: Trial, context: Context) -> Readings:
        if trial.run_of(phase) is None:
            return Readings((), f"{phase.value} was not run")
        means = [seen.mean for seen in trial.readings if seen.phase is phase and seen.source in sources]
        return Readings((statistics.fmean(means),)) if means else Readings((), f"{what} not read on this host")

    return read


def gpm(phase: Phase, name: str) -> Callable[[Trial, Context], Readings]:
    """Mean of one of GPM's shares over a phase."""
    return _seen(phase, (f"nvml.gpm.{name}",), "GPM was")


def sm_clock(phase: Phase) -> Callable[[Trial, Context], Readings]:
    """Mean clock over a phase."""
    return _seen(phase, CLOCK_SOURCES, "SM clock was")


def utilisation(phase: Phase, of_memory: bool) -> Callable[[Trial, Context], Readings]:
    """Share of a measured ceiling that the analytic FLOPs or bytes of a phase reach, over host time."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(phase)
        if run is None or trial.work is None:
            return Readings((), f"{phase.value} was not run")
        if context.ceilings is None:
            return Readings((), context.no_ceilings or "this device's ceilings have not been measured")
        if of_memory:
            moved, reason = _moved_bytes(trial.work, run)
            if moved is None:
                return Readings((), reason)
            share = moved
            ceiling = context.ceilings.read_bytes_per_s
        else:
            share = roofline.phase_flops(trial.work.task, phase, run.kv_start + run.deeper, run.kv_end + run.deeper)
            ceiling = context.ceilings.matmul_flop_per_s
        return Readings(tuple(share / span.duration_s / ceiling for span in run.spans()))

    return read


def token_bytes(trial: Trial, context: Context) -> Readings:
    """Analytic bytes that a decoded token moves."""
    run = trial.run_of(Phase.DECODE)
    if run is None or trial.work is None:
        return Readings((), "decode was not run")
    moved, reason = _moved_bytes(trial.work, run)
    if moved is None or not run.tokens:
        return Readings((), reason or "no token was decoded")
    return Readings((moved / run.tokens,))


def _moved_bytes(work: Work, run: PhaseRun) -> tuple[int | None, str | None]:
    """Analytic bytes of one repetition, or why there is no figure."""
    width = roofline.weight_element_bytes(work.dtype, work.quantization)
    start, end = run.kv_start + run.deeper, run.kv_end + run.deeper
    if width is None:
        return None, f"the bytes of weights in {work.quantization or work.dtype!r} are not known here"
    return roofline.phase_bytes(work.task, work.dtype, run.phase, start, end, width), None
