"""A counter read at both ends of a window: under the patterns in which a sampler really reads it."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasewatt.estimate import Estimate
from phasewatt.fields import Reading
from phasewatt.joule_counter import powers
from phasewatt.records import Span
from phasewatt.updates import Sample, timing
from phasewatt.window_energy import energy_j
from tests.fixtures.records import SECOND_NS, channel, span
from tests.fixtures.waveforms import Waveform, counted, every, held, sampled, sensor_card

COUNTER = channel(reading=Reading.COUNTER, unit="J", card=sensor_card())
START_S, END_S = 5.0, 11.0
IDLE_W, BUSY_W, COOLING_W = 120.0, 500.0, 150.0
BUSY_J = BUSY_W * (END_S - START_S)


def working(at_s: float) -> float:
    """Joules of a load that is idle, busy from second 5 to 11, and cools down."""
    busy_s = min(max(at_s - START_S, 0.0), END_S - START_S)
    return IDLE_W * min(at_s, START_S) + BUSY_W * busy_s + COOLING_W * max(at_s - END_S, 0.0)


def bursts(seldom_s: float, seed: int = 0) -> list[float]:
    """When a sampler reads: every 10 ms for 0.35 s from just before the start and from just after the end."""
    source, at_s, found = random.Random(seed), 1.0, []
    stretches = [(edge_s, edge_s + 0.35) for edge_s in (START_S - 0.02, END_S + 0.01)]
    while at_s < END_S + 3:
        found.append(at_s)
        close = any(start_s <= at_s < end_s for start_s, end_s in stretches)
        next_s = at_s + (0.01 if close else seldom_s) + source.uniform(0, 0.001)
        at_s = min([next_s, *(start_s for start_s, _ in stretches if at_s < start_s)])
    return found


def shown(joules: Waveform, period_s: float, offset_s: float = 0.0, lag_s: float = 0.0) -> Waveform:
    """A counter that steps every `period_s`, from `offset_s` on, and shows each step `lag_s` late."""
    stepping = held(lambda at_s: joules(at_s + offset_s), period_s, lag_s)
    return lambda at_s: stepping(at_s - offset_s)


def code(estimate: Estimate) -> str:
    """The reason that no energy is given for, without its figures."""
    assert estimate.energy_j is None
    assert estimate.reason is not None
    return estimate.reason.partition(":")[0]


def holds(estimate: Estimate, truth_j: float) -> bool:
    """Whether the truth lies in the stated interval."""
    assert estimate.energy_j is not None and estimate.temporal_uncertainty_j is not None, estimate.reason
    return abs(estimate.energy_j - truth_j) <= estimate.temporal_uncertainty_j


@settings(deadline=None)
@given(st.floats(0.5, 4.0), st.floats(0.6, 5.0), st.floats(1.0, 500.0))
def test_steady_load_is_exact_but_for_the_readings_pace(start_s, length_s, power_w):
    """Read every millisecond, each edge is known to half a millisecond."""
    samples = sampled(held(counted(power_w)), every(0.001, 10))
    estimate = energy_j(samples, span(start_s, start_s + length_s), COUNTER)
    assert estimate.energy_j == pytest.approx(power_w * length_s, abs=power_w * 0.002)
    assert estimate.peak_power_w == pytest.approx(power_w, rel=0.02)
    assert estimate.longest_gap_s is None, "a counter misses nothing between its readings"


@pytest.mark.parametrize("seldom_s", [0.05, 0.1, 1.0, 4.0])
@pytest.mark.parametrize("lag_s", [0.0, 0.013, 0.07])
def test_bursts_at_the_edges_are_enough(seldom_s, lag_s):
    """Wherever the counter's steps lie, and however seldom it is read between the bursts."""
    held_in = 0
    for tenth in range(20):
        asked = channel(reading=Reading.COUNTER, unit="J", card=sensor_card(lag_s=lag_s))
        samples = sampled(shown(working, 0.1, tenth * 0.005, lag_s), bursts(seldom_s, tenth))
        estimate = energy_j(samples, span(START_S, END_S), asked)
        held_in += holds(estimate, BUSY_J)
        assert estimate.energy_j == pytest.approx(BUSY_J, rel=0.005)
        assert estimate.temporal_uncertainty_j is not None
        assert estimate.temporal_uncertainty_j < 0.005 * BUSY_J
    assert held_in >= 18


def test_steps_between_readings_count_as_updates():
    """The counter made sixty of them, though a sampler that asks every four seconds saw few."""
    estimate = energy_j(sampled(shown(working, 0.1, 0.03), bursts(4.0)), span(START_S, END_S), COUNTER)
    assert estimate.distinct_updates == pytest.approx(60, abs=1)


@pytest.mark.parametrize(("window_s", "seldom_s"), [(0.5, 0.01), (3.0, 0.05), (10.0, 0.05), (10.0, 0.1)])
def test_a_counter_faster_than_its_reader_is_taken(window_s, seldom_s):
    """RAPL steps every millisecond and is read every fifty: the edge is always many steps from a reading."""
    fast = channel(reading=Reading.COUNTER, unit="J", card=sensor_card(update_period_s=0.001, averaging_s=0.001))

    def package_j(at_s: float) -> float:
        return 30.0 * at_s + 60.0 * min(max(at_s - START_S, 0.0), window_s)

    for offset in range(10):
        times_s = every(seldom_s, START_S + window_s + 2, 3 + offset * seldom_s / 10)
        estimate = energy_j(sampled(held(package_j, 0.001), times_s), span(START_S, START_S + window_s), fast)
        assert holds(estimate, 90.0 * window_s)
        assert estimate.energy_j == pytest.approx(90.0 * window_s, rel=0.01)
        assert estimate.distinct_updates > 30


@pytest.mark.parametrize(
    ("period_s", "silent_s", "refused"),
    [(0.1, 0.3, True), (0.1, 0.12, False), (0.001, 0.125, True), (0.001, 0.11, False)],
    ids=str,
)
@pytest.mark.parametrize("edge_s", [START_S, END_S])
def test_an_edge_far_from_every_reading_is_refused(edge_s, period_s, silent_s, refused):
    """By more than a period and a half, or 2 % of the window where the counter is fast."""
    asked = channel(reading=Reading.COUNTER, unit="J", card=sensor_card(update_period_s=period_s))
    times_s = [at for at in every(0.01, 14) if abs(at - edge_s) >= silent_s]
    estimate = energy_j(sampled(held(working, period_s), times_s), span(START_S, END_S), asked)
    assert (estimate.reason or "").startswith("gap") == refused
    assert (estimate.energy_j is None) == refused


def test_an_edge_is_reached_from_the_side_of_the_nearest_step():
    """At the power of that side: idling before the window is not work."""
    for offset_s in (0.01, 0.09):  # a step just after the start, or just before it
        samples = sampled(shown(working, 0.1, offset_s), every(0.002, 14))
        estimate = energy_j(samples, span(START_S, END_S), COUNTER)
        assert estimate.energy_j == pytest.approx(BUSY_J, abs=BUSY_W * 0.002)


def test_unsure_times_of_steps_widen_the_figure():
    widths_j = []
    for jitter_s in (0.0, 0.005, 0.02):
        asked = channel(reading=Reading.COUNTER, unit="J", card=sensor_card(update_jitter_s=jitter_s))
        samples = sampled(held(counted(100.0)), every(0.001, 10))
        widths_j.append(energy_j(samples, span(2, 8), asked).temporal_uncertainty_j)
    assert widths_j[1] == pytest.approx(1.96 * 100 * 0.005 * math.sqrt(2), rel=0.05)
    assert widths_j[2] == pytest.approx(4 * widths_j[1], rel=0.05)
    assert widths_j[0] < widths_j[1] / 10


def test_power_beyond_an_edge_is_less_known_than_within():
    """Of steady power the window tells so itself; of the one period beyond, nothing does: 30 % of its power."""
    samples = sampled(held(counted(100.0)), every(0.001, 10))
    within = energy_j(samples, span(2.07, 8.03), COUNTER)
    beyond = energy_j(samples, span(2.03, 8.03), COUNTER)
    assert within.temporal_uncertainty_j == pytest.approx(0.0, abs=0.1)
    assert beyond.temporal_uncertainty_j == pytest.approx(1.96 * 0.3 * 100 * 0.03, rel=0.05)


def test_power_that_varies_from_step_to_step_widens_the_figure():
    def swinging(at_s: float) -> float:
        return 100.0 * at_s + 5.0 * math.sin(9 * at_s)

    window = span(2.07, 8.03)  # the steps next to its edges lie within
    steady = energy_j(sampled(held(counted(100.0)), every(0.001, 10)), window, COUNTER)
    estimate = energy_j(sampled(held(swinging), every(0.001, 10)), window, COUNTER)
    assert estimate.temporal_uncertainty_j is not None and steady.temporal_uncertainty_j is not None
    assert estimate.temporal_uncertainty_j > 10 * steady.temporal_uncertainty_j
    assert holds(estimate, swinging(8.03) - swinging(2.07))


def test_a_ramp_is_followed_at_the_edges():
    def warming(at_s: float) -> float:
        return 100.0 * at_s + 10.0 * at_s**2

    estimate = energy_j(sampled(held(warming), every(0.001, 12)), span(2.05, 8.05), COUNTER)
    assert estimate.energy_j == pytest.approx(warming(8.05) - warming(2.05), rel=1e-3)


@pytest.mark.parametrize("reset_s", [3.9, 7.0, 10.1])
def test_a_counter_that_runs_backwards_is_refused(reset_s):
    """A driver was reloaded, or the counter ran over: nothing that it tells can be believed."""
    samples = sampled(lambda at_s: counted(50.0)(at_s) - (5000.0 if at_s > reset_s else 0.0), every(0.01, 12))
    assert code(energy_j(samples, span(4, 10), COUNTER)) == "counter_backwards"


@pytest.mark.parametrize("reset_s", [2.0, 11.5])
def test_a_reset_long_before_or_after_the_window_is_no_matter(reset_s):
    """What the counter gained in between is what it is."""
    samples = sampled(lambda at_s: counted(50.0)(at_s) - (5000.0 if at_s > reset_s else 0.0), every(0.01, 12))
    assert holds(energy_j(samples, span(4, 10), COUNTER), 300.0)


def test_a_counter_that_stands_still_is_refused():
    """0 J would be a figure."""
    assert code(energy_j(sampled(lambda _: 5000.0, every(0.01, 12)), span(4, 10), COUNTER)) == "too_few_updates"


def test_a_counter_that_freezes_in_the_window_is_refused():
    frozen = sampled(held(lambda at_s: working(min(at_s, 8.0))), every(0.01, 14))
    assert code(energy_j(frozen, span(START_S, END_S), COUNTER)) == "gap"


def test_three_steps_are_too_few_and_four_are_taken():
    slow = channel(reading=Reading.COUNTER, unit="J", card=sensor_card(update_period_s=1.0))
    samples = sampled(held(counted(50.0), 1.0), every(0.01, 20))
    assert code(energy_j(samples, span(4.9, 7.4), slow)) == "too_few_updates"
    estimate = energy_j(samples, span(4.9, 7.6), slow)
    assert (estimate.distinct_updates, estimate.energy_j) == (4, pytest.approx(50.0 * 2.7, rel=0.01))


def test_a_clock_that_jumps_forward_leaves_no_figure_that_is_wrong():
    """The jump hides power in the window: the mean falls, and no step is near the edge that it swallowed."""
    samples = sampled(held(counted(50.0)), every(0.01, 12))
    jumped = [Sample(s.time_ns + (3 * SECOND_NS if s.time_ns > 6 * SECOND_NS else 0), s.value) for s in samples]
    assert code(energy_j(jumped, span(4, 8), COUNTER)) == "gap"


def test_without_a_card_the_period_is_that_of_the_steps():
    estimate = energy_j(
        sampled(shown(working, 0.1, 0.03), every(0.005, 14)), span(START_S, END_S), channel(reading=Reading.COUNTER)
    )
    assert estimate.energy_j == pytest.approx(BUSY_J, rel=0.005)
    assert estimate.distinct_updates == pytest.approx(60, abs=1)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(0, 12 * SECOND_NS), st.floats(0, 1e3), min_size=10, max_size=60),
    st.sampled_from([0.0005, 0.01, 0.1, 1.0]),
)
def test_a_counter_that_runs_at_no_even_pace_makes_no_crash(points, period_s):
    """Steps closer than the card's period, and much further apart."""
    total_j, samples = 0.0, []
    for at in sorted(points):
        total_j += points[at]
        samples.append(Sample(at, total_j))
    asked = channel(reading=Reading.COUNTER, unit="J", card=sensor_card(update_period_s=period_s))
    window = Span(phase=span(0, 1).phase, start_ns=samples[1].time_ns, end_ns=samples[-2].time_ns, tokens=1)
    estimate = energy_j(samples, window, asked)
    assert (estimate.energy_j is None) == (estimate.reason is not None)


def test_power_between_steps_is_the_loads_however_unevenly_it_was_read():
    """Read closely at the edges and seldom between, steady power is the same over each stretch, without spikes."""
    samples = sampled(shown(lambda at_s: 300.0 * at_s, 0.1), bursts(seldom_s=1.7))
    found = powers(samples, timing(samples, COUNTER))
    assert len(found) > 5
    assert [mean.power_w for mean in found] == pytest.approx([300.0] * len(found), rel=1e-6)
    assert all(before.end_ns == after.start_ns for before, after in itertools.pairwise(found))


def test_a_counter_that_was_reset_tells_no_power_over_the_reset():
    """The stretch in which it fell is left out; those before and after stand."""
    resets = shown(lambda at_s: 300.0 * at_s - (900.0 if at_s > 6.0 else 0.0), 0.1)
    found = powers(sampled(resets, every(0.02, 12.0)), timing([], COUNTER))
    assert found
    assert min(mean.power_w for mean in found) > 0
