"""The one table of metrics: name, unit, formula, better direction, OpenTelemetry name, and how a trial gives it.

Tools disagree on terms; here TPOT is (latency - TTFT) / (OSL - 1) of one request, as in vLLM (AIPerf calls that
ITL), and ITL is the distribution of the gaps between tokens. A trial gives a metric as raw values, one a
repetition where there are repetitions, or none with a reason; means and intervals are the reader's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import NamedTuple

from phasewatt import metric_readings as by
from phasewatt.fields import Outcome, Phase
from phasewatt.metric_readings import Ceilings, Context, Readings
from phasewatt.records import Imported, Trial

__all__ = ["DISTRIBUTIONS", "METRICS", "Better", "Ceilings", "Context", "Metric", "Readings"]


class Better(enum.Enum):
    """Which way an improvement goes."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


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
    of_ceilings: bool = False  # a share of what the machine was measured to do
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
    Metric("ttft", "s", "request start to first token on the host", _LOWER, by.ttft, _REQ,
           "gen_ai.server.time_to_first_token"),
    Metric("tpot", "s", "(latency - TTFT) / (OSL - 1)", _LOWER, by.tpot, _REQ, "gen_ai.server.time_per_output_token"),
    Metric("itl", "s", "gap between consecutive tokens on the host", _LOWER, by.itl, _REQ),
    Metric("e2e_latency", "s", "request start to last token on the host", _LOWER, by.durations(_REQ, by.seconds), _REQ,
           "gen_ai.server.request.duration"),
    Metric("request_rate", "request/s", "requests (one a sequence) / window", _HIGHER, by.request_rate(), _REQ),
    Metric("output_rate", "token/s", "requests x OSL / window", _HIGHER, by.request_rate(True), _REQ),
    Metric("goodput", "request/s", "requests within the stated TTFT and TPOT limits / window", _HIGHER,
           by.goodput, _REQ,
           asked=True),
    Metric("prefill_latency", "s", "host time of one prefill", _LOWER, by.durations(_PRE, by.seconds), _PRE),
    Metric("decode_step_latency", "s", "host time of N decode steps / N", _LOWER, by.durations(_DEC,
           by.per_step), _DEC),
    Metric("prefill_rate", "token/s", "batch x ISL / host time", _HIGHER, by.durations(_PRE, by.rate), _PRE),
    Metric("prefill_rate_device", "token/s", "batch x ISL / device-busy time", _HIGHER, by.device(_PRE, by.rate), _PRE),
    Metric("decode_rate", "token/s", "batch x steps / host time", _HIGHER, by.durations(_DEC, by.rate), _DEC),
    Metric("decode_rate_device", "token/s", "batch x steps / device-busy time", _HIGHER, by.device(_DEC,
           by.rate), _DEC),
    Metric("prefill_launch_overhead", "1", "1 - device-busy time / host time", _LOWER, by.launch_overhead(_PRE), _PRE),
    Metric("decode_launch_overhead", "1", "1 - device-busy time / host time", _LOWER, by.launch_overhead(_DEC), _DEC),
    Metric("prefill_energy", "J", f"{_GROSS} / prefills", _LOWER, by.joules(_PRE, by.repetitions), _PRE, None, True),
    Metric("prefill_energy_adjusted", "J", f"{_ADJUSTED} / prefills", _LOWER,
           by.joules(_PRE, by.repetitions, True), _PRE, None, True),
    Metric("decode_token_energy", "J/token", f"{_GROSS} / decoded tokens, batch included", _LOWER,
           by.joules(_DEC, by.tokens), _DEC, None, True),
    Metric("decode_token_energy_adjusted", "J/token", f"{_ADJUSTED} / decoded tokens, batch included", _LOWER,
           by.joules(_DEC, by.tokens, True), _DEC, None, True),
    Metric("request_energy", "J", f"{_GROSS} / requests (one a sequence)", _LOWER,
           by.joules(_REQ, by.sequences), _REQ, None, True),
    Metric("request_energy_adjusted", "J", f"{_ADJUSTED} / requests (one a sequence)", _LOWER,
           by.joules(_REQ, by.sequences, True), _REQ, None, True),
    Metric("request_token_energy", "J/token", f"{_GROSS} / (requests x OSL)", _LOWER,
           by.joules(_REQ, by.output_tokens), _REQ, None, True),
    Metric("request_token_energy_adjusted", "J/token", f"{_ADJUSTED} / (requests x OSL)", _LOWER,
           by.joules(_REQ, by.output_tokens, True), _REQ, None, True),
    Metric("idle_power", "W", f"{_GROSS} / window, model loaded", _NEITHER,
           by.watts(Phase.IDLE), Phase.IDLE, None, True),
    Metric("prefill_power", "W", f"{_GROSS} / window", _NEITHER, by.watts(_PRE), _PRE, None, True),
    Metric("prefill_power_adjusted", "W", f"{_ADJUSTED} / window", _NEITHER,
           by.watts(_PRE, True), _PRE, None, True, True),
    Metric("prefill_power_peak", "W", _PEAK, _NEITHER, by.peak_watts(_PRE), _PRE, None, True, True),
    Metric("prefill_power_peak_adjusted", "W", f"{_PEAK} - mean idle power, model loaded", _NEITHER,
           by.peak_watts(_PRE, True), _PRE, None, True, True),
    Metric("decode_power", "W", f"{_GROSS} / window", _NEITHER, by.watts(_DEC), _DEC, None, True),
    Metric("decode_power_adjusted", "W", f"{_ADJUSTED} / window", _NEITHER,
           by.watts(_DEC, True), _DEC, None, True, True),
    Metric("decode_power_peak", "W", _PEAK, _NEITHER, by.peak_watts(_DEC), _DEC, None, True, True),
    Metric("decode_power_peak_adjusted", "W", f"{_PEAK} - mean idle power, model loaded", _NEITHER,
           by.peak_watts(_DEC, True), _DEC, None, True, True),
    Metric("request_power", "W", f"{_GROSS} / window", _NEITHER, by.watts(_REQ), _REQ, None, True),
    Metric("request_power_adjusted", "W", f"{_ADJUSTED} / window", _NEITHER,
           by.watts(_REQ, True), _REQ, None, True, True),
    Metric("request_power_peak", "W", _PEAK, _NEITHER, by.peak_watts(_REQ), _REQ, None, True, True),
    Metric("request_power_peak_adjusted", "W", f"{_PEAK} - mean idle power, model loaded", _NEITHER,
           by.peak_watts(_REQ, True), _REQ, None, True, True),
    Metric("host_memory_peak", "B", "peak resident set of the model's process", _LOWER, by.host_memory),
    Metric("accelerator_memory_peak", "B", "peak allocated by the engine", _LOWER, by.accelerator_memory),
    Metric("decode_token_bytes", "B/token", f"{_BYTES} of the decode steps / decoded tokens, batch included", _NEITHER,
           by.token_bytes, _DEC),
    Metric("prefill_mfu", "1", _MFU, _HIGHER, by.utilisation(_PRE, False), _PRE, of_ceilings=True),
    Metric("decode_mfu", "1", _MFU, _HIGHER, by.utilisation(_DEC, False), _DEC, of_ceilings=True),
    Metric("prefill_mbu", "1", _MBU, _HIGHER, by.utilisation(_PRE, True), _PRE, of_ceilings=True),
    Metric("decode_mbu", "1", _MBU, _HIGHER, by.utilisation(_DEC, True), _DEC, of_ceilings=True),
    Metric("prefill_sm_utilisation", "1", _SM, _NEITHER, by.gpm(_PRE, "sm_util"), _PRE, detail=True),
    Metric("prefill_tensor_utilisation", "1", _TENSOR, _NEITHER, by.gpm(_PRE, "tensor_util"), _PRE, detail=True),
    Metric("prefill_dram_utilisation", "1", _DRAM, _NEITHER, by.gpm(_PRE, "dram_bw_util"), _PRE, detail=True),
    Metric("prefill_sm_clock", "Hz", _CLOCK, _NEITHER, by.sm_clock(_PRE), _PRE, detail=True),
    Metric("decode_sm_utilisation", "1", _SM, _NEITHER, by.gpm(_DEC, "sm_util"), _DEC, detail=True),
    Metric("decode_tensor_utilisation", "1", _TENSOR, _NEITHER, by.gpm(_DEC, "tensor_util"), _DEC, detail=True),
    Metric("decode_dram_utilisation", "1", _DRAM, _NEITHER, by.gpm(_DEC, "dram_bw_util"), _DEC, detail=True),
    Metric("decode_sm_clock", "Hz", _CLOCK, _NEITHER, by.sm_clock(_DEC), _DEC, detail=True),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ROWS}
# Metrics whose tail matters as much as their middle
DISTRIBUTIONS = frozenset({"ttft", "tpot", "itl", "e2e_latency", "prefill_latency", "decode_step_latency"})
