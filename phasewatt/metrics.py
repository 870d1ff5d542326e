"""The one table of metrics: name, unit, formula, better direction, OpenTelemetry name, and how a trial gives it.

Tools disagree on terms; here TPOT is (latency - TTFT) / (OSL - 1) of one request, as in vLLM (AIPerf calls that
ITL), and ITL is the distribution of the gaps between tokens. A trial gives a metric as raw values, one a
repetition where there are repetitions, or none with a reason; means and intervals are the reader's.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from phasewatt import distribution, roofline, service
from phasewatt.fields import Outcome, Phase, Scope
from phasewatt.records import Imported, PhaseEnergy, PhaseRun, Trial
from phasewatt.throttling import CLOCK_SOURCES
from phasewatt.work import Work


class Better(enum.Enum):
    """Which way an improvement goes."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


class Ceilings(NamedTuple):
    """What this machine was measured to do at best."""

    matmul_flop_per_s: float
    read_bytes_per_s: float


class Context(NamedTuple):
    """What a metric is asked about beside the trial itself."""

    scope: Scope | None = None  # which power figures count; None: no power metric is asked for
    ceilings: Ceilings | None = None


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


class Metric(NamedTuple):
    """One row of the table."""

    name: str
    unit: str
    formula: str
    better: Better
    read: Callable[[Trial, Context], Readings]
    phase: Phase | None = None
    otel: str | None = None  # name in OpenTelemetry's semantic conventions for generative AI
    scoped: bool = False  # one reading a power scope
    detail: bool = False  # explains other metrics; a table that must be short leaves it out
    asked: bool = False  # there only where a user asks for it; elsewhere no table misses it

    def of(self, trial: Trial, context: Context | None = None) -> Readings:
        """This metric of `trial`; no values, and the reason, where it has none."""
        if trial.outcome is not Outcome.OK:
            return Readings((), f"trial {trial.outcome.value}: {trial.reason}")
        if trial.imported is not None:
            return _foreign(self.name, trial.imported)
        try:
            readings = self.read(trial, context or Context())
        except ZeroDivisionError:
            return Readings((), "the trial states a time or a count of zero")
        if not readings.values and readings.reason is None:
            return Readings((), "no repetition counted as evidence")
        return readings


def _foreign(name: str, imported: Imported) -> Readings:
    """A metric as another tool gave it."""
    values = next((figure.values for figure in imported.figures if figure.metric == name), ())
    return Readings(values, None if values else f"{imported.tool} does not give it")


def _ttft(trial: Trial, context: Context) -> Readings:
    return _of_requests(trial, lambda run: [first * 1e-9 for first in (run.first_token_ns or ())[run.warmup :]])


def _tpot(trial: Trial, context: Context) -> Readings:
    return _of_requests(trial, lambda run: service.tpot_s(run, trial.work.task.output_tokens if trial.work else 2))


def _itl(trial: Trial, context: Context) -> Readings:
    run = trial.run_of(_REQ)
    if run is not None and run.gaps_of_chunks:
        return Readings((), "several tokens came at a time, so the gaps between them were not seen")
    return _of_requests(trial, lambda run: [gap * 1e-9 for gaps in run.gaps_ns or () for gap in gaps])


def _of_requests(trial: Trial, values: Callable[[PhaseRun], Iterable[float]]) -> Readings:
    run = trial.run_of(Phase.REQUEST)
    if run is None:
        return Readings((), "request was not run")
    found = tuple(values(run))
    return Readings(found, None if found else "the request has a single token, or its tokens were not timed")


def _durations(phase: Phase, value: Callable[[PhaseRun, float], float]) -> Callable[[Trial, Context], Readings]:
    """One value a repetition from its host time in seconds."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(phase)
        if run is None:
            return Readings((), f"{phase.value} was not run")
        return Readings(tuple(value(run, span.duration_s) for span in run.spans()))

    return read


def _device(phase: Phase, value: Callable[[PhaseRun, float], float]) -> Callable[[Trial, Context], Readings]:
    """One value a profiled repetition from its device-busy time in seconds."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(phase)
        if run is None or not run.device_busy_ns:
            reason = f"{phase.value} was not run" if run is None else run.device_busy_reason
            return Readings((), reason or f"{phase.value}: device time was not taken")
        return Readings(tuple(value(run, busy * 1e-9) for busy in run.device_busy_ns))

    return read


def _launch_overhead(phase: Phase) -> Callable[[Trial, Context], Readings]:
    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(phase)
        if run is None or not run.device_busy_ns:
            return _device(phase, _seconds)(trial, context)
        busy_s = sorted(run.device_busy_ns)[len(run.device_busy_ns) // 2] * 1e-9
        return Readings(tuple(1 - busy_s / span.duration_s for span in run.spans()))

    return read


def _seconds(run: PhaseRun, duration_s: float) -> float:
    return duration_s


def _per_step(run: PhaseRun, duration_s: float) -> float:
    return duration_s / (run.kv_end - run.kv_start)


def _rate(run: PhaseRun, duration_s: float) -> float:
    return run.tokens / duration_s


def _joules(
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


def _watts(phase: Phase, adjusted: bool = False) -> Callable[[Trial, Context], Readings]:
    return _joules(phase, lambda trial, energy: energy.window_s, adjusted)


def _peak_watts(phase: Phase, adjusted: bool = False) -> Callable[[Trial, Context], Readings]:
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


def _repetitions(trial: Trial, energy: PhaseEnergy) -> float:
    return energy.repetitions


def _sequences(trial: Trial, energy: PhaseEnergy) -> float:
    run, batch = trial.run_of(Phase.REQUEST), trial.work.task.batch if trial.work else 1
    return energy.repetitions * (batch if run is None else service.sequences(run, batch))


def _tokens(trial: Trial, energy: PhaseEnergy) -> float:
    return energy.tokens


def _output_tokens(trial: Trial, energy: PhaseEnergy) -> float:
    return _sequences(trial, energy) * (trial.work.task.output_tokens if trial.work else 1)


def _request_rate(tokens_each: bool = False) -> Callable[[Trial, Context], Readings]:
    """Requests, or their output tokens, a second of the window."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(Phase.REQUEST)
        if run is None or trial.work is None:
            return Readings((), "request was not run")
        rate = service.requests_per_s(run, trial.work.task.batch)
        each = trial.work.task.output_tokens if tokens_each else 1
        return Readings(() if rate is None else (rate * each,))

    return read


def _goodput(trial: Trial, context: Context) -> Readings:
    run = trial.run_of(Phase.REQUEST)
    if run is None or trial.work is None:
        return Readings((), "request was not run")
    rate = service.requests_per_s(run, trial.work.task.batch)
    share = service.good_share(run, trial.work.task.output_tokens, trial.conditions)
    if rate is None or share is None:
        return Readings((), "no limit on TTFT or TPOT was set (ttft_limit_s, tpot_limit_s), or tokens were not timed")
    return Readings((rate * share,))


def _host_memory(trial: Trial, context: Context) -> Readings:
    return _bytes(trial, None if trial.memory is None else trial.memory.host_peak_bytes)


def _accelerator_memory(trial: Trial, context: Context) -> Readings:
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


def _gpm(phase: Phase, name: str) -> Callable[[Trial, Context], Readings]:
    return _seen(phase, (f"nvml.gpm.{name}",), "GPM was")


def _sm_clock(phase: Phase) -> Callable[[Trial, Context], Readings]:
    return _seen(phase, CLOCK_SOURCES, "SM clock was")


def _utilisation(phase: Phase, of_memory: bool) -> Callable[[Trial, Context], Readings]:
    """Share of a measured ceiling that the analytic FLOPs or bytes of a phase reach, over host time."""

    def read(trial: Trial, context: Context) -> Readings:
        run = trial.run_of(phase)
        if run is None or trial.work is None:
            return Readings((), f"{phase.value} was not run")
        if context.ceilings is None:
            return Readings((), "this device's ceilings have not been measured")
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


def _token_bytes(trial: Trial, context: Context) -> Readings:
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


_LOWER, _HIGHER, _NEITHER = Better.LOWER, Better.HIGHER, Better.NEITHER
_PRE, _DEC, _REQ = Phase.PREFILL, Phase.DECODE, Phase.REQUEST
_GROSS = "gross energy of the window"
_ADJUSTED = "(gross energy - mean idle power, model loaded, x window)"
_PEAK = "largest value in the window, of several sensors the sum of theirs"
_GPM = "mean over the window, as NVML's GPM counts:"
_SM = f"{_GPM} share of SMs with work on them"
_TENSOR = f"{_GPM} share of cycles with the tensor pipe busy"
_DRAM = f"{_GPM} share of the peak DRAM bandwidth"
_CLOCK = "mean SM clock over the window"
_MFU = (
    "analytic FLOPs (2 per multiply-add, causal attention, head for the last position) / host time / "
    "measured matrix-product rate of the dtype"
)
_BYTES = "analytic bytes (weights once a pass, KV cache read and its new part written)"
_MBU = f"{_BYTES} / host time / measured matrix-vector read bandwidth"

_ROWS = (
    Metric("ttft", "s", "request start to first token on the host", _LOWER, _ttft, _REQ,
           "gen_ai.server.time_to_first_token"),
    Metric("tpot", "s", "(latency - TTFT) / (OSL - 1)", _LOWER, _tpot, _REQ, "gen_ai.server.time_per_output_token"),
    Metric("itl", "s", "gap between consecutive tokens on the host", _LOWER, _itl, _REQ),
    Metric("e2e_latency", "s", "request start to last token on the host", _LOWER, _durations(_REQ, _seconds), _REQ,
           "gen_ai.server.request.duration"),
    Metric("request_rate", "request/s", "requests (one a sequence) / window", _HIGHER, _request_rate(), _REQ),
    Metric("output_rate", "token/s", "requests x OSL / window", _HIGHER, _request_rate(True), _REQ),
    Metric("goodput", "request/s", "requests within the stated TTFT and TPOT limits / window", _HIGHER, _goodput, _REQ,
           asked=True),
    Metric("prefill_latency", "s", "host time of one prefill", _LOWER, _durations(_PRE, _seconds), _PRE),
    Metric("decode_step_latency", "s", "host time of N decode steps / N", _LOWER, _durations(_DEC, _per_step), _DEC),
    Metric("prefill_rate", "token/s", "batch x ISL / host time", _HIGHER, _durations(_PRE, _rate), _PRE),
    Metric("prefill_rate_device", "token/s", "batch x ISL / device-busy time", _HIGHER, _device(_PRE, _rate), _PRE),
    Metric("decode_rate", "token/s", "batch x steps / host time", _HIGHER, _durations(_DEC, _rate), _DEC),
    Metric("decode_rate_device", "token/s", "batch x steps / device-busy time", _HIGHER, _device(_DEC, _rate), _DEC),
    Metric("prefill_launch_overhead", "1", "1 - device-busy time / host time", _LOWER, _launch_overhead(_PRE), _PRE),
    Metric("decode_launch_overhead", "1", "1 - device-busy time / host time", _LOWER, _launch_overhead(_DEC), _DEC),
    Metric("prefill_energy", "J", f"{_GROSS} / prefills", _LOWER, _joules(_PRE, _repetitions), _PRE, None, True),
    Metric("prefill_energy_adjusted", "J", f"{_ADJUSTED} / prefills", _LOWER,
           _joules(_PRE, _repetitions, True), _PRE, None, True),
    Metric("decode_token_energy", "J/token", f"{_GROSS} / decoded tokens, batch included", _LOWER,
           _joules(_DEC, _tokens), _DEC, None, True),
    Metric("decode_token_energy_adjusted", "J/token", f"{_ADJUSTED} / decoded tokens, batch included", _LOWER,
           _joules(_DEC, _tokens, True), _DEC, None, True),
    Metric("request_energy", "J", f"{_GROSS} / requests (one a sequence)", _LOWER,
           _joules(_REQ, _sequences), _REQ, None, True),
    Metric("request_energy_adjusted", "J", f"{_ADJUSTED} / requests (one a sequence)", _LOWER,
           _joules(_REQ, _sequences, True), _REQ, None, True),
    Metric("request_token_energy", "J/token", f"{_GROSS} / (requests x OSL)", _LOWER,
           _joules(_REQ, _output_tokens), _REQ, None, True),
    Metric("request_token_energy_adjusted", "J/token", f"{_ADJUSTED} / (requests x OSL)", _LOWER,
           _joules(_REQ, _output_tokens, True), _REQ, None, True),
    Metric("idle_power", "W", f"{_GROSS} / window, model loaded", _NEITHER, _watts(Phase.IDLE), Phase.IDLE, None, True),
    Metric("prefill_power", "W", f"{_GROSS} / window", _NEITHER, _watts(_PRE), _PRE, None, True),
    Metric("prefill_power_adjusted", "W", f"{_ADJUSTED} / window", _NEITHER,
           _watts(_PRE, True), _PRE, None, True, True),
    Metric("prefill_power_peak", "W", _PEAK, _NEITHER, _peak_watts(_PRE), _PRE, None, True, True),
    Metric("prefill_power_peak_adjusted", "W", f"{_PEAK} - mean idle power, model loaded", _NEITHER,
           _peak_watts(_PRE, True), _PRE, None, True, True),
    Metric("decode_power", "W", f"{_GROSS} / window", _NEITHER, _watts(_DEC), _DEC, None, True),
    Metric("decode_power_adjusted", "W", f"{_ADJUSTED} / window", _NEITHER,
           _watts(_DEC, True), _DEC, None, True, True),
    Metric("decode_power_peak", "W", _PEAK, _NEITHER, _peak_watts(_DEC), _DEC, None, True, True),
    Metric("decode_power_peak_adjusted", "W", f"{_PEAK} - mean idle power, model loaded", _NEITHER,
           _peak_watts(_DEC, True), _DEC, None, True, True),
    Metric("request_power", "W", f"{_GROSS} / window", _NEITHER, _watts(_REQ), _REQ, None, True),
    Metric("request_power_adjusted", "W", f"{_ADJUSTED} / window", _NEITHER,
           _watts(_REQ, True), _REQ, None, True, True),
    Metric("request_power_peak", "W", _PEAK, _NEITHER, _peak_watts(_REQ), _REQ, None, True, True),
    Metric("request_power_peak_adjusted", "W", f"{_PEAK} - mean idle power, model loaded", _NEITHER,
           _peak_watts(_REQ, True), _REQ, None, True, True),
    Metric("host_memory_peak", "B", "peak resident set of the model's process", _LOWER, _host_memory),
    Metric("accelerator_memory_peak", "B", "peak allocated by the engine", _LOWER, _accelerator_memory),
    Metric("decode_token_bytes", "B/token", f"{_BYTES} of the decode steps / decoded tokens, batch included", _NEITHER,
           _token_bytes, _DEC),
    Metric("prefill_mfu", "1", _MFU, _HIGHER, _utilisation(_PRE, False), _PRE),
    Metric("decode_mfu", "1", _MFU, _HIGHER, _utilisation(_DEC, False), _DEC),
    Metric("prefill_mbu", "1", _MBU, _HIGHER, _utilisation(_PRE, True), _PRE),
    Metric("decode_mbu", "1", _MBU, _HIGHER, _utilisation(_DEC, True), _DEC),
    Metric("prefill_sm_utilisation", "1", _SM, _NEITHER, _gpm(_PRE, "sm_util"), _PRE, detail=True),
    Metric("prefill_tensor_utilisation", "1", _TENSOR, _NEITHER, _gpm(_PRE, "tensor_util"), _PRE, detail=True),
    Metric("prefill_dram_utilisation", "1", _DRAM, _NEITHER, _gpm(_PRE, "dram_bw_util"), _PRE, detail=True),
    Metric("prefill_sm_clock", "Hz", _CLOCK, _NEITHER, _sm_clock(_PRE), _PRE, detail=True),
    Metric("decode_sm_utilisation", "1", _SM, _NEITHER, _gpm(_DEC, "sm_util"), _DEC, detail=True),
    Metric("decode_tensor_utilisation", "1", _TENSOR, _NEITHER, _gpm(_DEC, "tensor_util"), _DEC, detail=True),
    Metric("decode_dram_utilisation", "1", _DRAM, _NEITHER, _gpm(_DEC, "dram_bw_util"), _DEC, detail=True),
    Metric("decode_sm_clock", "Hz", _CLOCK, _NEITHER, _sm_clock(_DEC), _DEC, detail=True),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ROWS}
# Metrics whose tail matters as much as their middle
DISTRIBUTIONS = frozenset({"ttft", "tpot", "itl", "e2e_latency", "prefill_latency", "decode_step_latency"})
