"""Watts to joules: waveforms whose joules are known, and what a sensor must show for a figure."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasewatt.beats import Beat
from phasewatt.estimate import Estimate
from phasewatt.power_integral import MAX_GAP_SHARE, MIN_UPDATES
from phasewatt.updates import Sample
from phasewatt.window_energy import energy_j
from tests.fixtures.records import SECOND_NS, changed, channel, span
from tests.fixtures.waveforms import Waveform, dithered, every, held, ramp, ramp_j, sampled, sensor_card

RAIL = channel(card=sensor_card())
FAST_S = every(0.01, 15)


def test_steady_load():
    estimate = energy_j(sampled(held(dithered(100.0)), FAST_S), span(2, 8), RAIL)
    assert estimate.energy_j == pytest.approx(600.0, abs=1e-2)
    assert estimate.reason is None
    assert estimate.peak_power_w == pytest.approx(100.001)
    assert estimate.distinct_updates == 60
    assert estimate.longest_gap_s == pytest.approx(0.1)
    assert estimate.temporal_uncertainty_j == pytest.approx(0.0, abs=0.01)


@settings(deadline=None)
@given(st.floats(0.5, 4.0), st.floats(1.2, 5.0))
def test_a_straight_line_is_continued_to_both_edges(start_s, length_s):
    """Wherever the window begins and ends between two updates."""
    end_s = start_s + length_s
    estimate = energy_j(sampled(held(ramp), every(0.01, 10)), span(start_s, end_s), RAIL)
    assert estimate.energy_j == pytest.approx(ramp_j(start_s, end_s), rel=2e-3)


@pytest.mark.parametrize("outside_w", [0.0, 1000.0])
@pytest.mark.parametrize("start_s", [2.01, 2.03, 2.05, 2.09])
def test_what_lies_beyond_an_edge_is_other_work_and_has_no_part(outside_w, start_s):
    """To interpolate across the edge would mix it in."""
    end_s = start_s + 6

    def work(at_s: float) -> float:
        return dithered(100.0)(at_s) if start_s <= at_s < end_s else outside_w

    estimate = energy_j(sampled(held(work), FAST_S), span(start_s, end_s), RAIL)
    assert estimate.energy_j == pytest.approx(600.0, abs=0.1)


@pytest.mark.parametrize("lag_s", [0.0, 0.07, 0.35])
@pytest.mark.parametrize("averaging_s", [0.0, 0.025, 0.4])
def test_lag_and_averaging_of_the_card_are_taken_back(lag_s, averaging_s):
    """A sensor that is late shows the work's ramp late, and its end after the end."""

    def late(at_s: float) -> float:
        return ramp(at_s - averaging_s / 2)

    card = sensor_card(lag_s=lag_s, averaging_s=averaging_s)
    estimate = energy_j(sampled(held(late, lag_s=lag_s), FAST_S), span(2, 8), channel(card=card))
    assert estimate.energy_j == pytest.approx(ramp_j(2, 8), rel=1e-3)


def test_without_a_card_the_first_period_is_left_out():
    """The lag is not known, so what is shown there may be of the work before."""

    def lagging(at_s: float) -> float:
        return dithered(100.0)(at_s) if at_s >= 2.07 else 1000.0

    estimate = energy_j(sampled(held(lagging), FAST_S), span(2, 8), channel())
    assert estimate.energy_j == pytest.approx(600.0, abs=0.1)


def test_uneven_sampling_weighs_by_time():
    source = random.Random(1)
    times_s = sorted(source.uniform(0, 12) for _ in range(600))
    estimate = energy_j(sampled(held(ramp), times_s), span(2, 10), RAIL)
    assert estimate.energy_j == pytest.approx(ramp_j(2, 10), rel=3e-3)


def square(at_s: float) -> float:
    """100 W and 300 W by turns of 0.55 s."""
    return (300.0 if at_s % 1.1 < 0.55 else 100.0) + 1e-3 * math.sin(40 * at_s)


def test_square_wave_is_off_by_less_than_its_stated_half_width():
    estimate = energy_j(
        sampled(held(square, 0.03), FAST_S), span(1, 12), channel(card=sensor_card(update_period_s=0.03))
    )
    assert estimate.energy_j is not None and estimate.temporal_uncertainty_j is not None
    assert abs(estimate.energy_j - 2200.0) < estimate.temporal_uncertainty_j < 300.0
    assert estimate.peak_power_w == pytest.approx(300.0, abs=0.01)


def test_negative_power_is_kept():
    """An idle rail that reads below zero by quantisation takes from the total; cutting it off would add energy."""
    estimate = energy_j(sampled(held(dithered(-0.4)), FAST_S), span(2, 8), RAIL)
    assert estimate.energy_j == pytest.approx(-2.4, abs=1e-2)


def test_one_update_too_few_is_refused_and_one_more_is_taken():
    slow = channel(card=sensor_card(update_period_s=1.0))
    samples = sampled(held(ramp, 1.0), every(0.01, 30))
    assert refusal(energy_j(samples, span(1.5, 1.5 + MIN_UPDATES - 1), slow)) == "too_few_updates"
    assert energy_j(samples, span(1.5, 1.5 + MIN_UPDATES), slow).energy_j is not None


@pytest.mark.parametrize("rail", [channel(), RAIL], ids=["without a card", "with one"])
def test_a_sensor_that_never_changes_is_refused(rail):
    """It may be stuck; what it shows is one reading, however often it was looked at."""
    assert refusal(energy_j(sampled(lambda _: 42.0, every(0.01, 25)), span(12, 22), rail)) == "too_few_updates"


def test_a_silence_inside_the_window_is_refused():
    window = span(1, 9)
    limit_s = MAX_GAP_SHARE * window.duration_s
    for silent_s, refused in ((limit_s + 0.1, True), (limit_s - 0.2, False)):
        times_s = [at for at in FAST_S if not 4.0 < at < 4.0 + silent_s]
        estimate = energy_j(sampled(held(ramp), times_s), window, RAIL)
        assert (estimate.energy_j is None) == refused
        assert estimate.longest_gap_s == pytest.approx(silent_s, abs=0.11)
    assert refusal(energy_j(sampled(held(ramp), [*every(0.01, 4), *every(0.01, 15, 7)]), window, RAIL)) == "gap"


def test_a_clock_that_jumps_forward_is_a_silence():
    jumped = [Sample(s.time_ns + (3 * SECOND_NS if s.time_ns > 4 * SECOND_NS else 0), s.value) for s in waving()]
    assert refusal(energy_j(jumped, span(1, 9), RAIL)) == "gap"


def test_a_sensor_that_freezes_in_the_window_is_refused():
    """The samples go on and bracket the window, but nothing new is in them."""
    frozen = sampled(held(lambda at_s: ramp(min(at_s, 4.0))), FAST_S)
    assert refusal(energy_j(frozen, span(1, 9), channel())) == "gap"
    assert refusal(energy_j(frozen, span(1, 9), RAIL)) == "gap"


def test_a_silence_outside_the_window_is_no_matter():
    times_s = [at for at in FAST_S if not 10.0 < at < 14.0]
    estimate = energy_j(sampled(held(ramp), times_s), span(1, 9), RAIL)
    assert estimate.energy_j == pytest.approx(ramp_j(1, 9), rel=1e-3)


def test_missing_samples_are_left_out_not_read_as_zero():
    samples = [sample for index, sample in enumerate(sampled(held(ramp), FAST_S)) if index % 7]
    assert energy_j(samples, span(1, 9), RAIL).energy_j == pytest.approx(ramp_j(1, 9), rel=1e-3)


@settings(deadline=None)
@given(st.floats(3, 8), st.lists(st.floats(1.0, 500.0), min_size=131, max_size=131, unique=True))
def test_two_halves_agree_with_the_whole(cut_s, levels_w):
    """To what the cut leaves open: the parts take it from their own side."""
    samples = sampled(held(lambda at_s: levels_w[int(at_s * 10 + 1e-6)]), every(0.01, 12.5))
    estimates = [energy_j(samples, span(*edges), RAIL) for edges in [(0.5, cut_s), (cut_s, 11.5), (0.5, 11.5)]]
    one_j, other_j, whole_j = (estimate.energy_j for estimate in estimates)
    assert one_j is not None and other_j is not None and whole_j is not None
    assert one_j + other_j == pytest.approx(whole_j, abs=500.0 * 0.3)


# The rhythm of the work.


def repeating(length_s: float, until_s: float = 14.0) -> Beat:
    """Repetitions of one length, back to back from second 0."""
    length_ns = round(length_s * SECOND_NS)
    count = int(until_s / length_s)
    return Beat([index * length_ns for index in range(count)], [length_ns] * count)


def pulsing(length_s: float) -> Waveform:
    """100 W, and 200 W in the first half of each repetition."""
    return lambda at_s: (200.0 if at_s % length_s < length_s / 2 else 100.0) + 1e-3 * math.sin(77 * at_s)


def test_a_sensor_locked_to_the_work_is_refused():
    """It updates once a repetition, always at the same moment of it: what it says of that moment alone is no energy."""
    samples = sampled(held(pulsing(0.1)), FAST_S)
    estimate = energy_j(samples, span(1, 9), RAIL, [repeating(0.1)])
    assert refusal(estimate) == "aliased"
    assert energy_j(samples, span(1, 9), RAIL).energy_j is not None, "only the rhythm tells"


def test_a_sensor_that_sees_all_of_a_repetition_is_taken():
    estimate = energy_j(sampled(held(pulsing(0.37)), FAST_S), span(1, 1 + 0.37 * 20), RAIL, [repeating(0.37)])
    assert estimate.energy_j is not None and estimate.temporal_uncertainty_j is not None
    assert abs(estimate.energy_j - 150 * 0.37 * 20) <= estimate.temporal_uncertainty_j


# What rounding adds.


def test_equal_values_in_a_row_share_one_rounding_error():
    """A constant 12.3 W in steps of 0.4 W is shown as 12.4: no spread, and off by up to half a step."""
    coarse = channel(card=sensor_card(resolution=0.4))
    estimate = energy_j(sampled(held(lambda _: 12.4), FAST_S), span(2, 8), coarse)
    assert estimate.energy_j is not None and estimate.temporal_uncertainty_j is not None
    assert abs(estimate.energy_j - 6 * 12.3) <= estimate.temporal_uncertainty_j
    assert estimate.temporal_uncertainty_j == pytest.approx(0.95 * 0.2 * 6, rel=0.02)


def test_values_that_differ_show_their_rounding_by_themselves():
    source = random.Random(3)
    levels_w = [round(source.gauss(30, 2) / 0.4) * 0.4 for _ in range(200)]
    samples = sampled(held(lambda at_s: levels_w[int(at_s * 10 + 1e-6)]), FAST_S)
    fine, coarse = (energy_j(samples, span(2, 8), changed(RAIL, card=sensor_card(resolution=r))) for r in (None, 0.1))
    assert fine.temporal_uncertainty_j is not None
    assert coarse.temporal_uncertainty_j == pytest.approx(fine.temporal_uncertainty_j, rel=0.1)


def refusal(estimate: Estimate) -> str:
    """The reason that no energy is given for, without its figures."""
    assert estimate.energy_j is None
    assert estimate.reason is not None
    return estimate.reason.partition(":")[0]


def waving() -> list[Sample]:
    """Twelve seconds of a load that varies a little."""
    return sampled(held(lambda at_s: 100 + 5 * math.sin(3 * at_s)), every(0.01, 12))
