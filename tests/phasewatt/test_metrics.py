"""Metrics: every row of the table by hand on one constructed trial, and every reason for having no value."""

from __future__ import annotations

import pytest

from phasewatt import roofline
from phasewatt.fields import Outcome, Phase, Scope
from phasewatt.metrics import METRICS, Better, Ceilings, Context
from phasewatt.records import PhaseReading, PhaseRun, Trial
from tests.fixtures.records import changed, phase_energy, phase_run, task, trial, work

MS = 1_000_000
CEILINGS = Ceilings(matmul_flop_per_s=1e6, read_bytes_per_s=1e5)
CONTEXT = Context(Scope.MODULE, CEILINGS)

PREFILL = phase_run(Phase.PREFILL, [9.0, 0.5, 0.25], warmup=1, tokens=8, device_busy_ns=(200 * MS, 100 * MS, 400 * MS))
DECODE = phase_run(Phase.DECODE, [2.0, 4.0], tokens=4, kv_start=4, kv_end=6, device_busy_ns=(1000 * MS,))
REQUEST = phase_run(
    Phase.REQUEST,
    [9.0, 1.0, 2.0],
    warmup=1,
    tokens=14,
    first_token_ns=(5000 * MS, 400 * MS, 600 * MS),
    gaps_ns=((100 * MS, 500 * MS), (600 * MS, 800 * MS)),
)
ENERGY = (
    phase_energy(Phase.IDLE, 50.0, idle_adjusted_j=None, idle_reason="this is the idle baseline"),
    phase_energy(Phase.PREFILL, 100.0, tokens=16, idle_adjusted_j=50.0),
    phase_energy(Phase.DECODE, 160.0, tokens=8, idle_adjusted_j=80.0),
    phase_energy(Phase.REQUEST, 240.0, idle_adjusted_j=120.0),
    phase_energy(Phase.DECODE, 999.0, scope=Scope.WALL),
)


def seen(phase: Phase, source: str, mean: float, unit: str = "1", name: str = "gpu0") -> PhaseReading:
    """What a channel beside power showed."""
    return PhaseReading(
        phase=phase, name=name, source=source, unit=unit, mean=mean, lowest=0.0, highest=2 * mean, readings=9
    )


READINGS = (
    seen(Phase.PREFILL, "nvml.gpm.sm_util", 0.9),
    seen(Phase.PREFILL, "nvml.gpm.sm_util", 0.7, name="gpu1"),
    seen(Phase.PREFILL, "nvml.gpm.tensor_util", 0.5),
    seen(Phase.PREFILL, "nvml.gpm.dram_bw_util", 0.2),
    seen(Phase.DECODE, "nvml.gpm.sm_util", 0.3),
    seen(Phase.DECODE, "nvml.gpm.tensor_util", 0.05),
    seen(Phase.DECODE, "nvml.gpm.dram_bw_util", 0.6),
    seen(Phase.PREFILL, "nvml.sm_clock", 1.7e9, "Hz"),
    seen(Phase.DECODE, "nvml.sm_clock", 1.9e9, "Hz"),
)
WHOLE = trial(
    work=work(task=task(batch=2)),
    runs=(PREFILL, DECODE, REQUEST),
    energy=ENERGY,
    energy_reason=None,
    readings=READINGS,
)
TASK = task(batch=2)

BY_HAND = {
    "ttft": (0.4, 0.6),
    "tpot": (0.3, 0.7),
    "itl": (0.1, 0.5, 0.6, 0.8),
    "e2e_latency": (1.0, 2.0),
    "request_rate": (4 / 3,),
    "output_rate": (4.0,),
    "goodput": (),  # no limit is set
    "prefill_latency": (0.5, 0.25),
    "decode_step_latency": (1.0, 2.0),
    "prefill_rate": (16.0, 32.0),
    "prefill_rate_device": (40.0, 80.0, 20.0),
    "decode_rate": (2.0, 1.0),
    "decode_rate_device": (4.0,),
    "prefill_launch_overhead": (1 - 0.2 / 0.5, 1 - 0.2 / 0.25),
    "decode_launch_overhead": (1 - 1 / 2, 1 - 1 / 4),
    "prefill_energy": (50.0,),
    "prefill_energy_adjusted": (25.0,),
    "decode_token_energy": (20.0,),
    "decode_token_energy_adjusted": (10.0,),
    "request_energy": (60.0,),
    "request_energy_adjusted": (30.0,),
    "request_token_energy": (20.0,),
    "request_token_energy_adjusted": (10.0,),
    "idle_power": (5.0,),
    "prefill_power": (10.0,),
    "prefill_power_adjusted": (5.0,),
    "prefill_power_peak": (20.0,),
    "prefill_power_peak_adjusted": (15.0,),
    "decode_power": (16.0,),
    "decode_power_adjusted": (8.0,),
    "decode_power_peak": (32.0,),
    "decode_power_peak_adjusted": (27.0,),
    "request_power": (24.0,),
    "request_power_adjusted": (12.0,),
    "request_power_peak": (48.0,),
    "request_power_peak_adjusted": (43.0,),
    "host_memory_peak": (1000.0,),
    "accelerator_memory_peak": (),
    "decode_token_bytes": (roofline.phase_bytes(TASK, "float32", Phase.DECODE, 4, 6) / DECODE.tokens,),
    "prefill_mfu": tuple(roofline.phase_flops(TASK, Phase.PREFILL, 0, 4) / s / 1e6 for s in (0.5, 0.25)),
    "decode_mfu": tuple(roofline.phase_flops(TASK, Phase.DECODE, 4, 6) / s / 1e6 for s in (2.0, 4.0)),
    "prefill_mbu": tuple(roofline.phase_bytes(TASK, "float32", Phase.PREFILL, 0, 4) / s / 1e5 for s in (0.5, 0.25)),
    "decode_mbu": tuple(roofline.phase_bytes(TASK, "float32", Phase.DECODE, 4, 6) / s / 1e5 for s in (2.0, 4.0)),
    "prefill_sm_utilisation": (0.8,),  # two GPUs
    "prefill_tensor_utilisation": (0.5,),
    "prefill_dram_utilisation": (0.2,),
    "prefill_sm_clock": (1.7e9,),
    "decode_sm_utilisation": (0.3,),
    "decode_tensor_utilisation": (0.05,),
    "decode_dram_utilisation": (0.6,),
    "decode_sm_clock": (1.9e9,),
}


def without(phase: Phase, **fields) -> Trial:
    """The whole trial with another run of `phase`, or with none of it."""
    kept = tuple(run for run in WHOLE.runs if run.phase is not phase)
    mended = tuple(changed(run, **fields) for run in WHOLE.runs if run.phase is phase and fields)
    return changed(WHOLE, runs=kept + mended)


def reason(name: str, asked: Trial, context: Context = CONTEXT) -> str:
    """Why a metric has no value."""
    readings = METRICS[name].of(asked, context)
    assert readings.values == ()
    assert readings.reason
    return readings.reason


def limited(ttft_s: float | None = None, tpot_s: float | None = None) -> Trial:
    """The whole trial under limits on its requests, whose TTFT are 0.4 and 0.6 s and whose TPOT 0.3 and 0.7 s."""
    return changed(WHOLE, conditions=changed(WHOLE.conditions, ttft_limit_s=ttft_s, tpot_limit_s=tpot_s))


@pytest.mark.parametrize(
    ("limits", "rate"),
    [((0.5, None), 2 / 3), ((0.6, 0.71), 4 / 3), ((None, 0.2), 0.0), ((0.5, 0.2), 0.0), ((None, 0.31), 2 / 3)],
)
def test_goodput_counts_requests_within_both_limits(limits, rate):
    assert METRICS["goodput"].of(limited(*limits), CONTEXT).values == pytest.approx((rate,))


def test_goodput_without_limits_says_what_is_missing():
    assert "no limit on TTFT or TPOT was set" in reason("goodput", WHOLE)


def test_requests_that_overlap_are_one_sequence_each():
    """Two in flight over the same time: as many requests as repetitions, in a window that ends with the last end."""
    asked = without(
        Phase.REQUEST, in_flight=2, starts_ns=(0, 9_000 * MS, 9_500 * MS), durations_ns=(9, 3_000 * MS, 500 * MS)
    )
    assert METRICS["request_rate"].of(asked, CONTEXT).values == pytest.approx((2 / 3,))
    assert METRICS["request_energy"].of(asked, CONTEXT).values == pytest.approx((240.0 / 2,))


def test_gaps_between_chunks_give_no_itl_but_a_tpot():
    """Each gap stands for several tokens; the request's own length says for how many."""
    asked = without(Phase.REQUEST, gaps_of_chunks=True, gaps_ns=((800 * MS,), (600 * MS,)))
    assert METRICS["tpot"].of(asked, CONTEXT).values == pytest.approx((0.4, 0.3))
    assert "several tokens came at a time" in reason("itl", asked)


def test_a_decode_that_goes_deeper_reads_more():
    """By the mean depth of its repetitions, not by the first one's."""
    asked = without(Phase.DECODE, kv_advance=20)
    flat = METRICS["decode_mbu"].of(WHOLE, CONTEXT).values
    assert all(deep > level for deep, level in zip(METRICS["decode_mbu"].of(asked, CONTEXT).values, flat, strict=True))


@pytest.mark.parametrize("name", METRICS)
def test_value_is_as_by_hand(name):
    readings = METRICS[name].of(WHOLE, CONTEXT)
    assert readings.values == pytest.approx(BY_HAND[name])
    assert (readings.reason is None) == bool(readings.values)


def test_no_row_is_left_out_here():
    assert set(BY_HAND) == set(METRICS)


def test_every_row_states_what_it_is():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.formula
        assert metric.unit in {"s", "token/s", "request/s", "J", "J/token", "W", "B", "B/token", "Hz", "1"}
    assert len(METRICS) == len({metric.name for metric in METRICS.values()})


def test_names_of_opentelemetry_are_given_where_they_exist():
    named = {name: metric.otel for name, metric in METRICS.items() if metric.otel}
    assert named == {
        "ttft": "gen_ai.server.time_to_first_token",
        "tpot": "gen_ai.server.time_per_output_token",
        "e2e_latency": "gen_ai.server.request.duration",
    }


def test_direction_follows_the_unit():
    """Rates and shares of a ceiling go up, costs go down, power alone says neither."""
    expected = {"token/s": Better.HIGHER, "W": Better.NEITHER, "s": Better.LOWER, "J": Better.LOWER, "B": Better.LOWER}
    for metric in METRICS.values():
        assert metric.better is expected.get(metric.unit, metric.better)
    assert METRICS["decode_mbu"].better is Better.HIGHER
    assert METRICS["decode_launch_overhead"].better is Better.LOWER


def test_exactly_the_power_metrics_have_a_scope():
    scoped = {name for name, metric in METRICS.items() if metric.scoped}
    assert scoped == {name for name in METRICS if "energy" in name or "power" in name}


def test_tpot_is_latency_less_ttft_over_the_other_tokens():
    """vLLM's definition, from the same request: 1.0 s in all, 0.4 s to the first of three tokens."""
    run = changed(REQUEST, gaps_ns=((100 * MS, 500 * MS), (600 * MS, 800 * MS)))
    (first, second) = METRICS["tpot"].of(changed(WHOLE, runs=(run,))).values
    assert first == pytest.approx((1.0 - 0.4) / (3 - 1))
    assert second == pytest.approx((2.0 - 0.6) / (3 - 1))


def test_energy_states_its_half_width_in_its_own_unit():
    """One joule on the window of two prefills."""
    assert METRICS["prefill_energy"].of(WHOLE, CONTEXT).half_width == pytest.approx(0.5)
    assert METRICS["decode_token_energy"].of(WHOLE, CONTEXT).half_width == pytest.approx(1 / 8)
    assert METRICS["prefill_latency"].of(WHOLE, CONTEXT).half_width is None


def test_unknown_half_width_is_not_taken_for_certainty():
    unsure = tuple(changed(each, temporal_uncertainty_j=None) for each in ENERGY)
    for name in ("prefill_energy", "prefill_energy_adjusted"):
        readings = METRICS[name].of(changed(WHOLE, energy=unsure), CONTEXT)
        assert (len(readings.values), readings.half_width) == (1, None)


def test_scope_chooses_the_figure():
    assert METRICS["decode_power"].of(WHOLE, Context(Scope.WALL)).values == pytest.approx((99.9,))


def test_failed_trial_has_no_values_and_says_why():
    failed = changed(WHOLE, outcome=Outcome.FAILED, reason="out of memory")
    assert all(reason(name, failed) == "trial failed: out of memory" for name in METRICS)


@pytest.mark.parametrize(
    ("name", "phase"),
    [(name, metric.phase) for name, metric in METRICS.items() if metric.phase and not metric.scoped],
)
def test_phase_that_was_not_run(name, phase):
    assert reason(name, without(phase)) == f"{phase.value} was not run"


def test_request_of_one_token_has_no_gaps():
    single = without(Phase.REQUEST, gaps_ns=((), ()))
    assert "single token" in reason("tpot", single)
    assert "single token" in reason("itl", single)


def test_tokens_that_were_not_timed():
    assert "not timed" in reason("ttft", without(Phase.REQUEST, first_token_ns=None))


@pytest.mark.parametrize("busy_ns", [None, ()])
@pytest.mark.parametrize("name", ["decode_rate_device", "decode_launch_overhead"])
def test_device_time_that_was_not_taken(name, busy_ns):
    profiled = {"device_busy_ns": busy_ns, "device_busy_reason": "no profiler on this device"}
    assert reason(name, without(Phase.DECODE, **profiled)) == "no profiler on this device"


def test_host_without_a_power_sensor():
    blind = changed(WHOLE, energy=(), energy_reason="no power sensor: no RAPL, no GPU")
    assert reason("decode_power", blind) == "no power sensor: no RAPL, no GPU"


def test_scope_that_was_not_metered():
    assert reason("decode_power", WHOLE, Context(Scope.GPU_BOARD)) == "decode was not metered on scope gpu-board"
    assert reason("decode_power", WHOLE, Context()) == (
        "no meter covers the processor that did the work; metered beside it: module, wall"
    )


def test_refused_energy_gives_the_verdicts_reason():
    nothing = {"energy_j": None, "idle_adjusted_j": None, "peak_power_w": None, "mean_power_w": None}
    reasons = {"reason": "too_few_updates: 3 in 0.30 s", "idle_reason": "no gross energy"}
    asked = changed(WHOLE, energy=(changed(ENERGY[2], **nothing, **reasons),))
    for name in ("decode_token_energy", "decode_power", "decode_power_peak"):
        assert reason(name, asked) == "too_few_updates: 3 in 0.30 s"
    assert reason("decode_token_energy_adjusted", asked) == "no gross energy"


def test_energy_without_an_idle_baseline():
    bare = phase_energy(Phase.DECODE, 160.0, idle_adjusted_j=None, idle_reason="no idle baseline")
    asked = changed(WHOLE, energy=(bare,))
    assert METRICS["decode_power"].of(asked, CONTEXT).values == (16.0,)
    assert reason("decode_power_adjusted", asked) == "no idle baseline"
    assert reason("decode_power_peak_adjusted", asked) == "no idle baseline"


def test_window_without_tokens_is_no_division_by_zero():
    asked = changed(WHOLE, energy=(phase_energy(Phase.DECODE, 160.0, tokens=0),))
    assert "nothing to divide by" in reason("decode_token_energy", asked)


def test_memory_that_was_not_measured():
    assert reason("accelerator_memory_peak", WHOLE) == "no accelerator"
    assert reason("host_memory_peak", changed(WHOLE, memory=None)) == "memory was not measured"


@pytest.mark.parametrize("name", ["prefill_mfu", "decode_mfu", "prefill_mbu", "decode_mbu"])
def test_ceilings_that_were_not_measured(name):
    assert "ceilings" in reason(name, WHOLE, Context(Scope.MODULE))


def test_warm_up_is_no_evidence():
    warm: PhaseRun = changed(PREFILL, warmup=3)
    assert "evidence" in reason("prefill_latency", changed(WHOLE, runs=(warm,)))


def test_counters_that_were_not_read():
    bare = changed(WHOLE, readings=())
    assert reason("prefill_tensor_utilisation", bare) == "GPM was not read on this host"
    assert reason("decode_sm_clock", bare) == "SM clock was not read on this host"
    assert reason("decode_sm_clock", without(Phase.DECODE)) == "decode was not run"
