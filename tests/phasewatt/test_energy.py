"""Verdicts of a trial: phases, scopes, rails, idle baselines, and readings that check each other."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from phasewatt import energy
from phasewatt.fields import Phase, Reading, Scope
from phasewatt.records import PhaseEnergy, PhaseRun
from phasewatt.traces import Channel, Trace
from tests.fixtures import h200_trace
from tests.fixtures.records import SECOND_NS, changed, channel, phase_run, trace
from tests.fixtures.waveforms import Waveform, dithered, every, held, ramp, ramp_j, sensor_card

TIMES_S = every(0.02, 26)
IDLE = phase_run(Phase.IDLE, [5.0], tokens=0, kv_end=0)  # seconds 1 to 6
DECODE = changed(phase_run(Phase.DECODE, [2.0] * 5), starts_ns=tuple((10 + 2 * i) * SECOND_NS for i in range(5)))
CARD = sensor_card()
MODULE = channel(card=CARD)
GPU = channel(name="gpu0", source="instant", scope=Scope.GPU_BOARD, card=CARD)
PACKAGE = channel(name="package-0", source="powercap", scope=Scope.CPU_PACKAGE, card=CARD)
COUNTER = changed(GPU, source="counter", reading=Reading.COUNTER, unit="J")


def steps(idle_w: float, busy_w: float) -> Waveform:
    """Idle until second 8, busy after it; with a dither, as sensors have."""
    return held(lambda at_s: dithered(busy_w if at_s > 8 else idle_w)(at_s))


def joules(busy_w: float) -> Waveform:
    """A counter of a load of 20 W, and of so much from second 8 on."""
    return held(lambda at_s: 1000 + 20 * min(at_s, 8.0) + busy_w * max(at_s - 8.0, 0.0))


def swinging(level_w: float) -> Waveform:
    """A load that swings slowly by a fifth."""
    return held(lambda at_s: level_w * (1 + 0.2 * math.sin(2.3 * at_s) + 0.1 * math.sin(5.1 * at_s)))


def power(*columns: tuple[Channel, Waveform]) -> Trace:
    """A trace of all channels, read every 20 ms."""
    return trace(TIMES_S, *columns)


def verdict(*columns: tuple[Channel, Waveform], run: PhaseRun = DECODE) -> PhaseEnergy:
    """The only verdict on a run."""
    (only,) = energy.phase_energies([power(*columns)], [run])
    return only


def by_scope(*columns: tuple[Channel, Waveform], runs: Iterable[PhaseRun] = (DECODE,)) -> dict[Scope, PhaseEnergy]:
    """The verdicts on the decode phase, by their scope."""
    return {e.scope: e for e in energy.phase_energies([power(*columns)], runs) if e.phase is Phase.DECODE}


def code(told: PhaseEnergy) -> str:
    """The reason that no energy is given for; nothing that rests on the energy stands."""
    assert told.reason is not None
    figures = (told.energy_j, told.mean_power_w, told.peak_power_w, told.idle_adjusted_j)
    assert (*figures, told.temporal_uncertainty_j, told.systematic_uncertainty_j, told.doubts) == (None,) * 6 + ((),)
    return told.reason.partition(":")[0]


# What a verdict says.


def test_verdict_carries_what_it_rests_on():
    told = verdict((changed(MODULE, gain_uncertainty=0.05), steps(20.0, 50.0)), run=changed(DECODE, warmup=1))
    assert told.rails == ("VDD_IN",)
    assert (told.source, told.scope, told.reading) == ("replay", Scope.MODULE, Reading.INSTANT)
    assert (told.repetitions, told.tokens) == (4, 16)
    assert told.window_s == pytest.approx(8.0)
    assert told.energy_j == pytest.approx(400.0, abs=0.1)
    assert told.mean_power_w == pytest.approx(50.0, abs=0.01)
    assert told.systematic_uncertainty_j == pytest.approx(0.05 * 400.0, rel=1e-3)
    assert told.distinct_updates == pytest.approx(80, abs=1)
    assert (told.calibrated, told.doubts, told.check) == (True, (), None)


@pytest.mark.parametrize("card", [None, sensor_card(lag_s=None), sensor_card(update_period_s=None)], ids=str)
def test_without_a_card_that_tells_its_times_a_figure_is_uncalibrated_and_says_so(card):
    told = verdict((changed(MODULE, card=card), steps(20.0, 50.0)))
    assert told.energy_j == pytest.approx(500.0, abs=0.5)
    assert not told.calibrated
    assert [doubt.partition(":")[0] for doubt in told.doubts] == ["uncalibrated"]


def test_a_wide_figure_says_so():
    told = verdict((MODULE, swinging(50.0)))
    assert told.energy_j is not None and told.temporal_uncertainty_j is not None
    assert told.temporal_uncertainty_j > 0.02 * told.energy_j
    assert told.doubts[0].startswith("wide: +-")


def test_an_unknown_gain_leaves_the_systematic_part_unknown():
    """Not 0: nobody said how true the sensor is."""
    told = verdict((changed(MODULE, gain_uncertainty=None), steps(20.0, 50.0)))
    assert told.energy_j is not None
    assert told.systematic_uncertainty_j is None


def test_one_unknown_gain_leaves_the_systematic_part_of_the_sum_unknown():
    rails = [
        (changed(MODULE, name=name, gain_uncertainty=gain), steps(2.0, 30.0))
        for name, gain in (("a", 0.05), ("b", None))
    ]
    assert verdict(*rails).systematic_uncertainty_j is None


def test_doubts_of_the_window_stand_beside_every_figure_and_beside_no_refusal():
    busy = changed(DECODE, other_cpu_cores=3.0)
    columns = [(MODULE, steps(20.0, 50.0)), (changed(GPU, scope=Scope.UNKNOWN), steps(20.0, 50.0))]
    told = by_scope(*columns, runs=[busy])
    assert told[Scope.MODULE].doubts == ("not_alone: others kept 3.0 cores busy",)
    assert code(told[Scope.UNKNOWN]) == "scope_unknown"


def test_negative_power_is_kept():
    assert verdict((MODULE, steps(20.0, -0.4))).energy_j == pytest.approx(-4.0, abs=0.1)


def test_what_is_no_power_has_no_verdict():
    clock = channel(name="gpu0", source="nvml.sm_clock", unit="Hz", scope=None)
    assert energy.phase_energies([power((clock, ramp))], [DECODE]) == ()


def test_without_traces_there_are_no_verdicts():
    assert energy.phase_energies([], [DECODE]) == ()


# Idle.


def test_idle_power_is_taken_off_whatever_the_order_of_the_runs():
    for runs in ([IDLE, DECODE], [DECODE, IDLE]):
        found = {e.phase: e for e in energy.phase_energies([power((MODULE, steps(20.0, 50.0)))], runs)}
        assert found[Phase.DECODE].energy_j == pytest.approx(500.0, abs=0.1)
        assert found[Phase.DECODE].idle_adjusted_j == pytest.approx(300.0, abs=0.1)
        assert found[Phase.IDLE].mean_power_w == pytest.approx(20.0, abs=0.01)
        assert found[Phase.IDLE].idle_reason == "this is the idle baseline"


def test_each_scope_has_its_own_idle_power():
    told = by_scope((GPU, steps(80.0, 300.0)), (PACKAGE, steps(30.0, 90.0)), runs=[IDLE, DECODE])
    adjusted_j = {scope: found.idle_adjusted_j for scope, found in told.items()}
    wanted_j = {Scope.GPU_BOARD: 2200, Scope.CPU_PACKAGE: 600, Scope.COMPUTE: 2800}
    assert adjusted_j == {scope: pytest.approx(wanted, abs=1) for scope, wanted in wanted_j.items()}


def test_without_an_idle_run_nothing_is_taken_off():
    told = verdict((MODULE, steps(20.0, 50.0)))
    assert (told.idle_adjusted_j, told.idle_reason) == (None, "no idle baseline")


def test_a_refused_idle_baseline_is_named():
    """Its sensor stood still for longer than a steady load would have it."""
    frozen = held(lambda at_s: 20.0 if at_s < 8 else dithered(50.0)(at_s))
    told = by_scope((changed(MODULE, card=None), frozen), runs=[IDLE, DECODE])[Scope.MODULE]
    assert told.energy_j is not None
    assert told.idle_adjusted_j is None
    assert told.idle_reason is not None
    assert told.idle_reason.startswith("idle baseline: gap")


# Rails and scopes.


def test_rails_of_one_scope_are_summed_with_their_uncertainty():
    """AGX Orin: the module is the sum of its rails; one that lies inside another is not counted twice."""
    told = verdict(
        (changed(MODULE, name="VDD_GPU_SOC"), steps(2.0, 30.0)),
        (changed(MODULE, name="VDD_CPU_CV", gain_uncertainty=0.1), steps(1.0, 8.0)),
        (changed(MODULE, name="VDDQ", parts_of_total=False), steps(9.0, 9.0)),
    )
    assert told.rails == ("VDD_GPU_SOC", "VDD_CPU_CV")
    assert told.energy_j == pytest.approx(380.0, abs=0.1)
    assert told.peak_power_w == pytest.approx(38.0, abs=0.01)
    assert told.systematic_uncertainty_j == pytest.approx(38.0, abs=0.1)


def test_one_rail_without_a_figure_leaves_the_sum_without_one():
    told = verdict((changed(MODULE, name="a"), steps(2.0, 30.0)), (changed(MODULE, name="b"), lambda at_s: None))
    assert code(told) == "rail_missing"
    assert told.idle_reason == "no gross energy"


def test_one_gpu_that_vanished_leaves_the_boards_without_a_figure():
    """The energy of the rest would look like that of all."""
    vanished = held(lambda at_s: None if at_s > 12 else dithered(300.0)(at_s))
    told = verdict((GPU, steps(80.0, 300.0)), (changed(GPU, name="gpu1"), vanished))
    assert told.rails == ("gpu0", "gpu1")
    assert code(told) == "not_bracketed"


def test_scopes_stay_apart():
    told = by_scope((MODULE, steps(5.0, 30.0)), (changed(MODULE, scope=Scope.WALL), steps(9.0, 42.0)))
    assert {scope: found.energy_j for scope, found in told.items()} == {
        Scope.MODULE: pytest.approx(300, abs=1),
        Scope.WALL: pytest.approx(420, abs=1),
    }


def test_compute_is_gpu_boards_packages_and_their_dram():
    dram = changed(PACKAGE, name="dram", scope=Scope.DRAM, gain_uncertainty=0.1)
    told = by_scope((GPU, steps(80.0, 300.0)), (PACKAGE, steps(30.0, 90.0)), (dram, steps(3.0, 10.0)))
    whole = told[Scope.COMPUTE]
    assert (whole.rails, whole.source) == (("gpu0", "package-0", "dram"), "instant+powercap")
    assert whole.energy_j == pytest.approx(4000, abs=1)
    assert whole.mean_power_w == pytest.approx(400, abs=0.1)
    assert whole.systematic_uncertainty_j == pytest.approx(0.05 * 3900 + 0.1 * 100, rel=1e-3), "gains may err alike"
    parts = [told[scope].temporal_uncertainty_j or 0.0 for scope in (Scope.GPU_BOARD, Scope.CPU_PACKAGE, Scope.DRAM)]
    assert whole.temporal_uncertainty_j == pytest.approx(math.hypot(*parts))
    assert (whole.calibrated, whole.doubts) == (True, ())


@pytest.mark.parametrize("scopes", [(GPU,), (PACKAGE,), (GPU, changed(PACKAGE, scope=Scope.DRAM))], ids=len)
def test_compute_needs_the_package_and_another_part(scopes):
    assert Scope.COMPUTE not in by_scope(*((asked, steps(20.0, 50.0)) for asked in scopes))


def test_compute_without_one_of_its_parts_is_refused_by_name():
    told = by_scope((GPU, steps(80.0, 300.0)), (PACKAGE, lambda at_s: None))
    assert told[Scope.GPU_BOARD].energy_j is not None
    assert code(told[Scope.COMPUTE]) == "cpu-package"
    assert told[Scope.COMPUTE].reason == f"cpu-package: {told[Scope.CPU_PACKAGE].reason}"


def test_compute_is_as_wide_and_as_doubtful_as_its_parts():
    wide = by_scope((GPU, swinging(300.0)), (changed(PACKAGE, card=None), steps(30.0, 90.0)))[Scope.COMPUTE]
    assert not wide.calibrated
    assert [doubt.partition(":")[0] for doubt in wide.doubts] == ["wide", "uncalibrated"]
    narrow = by_scope((GPU, steps(80.0, 900.0)), (PACKAGE, swinging(20.0)))
    assert narrow[Scope.CPU_PACKAGE].doubts[0].startswith("wide")
    assert narrow[Scope.COMPUTE].doubts == (), "a small part that is wide does not make the whole so"


# Several readings of one scope.


def test_a_counter_is_taken_and_watts_check_it():
    averages = changed(GPU, source="average", reading=Reading.AVERAGE, card=None)
    told = verdict((averages, steps(20.0, 50.0)), (GPU, swinging(50.0)), (COUNTER, joules(50.0)))
    assert (told.source, told.reading) == ("counter", Reading.COUNTER)
    assert told.energy_j == pytest.approx(500.0, rel=5e-3)
    assert told.check is not None
    assert (told.check.source, told.check.reading, told.check.reason) == ("instant", Reading.INSTANT, None)
    assert told.check.energy_j == pytest.approx(500.0, rel=0.05)


@pytest.mark.parametrize(
    ("busy_w", "outcome"),
    [
        (50.0, "agree"),
        (50.8, "agree"),
        (51.6, "doubt"),
        (52.5, "doubt"),
        (47.0, "doubt"),
        (57.0, "withdrawn"),
        (43.0, "withdrawn"),
    ],
)
def test_readings_that_differ_are_doubted_and_at_last_withdrawn(busy_w, outcome):
    """Half-widths apart: under 2 % they agree, over 10 % neither is believed."""
    told = verdict((GPU, steps(20.0, 50.0)), (COUNTER, joules(busy_w)))
    assert told.check is not None
    assert told.check.energy_j == pytest.approx(500.0, rel=1e-3)
    if outcome == "withdrawn":
        assert code(told) == "sources_disagree"
        assert told.idle_reason == "no gross energy"
    else:
        assert told.energy_j == pytest.approx(10 * busy_w, rel=2e-3)
        assert [doubt.partition(":")[0] for doubt in told.doubts] == ["sources_disagree"] * (outcome == "doubt")


def test_a_check_without_a_figure_says_why_and_casts_no_doubt():
    told = verdict((GPU, lambda at_s: None), (COUNTER, joules(50.0)))
    assert told.energy_j == pytest.approx(500.0, rel=1e-3)
    assert told.check is not None
    assert (told.check.energy_j, told.check.temporal_uncertainty_j) == (None, None)
    assert told.check.reason is not None
    assert told.check.reason.startswith("not_bracketed")
    assert told.doubts == ()


def test_a_counter_that_ran_backwards_leaves_the_watts():
    backwards = held(lambda at_s: 50.0 * at_s - (300.0 if at_s > 15 else 0.0))
    told = verdict((GPU, steps(20.0, 50.0)), (COUNTER, backwards))
    assert (told.source, told.energy_j) == ("instant", pytest.approx(500.0, abs=0.1))
    assert told.check is not None and told.check.reason is not None
    assert told.check.reason.startswith("counter_backwards")


def test_a_wide_reading_checked_by_another_is_allowed_its_width():
    told = verdict((GPU, swinging(50.0)), (COUNTER, joules(51.5)))
    assert told.check is not None and told.check.temporal_uncertainty_j is not None
    assert told.check.temporal_uncertainty_j > 0.03 * 500
    assert told.doubts == ()


def test_an_average_alone_gives_its_reason():
    assert code(verdict((changed(MODULE, reading=Reading.AVERAGE, card=None), steps(20.0, 50.0)))) == "averaged_source"


def test_an_average_is_no_check():
    """It is of another stretch of time."""
    averages = changed(GPU, source="average", reading=Reading.AVERAGE, card=sensor_card(averaging_s=1.0))
    assert verdict((averages, steps(20.0, 50.0)), (COUNTER, joules(50.0))).check is None


# The window.


def test_repetitions_with_pauses_between_them_are_refused():
    """Half of the window is something else than the phase."""
    paused = changed(DECODE, durations_ns=(SECOND_NS,) * 5)
    assert code(verdict((MODULE, steps(20.0, 50.0)), run=paused)) == "not_contiguous"


def test_a_phase_that_only_warmed_up_is_refused():
    told = verdict((MODULE, steps(20.0, 50.0)), run=changed(DECODE, warmup=5))
    assert code(told) == "no_window"
    assert (told.window_s, told.repetitions, told.distinct_updates) == (0.0, 0, 0)


def test_repetitions_whose_clock_ran_backwards_are_refused():
    backwards = changed(DECODE, starts_ns=tuple(reversed(DECODE.starts_ns)))
    assert code(verdict((MODULE, steps(20.0, 50.0)), run=backwards)) == "no_window"


def test_the_steps_of_decode_are_a_rhythm_that_a_sensor_may_be_locked_to():
    """Twenty steps of 100 ms in a repetition of 2 s: a sensor that updates every 100 ms sees one moment of each."""
    locked = changed(DECODE, kv_start=0, kv_end=20)
    assert code(verdict((MODULE, steps(20.0, 50.0)), run=locked)) == "aliased"
    assert verdict((MODULE, steps(20.0, 50.0)), run=changed(locked, kv_end=17)).energy_j is not None


def test_a_trace_in_parts_is_one_stretch_of_time():
    """Parts that arrive out of order are put in order; a window may reach over their seam."""
    shown = held(ramp)
    parts = [trace(times_s, (MODULE, shown)) for times_s in (TIMES_S[700:], TIMES_S[:700])]
    (told,) = energy.phase_energies(parts, [DECODE])
    assert told.energy_j == pytest.approx(ramp_j(10, 20), rel=2e-3)


def test_missing_samples_are_left_out_not_read_as_zero():
    shown = held(ramp)
    told = verdict((MODULE, lambda at_s: None if round(at_s * 50) % 7 == 0 else shown(at_s)))
    assert told.energy_j == pytest.approx(ramp_j(10, 20), rel=2e-3)


# The H200's own recording: a check of consistency of its counter with its watts, not of their truth.

STRETCHES = [
    ("idle2", Phase.IDLE, 0.0),
    ("prefill", Phase.PREFILL, 0.0),
    ("prefill", Phase.PREFILL, 2.4),  # from where the first two seconds, of loading and compiling, are over
    ("decode_eager", Phase.DECODE, 0.0),
    ("decode_graph", Phase.DECODE, 0.0),
]


@pytest.mark.parametrize(("mark", "phase", "skipped_s"), STRETCHES)
def test_counter_and_integrated_watts_of_an_h200_agree(mark, phase, skipped_s):
    start_ns, end_ns = h200_trace.stretches()[mark]
    run = h200_trace.run(phase, start_ns + round(skipped_s * SECOND_NS), end_ns)
    (told,) = energy.phase_energies([h200_trace.trace()], [run])
    assert told.source == "nvml.counter"
    assert told.calibrated and told.doubts == ()
    assert told.energy_j is not None and told.temporal_uncertainty_j is not None
    assert told.check is not None and told.check.energy_j is not None and told.check.temporal_uncertainty_j is not None
    allowed_j = math.hypot(told.temporal_uncertainty_j, told.check.temporal_uncertainty_j)
    assert abs(told.energy_j - told.check.energy_j) <= allowed_j
    if told.window_s > 3:
        assert told.energy_j / told.check.energy_j == pytest.approx(1.0, abs=0.02)
