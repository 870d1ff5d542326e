"""Energy: waveforms whose joules are known, and every reason for giving none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phasewatt import energy
from phasewatt.energy import Sample
from phasewatt.records import Phase, PhaseRun, Reading, Scope, Span
from tests.fixtures.records import SECOND_NS, changed, channel, phase_run, span, trace

POWER, COUNTER = Reading.INSTANT, Reading.COUNTER


def sampled(power_w: Callable[[float], float], times_s: Iterable[float]) -> list[Sample]:
    """A waveform, looked at at the given times."""
    return [Sample(round(at * SECOND_NS), power_w(at)) for at in times_s]


def every(period_s: float, until_s: float) -> list[float]:
    """Moments from 0 to `until_s`, both included."""
    return [index * period_s for index in range(round(until_s / period_s) + 1)]


def ramp(at_s: float) -> float:
    """10 W, rising by 3 W a second."""
    return 10.0 + 3.0 * at_s


def ramp_j(start_s: float, end_s: float) -> float:
    """What `ramp` takes between two moments, by hand."""
    return 10.0 * (end_s - start_s) + 1.5 * (end_s**2 - start_s**2)


def dithered(level_w: float) -> Callable[[float], float]:
    """A steady load as a sensor shows it: never the same value twice in a row, a milliwatt to either side."""
    return lambda at_s: level_w + (1e-3 if round(at_s * 10) % 2 else -1e-3)


def refusal(samples: list[Sample], window: Span, reading: Reading = POWER) -> str:
    """The reason that no energy is given for, without its figures."""
    estimate = energy.energy_j(samples, window, reading)
    assert estimate.energy_j is None
    assert estimate.peak_power_w is None
    assert estimate.reason is not None
    return estimate.reason.partition(":")[0]


def test_steady_load():
    estimate = energy.energy_j(sampled(dithered(100.0), every(0.1, 10)), span(2, 8), POWER)
    assert estimate.energy_j == pytest.approx(600.0, abs=1e-2)
    assert estimate.reason is None
    assert estimate.peak_power_w == pytest.approx(100.001)
    assert estimate.distinct_updates == 61
    assert estimate.longest_gap_s == pytest.approx(0.1)
    assert estimate.temporal_uncertainty_j == pytest.approx(0.0, abs=0.01)


@given(st.floats(0.5, 4.0), st.floats(1.0, 5.0))
def test_both_edges_are_interpolated(start_s, length_s):
    """A straight line is integrated exactly, wherever the window begins and ends between two samples."""
    end_s = start_s + length_s
    estimate = energy.energy_j(sampled(ramp, every(0.1, 10)), span(start_s, end_s), POWER)
    assert estimate.energy_j == pytest.approx(ramp_j(start_s, end_s), rel=1e-6)
    assert estimate.peak_power_w == pytest.approx(ramp(end_s), rel=1e-6)


def test_uneven_sampling_weighs_by_time():
    times_s = [0.0, 0.3, 0.4, 0.9, 1.3, 1.4, 1.5, 1.9, 2.2, 2.3, 2.8, 3.0]
    estimate = energy.energy_j(sampled(ramp, times_s), span(0.1, 2.9), POWER)
    assert estimate.energy_j == pytest.approx(ramp_j(0.1, 2.9))


def test_square_wave_is_off_by_less_than_its_stated_half_width():
    """100 W and 300 W by turns of half a second, looked at every 30 ms."""

    def wave(at_s: float) -> float:
        return (300.0 if at_s % 1.0 < 0.5 else 100.0) + 1e-3 * math.sin(40 * at_s)

    estimate = energy.energy_j(sampled(wave, every(0.03, 12)), span(1, 11), POWER)
    assert estimate.energy_j is not None
    assert estimate.temporal_uncertainty_j is not None
    assert abs(estimate.energy_j - 2000.0) < estimate.temporal_uncertainty_j < 300.0
    assert estimate.peak_power_w == pytest.approx(300.0, abs=0.01)


def test_negative_power_is_kept():
    """An idle rail that reads below zero by quantisation takes from the total; cutting it off would add energy."""
    estimate = energy.energy_j(sampled(dithered(-0.4), every(0.1, 10)), span(2, 8), POWER)
    assert estimate.energy_j == pytest.approx(-2.4, abs=1e-2)


def test_polling_faster_than_the_sensor_adds_no_updates():
    """The sensor shows a new value every 100 ms; ten looks at each are one update."""
    held = sampled(lambda at_s: ramp(math.floor(at_s * 10 + 1e-6) / 10), every(0.01, 10))
    estimate = energy.energy_j(held, span(2, 8), POWER)
    assert estimate.distinct_updates == 61
    assert estimate.longest_gap_s == pytest.approx(0.1)


def test_averaged_readings_never_become_joules():
    """They speak of another second than the one asked for."""
    assert refusal(sampled(dithered(100.0), every(0.1, 10)), span(2, 8), Reading.AVERAGE) == "averaged_source"


@pytest.mark.parametrize(("start_s", "end_s"), [(-0.0, 10.05), (0.0, 10.2)])
def test_window_that_outlasts_the_samples_is_refused(start_s, end_s):
    assert refusal(sampled(ramp, every(0.1, 10)), span(start_s, end_s)) == "not_bracketed"


def test_window_before_the_first_sample_is_refused():
    assert refusal(sampled(ramp, [at + 1 for at in every(0.1, 10)]), span(0.9, 8)) == "not_bracketed"


def test_no_samples_at_all_are_refused():
    estimate = energy.energy_j([], span(1, 2), POWER)
    assert estimate.energy_j is None
    assert estimate.longest_gap_s is None
    assert estimate.reason is not None
    assert estimate.reason.startswith("not_bracketed")


def test_window_bracketed_exactly_is_taken():
    assert energy.energy_j(sampled(ramp, every(0.1, 10)), span(0, 10), POWER).energy_j == pytest.approx(ramp_j(0, 10))


def test_one_update_too_few_is_refused_and_one_more_is_taken():
    samples = sampled(ramp, every(1.0, 30))
    needed = energy.MIN_UPDATES
    assert refusal(samples, span(1.5, 1.5 + needed - 1)) == "too_few_updates"
    assert energy.energy_j(samples, span(1.5, 1.5 + needed), POWER).energy_j is not None


def test_a_sensor_that_never_changes_is_refused():
    """It may be stuck; what it shows is one reading, however often it was looked at."""
    assert refusal(sampled(lambda at_s: 42.0, every(0.1, 10)), span(2, 8)) == "too_few_updates"


def test_a_silence_inside_the_window_is_refused():
    times_s = [at for at in every(0.1, 10) if not 4.0 < at < 6.1]
    assert refusal(sampled(ramp, times_s), span(1, 9)) == "gap"


def test_a_sensor_that_freezes_at_the_end_is_refused():
    """The samples go on and bracket the window, but nothing new is in them."""
    frozen = sampled(lambda at_s: ramp(min(at_s, 5.0)), every(0.1, 10))
    assert refusal(frozen, span(1, 9)) == "gap"


def test_a_silence_outside_the_window_is_no_matter():
    times_s = [at for at in every(0.1, 20) if not 12.0 < at < 18.0]
    assert energy.energy_j(sampled(ramp, times_s), span(1, 9), POWER).energy_j == pytest.approx(ramp_j(1, 9))


def counted(power_w: float, times_s: Iterable[float], start_j: float = 5000.0) -> list[Sample]:
    """A joule counter under a steady load."""
    return sampled(lambda at_s: start_j + power_w * at_s, times_s)


@given(st.floats(0.5, 4.0), st.floats(1.0, 5.0), st.floats(1.0, 500.0))
def test_counter_is_interpolated_at_both_edges(start_s, length_s, power_w):
    """Under a steady load exactly, wherever the window falls between two updates."""
    estimate = energy.energy_j(counted(power_w, every(0.1, 10)), span(start_s, start_s + length_s), COUNTER)
    assert estimate.energy_j == pytest.approx(power_w * length_s, rel=1e-6)
    assert estimate.peak_power_w == pytest.approx(power_w, rel=1e-6)
    assert estimate.temporal_uncertainty_j == pytest.approx(power_w * 0.1, rel=1e-6)


def test_counter_polled_faster_than_it_counts_stays_within_its_half_width():
    """It moves every 100 ms and is read every 10 ms: the edges fall between two of its steps."""
    held = sampled(lambda at_s: 80.0 * math.floor(at_s * 10 + 1e-6) / 10, every(0.01, 10))
    estimate = energy.energy_j(held, span(1.234, 8.765), COUNTER)
    assert estimate.energy_j is not None
    assert estimate.temporal_uncertainty_j is not None
    assert abs(estimate.energy_j - 80.0 * (8.765 - 1.234)) <= estimate.temporal_uncertainty_j
    assert estimate.temporal_uncertainty_j == pytest.approx(8.0)


def test_counter_that_runs_backwards_is_refused():
    """A driver was reloaded, or the counter ran over: the joules of that moment are not known."""
    samples = counted(50.0, every(0.1, 5)) + [Sample(s.time_ns + 6 * SECOND_NS, s.value) for s in counted(50.0, [0, 1])]
    assert refusal(samples, span(0.5, 4.5), COUNTER) == "counter_backwards"


def test_power_may_fall():
    """Falling watts are no fault, as a falling counter is."""
    estimate = energy.energy_j(sampled(lambda at_s: 100.0 - at_s, every(0.1, 10)), span(1, 9), POWER)
    assert estimate.energy_j == pytest.approx(100 * 8 - (81 - 1) / 2)


@given(st.lists(st.floats(1.0, 500.0), min_size=120, max_size=120, unique=True))
def test_counter_and_power_agree(levels_w):
    """The counter of a load that was read in watts gives the same joules between two of its updates."""
    times_s = every(0.1, 11.9)
    watts = [Sample(round(at * SECOND_NS), level) for at, level in zip(times_s, levels_w, strict=True)]
    total, joules = 0.0, [Sample(0, 0.0)]
    for before, now in itertools.pairwise(watts):
        total += (before.value + now.value) / 2 * (now.time_ns - before.time_ns) * 1e-9
        joules.append(Sample(now.time_ns, total))
    by_power = energy.energy_j(watts, span(1.0, 11.0), POWER).energy_j
    by_counter = energy.energy_j(joules, span(1.0, 11.0), COUNTER).energy_j
    assert by_power == pytest.approx(by_counter)


@given(st.lists(st.tuples(st.integers(0, 10 * SECOND_NS), st.floats(-10, 1000))), st.floats(0, 9), st.floats(0.01, 9))
def test_energy_stands_without_a_reason_and_a_reason_without_energy(points, start_s, length_s):
    """Whatever the samples are."""
    samples = sorted(Sample(*point) for point in {at: (at, value) for at, value in points}.values())
    for reading in Reading:
        estimate = energy.energy_j(samples, span(start_s, start_s + length_s), reading)
        assert (estimate.energy_j is None) == (estimate.reason is not None)
        assert (estimate.energy_j is None) == (estimate.temporal_uncertainty_j is None)


@given(st.floats(1, 8), st.lists(st.floats(1.0, 500.0), min_size=101, max_size=101, unique=True))
def test_energy_of_two_halves_is_that_of_the_whole(cut_s, levels_w):
    assume(2.0 <= cut_s <= 7.0)
    samples = [Sample(index * SECOND_NS // 10, level) for index, level in enumerate(levels_w)]
    parts = [energy.energy_j(samples, span(*edges), POWER).energy_j for edges in [(0.5, cut_s), (cut_s, 9.5)]]
    whole = energy.energy_j(samples, span(0.5, 9.5), POWER).energy_j
    assert whole is not None
    assert sum(part or 0.0 for part in parts) == pytest.approx(whole)


# Of a trial: which phases, scopes and rails the verdicts are about.

TIMES_S = every(0.1, 40)
IDLE = phase_run(Phase.IDLE, [5.0], tokens=0, kv_end=0)  # seconds 1 to 6
DECODE = changed(phase_run(Phase.DECODE, [2.0] * 5), starts_ns=tuple((10 + 2 * i) * SECOND_NS for i in range(5)))


def steps(idle_w: float, busy_w: float) -> Callable[[float], float]:
    """Idle until second 8, busy after it; with a dither, as sensors have."""
    return lambda at_s: dithered(busy_w if at_s > 8 else idle_w)(at_s)


def test_idle_power_is_taken_off_whatever_the_order_of_the_runs():
    power = trace(TIMES_S, (channel(), steps(20.0, 50.0)))
    for runs in ([IDLE, DECODE], [DECODE, IDLE]):
        found = {each.phase: each for each in energy.phase_energies([power], runs)}
        assert found[Phase.DECODE].energy_j == pytest.approx(500.0, abs=0.1)
        assert found[Phase.DECODE].idle_adjusted_j == pytest.approx(300.0, abs=0.1)
        assert found[Phase.DECODE].mean_power_w == pytest.approx(50.0, abs=0.01)
        assert found[Phase.IDLE].mean_power_w == pytest.approx(20.0, abs=0.01)
        assert found[Phase.IDLE].idle_reason == "this is the idle baseline"


def test_verdict_carries_what_it_rests_on():
    power = trace(TIMES_S, (channel(gain_uncertainty=0.05), steps(20.0, 50.0)))
    (verdict,) = energy.phase_energies([power], [changed(DECODE, warmup=1)])
    assert verdict.rails == ("VDD_IN",)
    assert (verdict.source, verdict.scope, verdict.reading) == ("replay", Scope.MODULE, POWER)
    assert (verdict.repetitions, verdict.tokens) == (4, 16)
    assert verdict.window_s == pytest.approx(8.0)
    assert verdict.systematic_uncertainty_j == pytest.approx(0.05 * 400.0, rel=1e-3)
    assert verdict.idle_adjusted_j is None
    assert verdict.idle_reason == "no idle baseline"


def test_rails_of_one_scope_are_summed_with_their_uncertainty():
    """AGX Orin: the module is the sum of its rails; one that lies inside another is not counted twice."""
    power = trace(
        TIMES_S,
        (channel(name="VDD_GPU_SOC"), steps(2.0, 30.0)),
        (channel(name="VDD_CPU_CV", gain_uncertainty=0.1), steps(1.0, 8.0)),
        (channel(name="VDDQ", parts_of_total=False), steps(9.0, 9.0)),
    )
    (verdict,) = energy.phase_energies([power], [DECODE])
    assert verdict.rails == ("VDD_GPU_SOC", "VDD_CPU_CV")
    assert verdict.energy_j == pytest.approx(380.0, abs=0.1)
    assert verdict.peak_power_w == pytest.approx(38.0, abs=0.01)
    assert verdict.systematic_uncertainty_j == pytest.approx(38.0, abs=0.1)


def test_one_rail_without_a_figure_leaves_the_sum_without_one():
    power = trace(TIMES_S, (channel(name="a"), steps(2.0, 30.0)), (channel(name="b"), lambda at_s: None))
    (verdict,) = energy.phase_energies([power], [DECODE])
    assert verdict.energy_j is None
    assert verdict.reason is not None
    assert verdict.reason.startswith("not_bracketed")
    assert verdict.mean_power_w is None
    assert verdict.idle_reason == "no gross energy"


def test_scopes_stay_apart():
    power = trace(
        TIMES_S,
        (channel(name="gpu0", scope=Scope.GPU_BOARD), steps(80.0, 300.0)),
        (channel(name="package-0", scope=Scope.CPU_PACKAGE), steps(30.0, 90.0)),
    )
    found = {each.scope: each.energy_j for each in energy.phase_energies([power], [DECODE])}
    assert found == {Scope.GPU_BOARD: pytest.approx(3000, abs=1), Scope.CPU_PACKAGE: pytest.approx(900, abs=1)}


def test_the_reading_that_is_least_unsure_of_its_moment_is_taken():
    """A GPU offers a counter, instantaneous watts that here swing widely, and an average, never taken if others are."""
    swinging = trace(
        TIMES_S,
        (channel(reading=Reading.AVERAGE, source="average"), steps(20.0, 50.0)),
        (channel(source="instant"), lambda at_s: 50.0 + 40.0 * math.sin(17 * at_s)),
        (channel(reading=COUNTER, source="counter"), lambda at_s: 50.0 * at_s),
    )
    (verdict,) = energy.phase_energies([swinging], [DECODE])
    assert verdict.source == "counter"
    assert verdict.energy_j == pytest.approx(500.0, abs=0.1)


def test_an_average_alone_gives_its_reason():
    power = trace(TIMES_S, (channel(reading=Reading.AVERAGE), steps(20.0, 50.0)))
    (verdict,) = energy.phase_energies([power], [DECODE])
    assert verdict.energy_j is None
    assert verdict.reason is not None
    assert verdict.reason.startswith("averaged_source")


def test_repetitions_with_pauses_between_them_are_refused():
    """Half of the window is something else than the phase."""
    paused = changed(DECODE, durations_ns=(SECOND_NS,) * 5)
    power = trace(TIMES_S, (channel(), steps(20.0, 50.0)))
    (verdict,) = energy.phase_energies([power], [paused])
    assert verdict.energy_j is None
    assert verdict.reason is not None
    assert verdict.reason.startswith("not_contiguous")
    assert verdict.peak_power_w is None


def test_a_phase_that_only_warmed_up_is_refused():
    warm: PhaseRun = changed(DECODE, warmup=5)
    (verdict,) = energy.phase_energies([trace(TIMES_S, (channel(), steps(20.0, 50.0)))], [warm])
    assert verdict.energy_j is None
    assert verdict.reason is not None
    assert verdict.reason.startswith("no_window")
    assert (verdict.window_s, verdict.repetitions, verdict.distinct_updates) == (0.0, 0, 0)


def test_a_refused_idle_baseline_is_named():
    power = trace(TIMES_S, (channel(), lambda at_s: 20.0 if at_s < 8 else dithered(50.0)(at_s)))
    found = {each.phase: each for each in energy.phase_energies([power], [IDLE, DECODE])}
    assert found[Phase.DECODE].energy_j is not None
    assert found[Phase.DECODE].idle_adjusted_j is None
    assert found[Phase.DECODE].idle_reason is not None
    assert found[Phase.DECODE].idle_reason.startswith("idle baseline: too_few_updates")


def test_a_trace_in_parts_is_one_stretch_of_time():
    """Parts that arrive out of order are put in order; a window may reach over their seam."""
    parts = [trace(TIMES_S[200:], (channel(), ramp)), trace(TIMES_S[:200], (channel(), ramp))]
    later = changed(DECODE, starts_ns=tuple((15 + 2 * index) * SECOND_NS for index in range(5)))
    (verdict,) = energy.phase_energies(parts, [later])
    assert verdict.energy_j == pytest.approx(ramp_j(15, 25), rel=1e-6)


def test_missing_samples_are_left_out_not_read_as_zero():
    power = trace(TIMES_S, (channel(), lambda at_s: None if round(at_s * 10) % 7 == 0 else ramp(at_s)))
    (verdict,) = energy.phase_energies([power], [DECODE])
    assert verdict.energy_j == pytest.approx(ramp_j(10, 20), rel=1e-6)


def test_without_traces_there_are_no_verdicts():
    assert energy.phase_energies([], [DECODE]) == ()
