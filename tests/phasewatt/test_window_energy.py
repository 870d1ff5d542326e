"""Energy of one window: which way is taken, what refuses it, and what holds of any samples whatever."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasewatt.beats import Beat
from phasewatt.estimate import Estimate
from phasewatt.fields import Phase, Reading, Scope
from phasewatt.records import Span
from phasewatt.traces import Channel, SensorCard
from phasewatt.updates import Sample
from phasewatt.window_energy import MIN_AVERAGES, added, energy_j, preferred, total_j
from tests.fixtures.records import SECOND_NS, changed, channel, span
from tests.fixtures.waveforms import counted, dithered, every, held, ramp, sampled, sensor_card

FAST_S = every(0.01, 12)
COUNTER = channel(reading=Reading.COUNTER, unit="J", card=sensor_card())
POWER = channel(card=sensor_card())


def code(estimate: Estimate) -> str:
    """The reason that no energy is given for, without its figures."""
    assert estimate.energy_j is None
    assert estimate.peak_power_w is None
    assert estimate.temporal_uncertainty_j is None
    assert estimate.reason is not None
    return estimate.reason.partition(":")[0]


def figure(energy_j: float, half_width_j: float) -> Estimate:
    """An estimate that stands."""
    return Estimate(energy_j, None, 2 * energy_j, 40, 0.1, half_width_j)


REFUSED = Estimate(None, "gap: of two seconds", None, 3, 2.0, None)


def test_a_scope_that_is_not_known_never_becomes_joules():
    unknown = changed(POWER, scope=Scope.UNKNOWN)
    assert code(energy_j(sampled(held(ramp), FAST_S), span(2, 8), unknown)) == "scope_unknown"


def test_averages_of_an_unknown_length_never_become_joules():
    """They speak of another stretch than the one asked for, and nobody knows which."""
    samples = sampled(dithered(100.0), FAST_S)
    for card in (None, sensor_card(averaging_s=None), sensor_card(averaging_s=1.0, lag_s=None)):
        assert code(energy_j(samples, span(2, 8), channel(reading=Reading.AVERAGE, card=card))) == "averaged_source"


@pytest.mark.parametrize("reading", [Reading.AVERAGE, Reading.INSTANT])
def test_averages_of_a_known_length_become_joules_where_the_window_holds_enough_of_them(reading):
    """Whatever the source calls them: its card says over what stretch it averages."""
    averaging_s = 1.0
    one_second_mean = channel(reading=reading, card=sensor_card(averaging_s=averaging_s))
    samples = sampled(held(lambda at_s: ramp(at_s - averaging_s / 2)), FAST_S)
    least_s = MIN_AVERAGES * averaging_s
    assert code(energy_j(samples, span(2, 2 + least_s - 0.01), one_second_mean)) == "averaged_source"
    estimate = energy_j(samples, span(2, 2 + least_s), one_second_mean)
    assert estimate.energy_j == pytest.approx(10 * 4 + 1.5 * (36 - 4), rel=2e-3)


@pytest.mark.parametrize(("start_s", "end_s"), [(-0.0, 12.05), (0.0, 12.2), (11.0, 13.0), (20.0, 25.0)])
@pytest.mark.parametrize("asked", [POWER, COUNTER], ids=["power", "counter"])
def test_a_window_that_outlasts_the_samples_is_refused(asked, start_s, end_s):
    assert code(energy_j(sampled(counted(50.0), FAST_S), span(start_s, end_s), asked)) == "not_bracketed"


@pytest.mark.parametrize("asked", [POWER, COUNTER], ids=["power", "counter"])
def test_a_window_before_the_first_sample_is_refused(asked):
    assert code(energy_j(sampled(counted(50.0), every(0.01, 12, 1.0)), span(0.9, 8), asked)) == "not_bracketed"


@pytest.mark.parametrize("asked", [POWER, COUNTER], ids=["power", "counter"])
def test_what_a_late_sensor_has_not_told_yet_is_not_bracketed(asked):
    """Its last word is of 0.3 s ago."""
    late = changed(asked, card=sensor_card(lag_s=0.3))
    samples = sampled(counted(50.0), every(0.01, 8.2))
    assert code(energy_j(samples, span(2, 8), late)) == "not_bracketed"
    assert energy_j(samples, span(2, 7.9), late).energy_j is not None


@pytest.mark.parametrize("reading", list(Reading))
@pytest.mark.parametrize("samples", [[], [Sample(5 * SECOND_NS, 100.0)]], ids=["none", "one"])
def test_hardly_any_samples_are_refused(reading, samples):
    asked = channel(reading=reading, card=sensor_card(averaging_s=0.1))
    estimate = energy_j(samples, span(4, 6), asked)
    assert code(estimate) == "not_bracketed"
    assert estimate.longest_gap_s is None


@pytest.mark.parametrize("end_s", [5.0, 4.0], ids=["empty", "backwards"])
@pytest.mark.parametrize("asked", [POWER, COUNTER], ids=["power", "counter"])
def test_a_window_of_no_length_is_refused(asked, end_s):
    assert code(energy_j(sampled(counted(50.0), FAST_S), span(5.0, end_s), asked)) == "no_window"


def test_no_sample_in_the_window_is_refused():
    """Samples before it and after it bracket it, and say nothing of it."""
    around = sampled(counted(50.0), [*every(0.01, 2), *every(0.01, 12, 10)])
    assert code(energy_j(around, span(3, 9), POWER)) == "too_few_updates"
    assert code(energy_j(around, span(3, 9), COUNTER)) == "too_few_updates"


# Several channels of one scope.


def test_rails_of_one_board_are_integrated_as_one():
    """Their errors come from one and the same work, so they do not add as independent ones do."""
    rail, n = sampled(held(lambda at_s: 20 + 5 * (at_s % 0.7)), FAST_S), 4
    alone = energy_j(rail, span(2, 8), POWER)
    together = total_j([rail] * n, span(2, 8), [POWER] * n)
    assert alone.energy_j is not None and alone.temporal_uncertainty_j is not None
    assert together.energy_j == pytest.approx(n * alone.energy_j)
    assert together.temporal_uncertainty_j == pytest.approx(n * alone.temporal_uncertainty_j)


def test_boards_of_their_own_add_as_independent_ones():
    gpu = changed(POWER, scope=Scope.GPU_BOARD)
    samples = sampled(held(lambda at_s: 20 + 5 * (at_s % 0.7)), FAST_S)
    alone = energy_j(samples, span(2, 8), gpu)
    together = total_j([samples] * 4, span(2, 8), [gpu] * 4)
    assert alone.energy_j is not None and alone.temporal_uncertainty_j is not None
    assert together.energy_j == pytest.approx(4 * alone.energy_j)
    assert together.temporal_uncertainty_j == pytest.approx(2 * alone.temporal_uncertainty_j)


def test_a_total_names_the_rail_that_gave_nothing():
    """Not "not bracketed", which would send its reader to look at the sampler."""
    rails = [changed(POWER, name=name) for name in ("VDD_GPU_SOC", "VDD_CPU_CV")]
    there = sampled(dithered(10.0), FAST_S)
    before = [sample for sample in there if sample.time_ns < 2 * SECOND_NS]
    estimate = total_j([there, before], span(3, 9), rails)
    assert estimate.reason == "rail_missing: no reading of VDD_CPU_CV in the window, and so no total"
    assert code(total_j([before, before], span(3, 9), rails)) == "not_bracketed"


def test_rails_that_are_not_all_calibrated_are_none_of_them():
    """The first rail's lag says nothing of the second's."""
    samples = sampled(held(ramp, lag_s=0.5), FAST_S)
    lagging = changed(POWER, card=sensor_card(lag_s=0.5))
    moved = total_j([samples] * 2, span(2, 8), [lagging] * 2).energy_j
    orders = ([lagging, channel()], [channel(), lagging])
    one, other = (total_j([samples] * 2, span(2, 8), order).energy_j for order in orders)
    assert moved is not None and one is not None and one == other
    assert moved - one == pytest.approx(2 * 6 * 3 * 0.5, rel=0.05)


def test_rounding_of_rails_adds_as_independent():
    coarse = changed(POWER, card=sensor_card(resolution=0.4))
    steady = sampled(lambda at_s: 12.0, FAST_S)
    one = total_j([steady], span(2, 8), [coarse]).temporal_uncertainty_j
    four = total_j([steady] * 4, span(2, 8), [coarse] * 4).temporal_uncertainty_j
    assert one is not None and one > 0
    assert four == pytest.approx(2 * one)


def test_a_rail_that_stands_still_is_unsure_though_another_moves_the_sum():
    """Its error of up to half a step is the same all the time, and nothing in the sum shows it."""
    coarse, fine = (changed(POWER, card=sensor_card(resolution=step_w)) for step_w in (0.4, 0.01))
    still, moving = sampled(lambda at_s: 12.0, FAST_S), sampled(held(dithered(8.0)), FAST_S)
    alone = energy_j(still, span(2, 8), coarse).temporal_uncertainty_j
    both = total_j([still, moving], span(2, 8), [coarse, fine]).temporal_uncertainty_j
    assert alone is not None and both is not None
    assert alone == pytest.approx(0.475 * 0.4 * 6, rel=0.02)
    assert both >= alone


def test_a_voltage_that_flickers_does_not_hide_a_current_that_stands_still():
    """Power moves by a thousandth, and the current's rounding error is the same all the time."""
    coarse = changed(POWER, card=sensor_card(resolution=0.4))
    flickers = sampled(held(lambda at_s: 12.0 + 0.005 * (round(at_s * 10) % 3)), FAST_S)
    estimate = energy_j(flickers, span(2, 8), coarse)
    assert estimate.temporal_uncertainty_j == pytest.approx(0.475 * 0.4 * 6, rel=0.02)


def test_a_rail_that_returns_to_a_level_has_its_error_again():
    """Pulses between two levels far apart: each level has one error, however often power comes back to it."""
    coarse, quiet = (changed(POWER, card=sensor_card(resolution=step_w)) for step_w in (0.4, None))
    pulsed = sampled(held(lambda at_s: 12.0 if round(at_s * 10) % 4 else 8.0), FAST_S)
    nothing = sampled(lambda at_s: 0.0, FAST_S)
    wide, narrow = (
        total_j([pulsed, nothing], span(2, 8), [card, quiet]).temporal_uncertainty_j for card in (coarse, quiet)
    )
    assert wide is not None and narrow is not None
    assert (wide**2 - narrow**2) ** 0.5 == pytest.approx(0.475 * 0.4 * 6 * (0.75**2 + 0.25**2) ** 0.5, rel=0.05)


def test_one_rail_without_a_figure_leaves_the_sum_without_one():
    estimate = added([figure(100.0, 1.0), REFUSED, figure(50.0, 1.0)])
    assert code(estimate) == "gap"
    assert (estimate.distinct_updates, estimate.longest_gap_s) == (3, 2.0)


# Several readings of one scope.


def test_a_counter_is_preferred_then_watts_then_averages():
    three = [(Reading.AVERAGE, figure(100.0, 0.1)), (Reading.INSTANT, figure(101.0, 1.0))]
    assert preferred([*three, (Reading.COUNTER, figure(102.0, 1.5))])[0] is Reading.COUNTER
    assert preferred(three)[0] is Reading.INSTANT


def test_a_wide_figure_gives_way_to_one_not_half_as_wide():
    wide = (Reading.COUNTER, figure(100.0, 5.0))
    assert preferred([wide, (Reading.INSTANT, figure(100.0, 2.4))])[0] is Reading.INSTANT
    assert preferred([wide, (Reading.INSTANT, figure(100.0, 2.6))])[0] is Reading.COUNTER


def test_a_figure_is_preferred_to_a_reason():
    assert preferred([(Reading.COUNTER, REFUSED), (Reading.AVERAGE, figure(100.0, 1.0))])[0] is Reading.AVERAGE
    assert preferred([(Reading.INSTANT, REFUSED), (Reading.COUNTER, REFUSED)]) == (Reading.COUNTER, REFUSED)


# Whatever the samples are.

TIMES_NS = st.integers(0, 12 * SECOND_NS)
VALUES = st.sampled_from([0.0, 1.0, 2.0]) | st.floats(-1e3, 1e6)
SECONDS = st.none() | st.sampled_from([0.0, 0.001, 0.1, 1.0]) | st.floats(-1.0, 1e300)
CARDS = st.none() | st.builds(
    SensorCard,
    origin=st.just("square-wave"),
    update_period_s=SECONDS,
    update_jitter_s=SECONDS,
    averaging_s=SECONDS,
    lag_s=SECONDS,
    resolution=SECONDS,
    noise=SECONDS,
    read_cost_s=st.none(),
)
CHANNELS = st.builds(
    Channel,
    name=st.just("rail"),
    source=st.just("any"),
    reading=st.sampled_from(Reading),
    unit=st.just("W"),
    scope=st.sampled_from([Scope.MODULE, Scope.GPU_BOARD]),
    card=CARDS,
)
SPANS = st.builds(Span, phase=st.just(Phase.PREFILL), start_ns=TIMES_NS, end_ns=TIMES_NS, tokens=st.just(1))
SCATTERED = st.dictionaries(TIMES_NS, VALUES, max_size=40)


@st.composite
def polled(draw: st.DrawFn) -> dict[int, float]:
    """Readings at an even pace, as a sampler makes them."""
    step_ns = draw(st.sampled_from([10, 50, 100])) * SECOND_NS // 1000
    values = draw(st.lists(VALUES, min_size=20, max_size=100))
    if draw(st.booleans()):
        values = list(itertools.accumulate(map(abs, values)))
    return {SECOND_NS + index * step_ns: value for index, value in enumerate(values)}


@st.composite
def beats(draw: st.DrawFn) -> Beat:
    """Repetitions back to back."""
    durations_ns = draw(st.lists(st.integers(1, SECOND_NS), min_size=1, max_size=50))
    starts_ns = list(itertools.accumulate(durations_ns, initial=draw(TIMES_NS)))[:-1]
    return Beat(starts_ns, durations_ns, draw(st.integers(1, 20)))


@settings(deadline=None)
@given(SCATTERED | polled(), SPANS, CHANNELS, st.lists(beats(), max_size=2))
def test_energy_stands_without_a_reason_and_a_reason_without_energy(points, window, asked, rhythm):
    """Any samples, any window, any card: never an exception, never both, never neither."""
    samples = [Sample(at, points[at]) for at in sorted(points)]
    for estimate in (energy_j(samples, window, asked, rhythm), total_j([samples] * 2, window, [asked] * 2, rhythm)):
        assert (estimate.energy_j is None) == (estimate.reason is not None)
        assert (estimate.energy_j is None) == (estimate.temporal_uncertainty_j is None)
        assert (estimate.energy_j is None) == (estimate.peak_power_w is None)
        assert estimate.temporal_uncertainty_j is None or estimate.temporal_uncertainty_j >= 0


WINDOWS_S = st.tuples(st.floats(1.5, 4.0), st.floats(0.6, 6.0)).map(lambda edges: (edges[0], edges[0] + edges[1]))
LEVELS_W = st.lists(st.integers(1, 500), min_size=130, max_size=130)


def looked_at(levels_w: list[int], asked: Channel) -> list[Sample]:
    """A sensor that shows these levels in turn, a tenth of a second each, or what they add up to; read every 20 ms."""
    shown = list(itertools.accumulate(levels_w)) if asked.reading is Reading.COUNTER else levels_w
    times_ns = range(0, len(levels_w) * SECOND_NS // 10, SECOND_NS // 50)
    return [Sample(at, float(shown[at // (SECOND_NS // 10)])) for at in times_ns]


@pytest.mark.parametrize("asked", [POWER, COUNTER, channel()], ids=["power", "counter", "without a card"])
@settings(deadline=None)
@given(levels_w=LEVELS_W, edges_s=WINDOWS_S, k=st.sampled_from([0.125, 3, 1000]))
def test_energy_and_its_half_width_scale_with_power(asked, levels_w, edges_s, k):
    samples = looked_at(levels_w, asked)
    once = energy_j(samples, span(*edges_s), asked)
    times_k = energy_j([Sample(at, k * value) for at, value in samples], span(*edges_s), asked)
    assert (once.energy_j is None) == (times_k.energy_j is None)
    if once.energy_j is not None and once.temporal_uncertainty_j is not None:
        assert times_k.energy_j == pytest.approx(k * once.energy_j, rel=1e-6)
        assert times_k.temporal_uncertainty_j == pytest.approx(k * once.temporal_uncertainty_j, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("asked", [POWER, COUNTER, channel()], ids=["power", "counter", "without a card"])
@settings(deadline=None)
@given(levels_w=LEVELS_W, edges_s=WINDOWS_S, shift_ns=st.integers(0, 10**17))
def test_a_later_clock_changes_nothing(asked, levels_w, edges_s, shift_ns):
    samples, window = looked_at(levels_w, asked), span(*edges_s)
    later = changed(window, start_ns=window.start_ns + shift_ns, end_ns=window.end_ns + shift_ns)
    once = energy_j(samples, window, asked)
    again = energy_j([Sample(at + shift_ns, value) for at, value in samples], later, asked)
    assert (again.reason, again.distinct_updates) == (once.reason, once.distinct_updates)
    if once.energy_j is not None:
        assert again.energy_j == pytest.approx(once.energy_j, rel=1e-6)
        assert again.temporal_uncertainty_j == pytest.approx(once.temporal_uncertainty_j, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(st.floats(0.5, 1e4), WINDOWS_S, st.sampled_from([0.01, 0.05, 0.1]))
def test_energy_of_constant_power_is_exact(power_w, edges_s, every_s):
    """By watts that a coarse sensor shows again and again, and by a counter."""
    times_s, length_s = every(every_s, 12), edges_s[1] - edges_s[0]
    coarse = changed(POWER, card=sensor_card(resolution=power_w / 100))
    by_power = energy_j(sampled(lambda at_s: power_w, times_s), span(*edges_s), coarse)
    if by_power.energy_j is not None or length_s > 1.2:
        assert by_power.energy_j == pytest.approx(power_w * length_s, rel=1e-6)
    by_counter = energy_j(sampled(held(counted(power_w)), every(0.01, 12)), span(*edges_s), COUNTER)
    assert by_counter.energy_j is not None and by_counter.temporal_uncertainty_j is not None
    assert abs(by_counter.energy_j - power_w * length_s) <= 0.012 * power_w
