"""Points of constructed profiles, whose machine's truth is known."""

from __future__ import annotations

import pytest

from phasewatt.bounds import Bound
from phasewatt.ceilings import no_peaks, peaks_of
from phasewatt.fields import Phase
from phasewatt.operators import Operator, Pass, costs
from phasewatt.profiles import OperatorTime
from phasewatt.roofline_points import points_of
from tests.fixtures.profiled import CUDA, MACHINE, ceilings, profile, profiled
from tests.fixtures.records import changed
from tests.fixtures.trials import SHAPE, conditions, measured, work

DONE = work(prompt_tokens=512)
LARGE = work(
    prompt_tokens=2048,
    shape=changed(SHAPE, hidden_size=2048, heads=16, head_dim=128, intermediate_size=8192, layers=16),
)
PEAKS = peaks_of(ceilings(), "bfloat16", conditions(**CUDA), "measured here")


def points(phase, done=DONE, peaks=PEAKS, under=None, runs=False, seen=None, **named):
    seen = seen or profile(done, phase, **named)
    stored = measured(done=done, under=under or conditions(**CUDA)).stored
    return points_of(profiled(stored, seen, runs=runs).trial, seen, peaks)


def test_rates_and_shares_are_those_of_the_machine():
    found = points(Phase.PREFILL, LARGE)
    by_name = {point.operator: point for point in found.operators}
    up = by_name["ffn_up"]
    cost = costs(LARGE.task.architecture, "bfloat16", Pass(1, 2048, 0))[Operator.FFN_UP]
    assert (up.flops, up.moved_bytes, up.intensity) == (cost.flops, cost.moved_bytes, cost.intensity)
    assert up.device_s == pytest.approx(MACHINE.device_s(cost.flops, cost.moved_bytes), rel=1e-4)
    assert up.flop_per_s == pytest.approx(cost.flops / up.device_s)
    assert up.mfu == pytest.approx(MACHINE.reached, rel=1e-4)
    assert up.sheet_mfu == pytest.approx(MACHINE.reached / 1.25, rel=1e-4)
    assert up.mbu == pytest.approx(up.byte_per_s / MACHINE.read_byte_per_s)
    assert sum(point.share for point in found.operators) + found.unattributed == pytest.approx(1)
    assert [point.device_s for point in found.operators] == sorted((p.device_s for p in found.operators), reverse=True)
    assert found.remarks == () and found.reason is None


def test_prefill_of_a_large_shape_is_bound_by_compute_and_its_decode_by_memory():
    prefill, decode = points(Phase.PREFILL, LARGE), points(Phase.DECODE, LARGE)
    assert prefill.whole.bound is Bound.COMPUTE and decode.whole.bound is Bound.MEMORY
    bounds = {point.operator: point.bound for point in decode.operators}
    assert bounds["ffn_up"] is bounds["attn_core"] is Bound.MEMORY
    norm = next(point for point in prefill.operators if point.operator == "norm")
    assert norm.flops == 0 and norm.mfu is None and norm.bound is Bound.MEMORY  # it multiplies no matrices


def test_groups_sum_to_the_whole():
    found = points(Phase.PREFILL)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert set(found.shares) == {"attention", "ffn", "rest", "unattributed"}
    slow = points(Phase.PREFILL, slowed={"attn_core": 50})
    assert slow.shares["attention"] > 0.5 > found.shares["attention"]


def test_gaps_are_of_the_unprofiled_time_where_the_phase_was_timed():
    """A profiler slows launches, so its own gaps are too long."""
    alone, beside = points(Phase.DECODE, gaps=0.7), points(Phase.DECODE, gaps=0.1, runs=True)
    assert alone.gaps == pytest.approx(0.7, abs=1e-3) and "under the profiler" in alone.gaps_of
    assert alone.whole.bound is Bound.LAUNCH
    assert beside.gaps > 0.9 and beside.gaps_of == "host time without the profiler"


def test_fewer_profiled_steps_are_held_against_as_many_timed_ones():
    whole, half = points(Phase.DECODE, runs=True), points(Phase.DECODE, runs=True, steps=8)
    assert half.gaps == pytest.approx(whole.gaps, abs=0.01) and half.gaps_of == whole.gaps_of
    shorter = changed(profile(DONE, Phase.PREFILL), kv_end=256)
    assert "under the profiler" in points(Phase.PREFILL, runs=True, seen=shorter).gaps_of


def test_kernels_slower_than_the_unprofiled_phase_are_told():
    slow = points(Phase.PREFILL, runs=True, slowed={"ffn_up": 1e4})
    assert slow.gaps == 0 and any("longer than the phase without it" in remark for remark in slow.remarks)


def test_no_time_is_no_gap_and_not_zero():
    seen = changed(profile(DONE, Phase.DECODE), elapsed_ns=0)
    found = points(Phase.DECODE, seen=seen)
    assert found.gaps is None and "how long" in found.gaps_of


def test_graphs_are_not_bound_by_launches():
    launched = points(Phase.DECODE, slowed={"norm": 30})
    replayed = points(Phase.DECODE, slowed={"norm": 30}, under=conditions(**CUDA, mode="graph", cache_tokens=528))

    def of(found):
        return next(point.bound for point in found.operators if point.operator == "norm")

    assert of(launched) is Bound.LAUNCH and of(replayed) is Bound.NEITHER


def test_without_ceilings_times_shares_and_rates_stay():
    found = points(Phase.PREFILL, peaks=no_peaks("this device's ceilings were not measured"))
    assert found.shares["ffn"] > 0 and found.operators[0].flop_per_s
    assert {(p.mfu, p.bound, p.reason) for p in found.operators} == {
        (None, None, "this device's ceilings were not measured")
    }


def test_an_empty_profile_gives_its_reason():
    seen = changed(profile(DONE, Phase.PREFILL), repetitions=0, operators=(), busy_ns=0, reason="CUPTI is not there")
    found = points(Phase.PREFILL, seen=seen)
    assert found.reason == "CUPTI is not there" and found.operators == () and found.busy_s is None
    silent = points(Phase.PREFILL, seen=changed(seen, reason=None))
    assert silent.reason == "the profile holds no kernel, and does not say why"


def test_a_truncated_profile_has_shares_and_no_rates():
    seen = changed(profile(DONE, Phase.PREFILL), reason="truncated: 1,000,000 events")
    found = points(Phase.PREFILL, seen=seen)
    assert found.remarks == ("truncated: 1,000,000 events",) and found.shares["ffn"] > 0
    for point in (found.whole, *found.operators):
        assert point.flop_per_s is point.mfu is point.bound is None
        assert point.reason == "the profile lacks kernels: truncated: 1,000,000 events"


def test_kernels_of_no_operator_leave_the_phase_its_bound():
    """As where a compiler made each of several operators at once."""
    seen = profile(LARGE, Phase.PREFILL)
    fused = changed(seen, operators=(), unattributed_ns=seen.busy_ns, reason="compiled: of several operators at once")
    found = points(Phase.PREFILL, LARGE, seen=fused)
    assert found.operators == () and found.unattributed == 1 and found.shares["ffn"] == 0
    assert found.whole.bound is Bound.COMPUTE and found.whole.mfu
    assert found.remarks[0] == "compiled: of several operators at once"


def test_an_operator_that_the_architecture_does_not_have_gets_no_figure():
    seen = profile(DONE, Phase.PREFILL)
    strange = (*seen.operators, OperatorTime(operator="router", device_ns=900, launches=3),
               OperatorTime(operator="gating", device_ns=900, launches=3))  # fmt: skip
    by_name = {
        point.operator: point for point in points(Phase.PREFILL, seen=changed(seen, operators=strange)).operators
    }
    assert by_name["router"].flops is None
    assert by_name["router"].reason == "this architecture has no formula for router"
    assert by_name["gating"].group is None and "no formula for gating" in by_name["gating"].reason


def test_much_unattributed_time_is_told_with_its_kernels():
    few, much = points(Phase.PREFILL, unattributed=0.02), points(Phase.PREFILL, unattributed=0.1)
    assert few.remarks == ()
    assert much.remarks == ("9.1% of the kernels' time belongs to no operator: memcpy",)


def test_fused_quantized_and_cpu_are_told():
    compiled = points(Phase.PREFILL, under=conditions(**CUDA, mode="compiled"))
    assert any("fuses operators" in remark for remark in compiled.remarks)
    quantized = points(Phase.PREFILL, changed(DONE, quantization="Q4"))
    assert any("weights are Q4" in remark for remark in quantized.remarks)
    on_cpu = points(Phase.PREFILL, processor="cpu")
    assert any("operations by their own time" in remark for remark in on_cpu.remarks)
    assert quantized.whole.bound is None and "'Q4'" in quantized.whole.reason
