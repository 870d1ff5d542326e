from __future__ import annotations

import numpy
import pytest

from collector import stats
from phasewatt.metrics import Readings

SIMULATIONS = 300


def readings(*values: float, half_width: float | None = None) -> Readings:
    return Readings(values, None, half_width)


def test_the_value_is_the_median_of_each_trials_median() -> None:
    """A trial with many repetitions weighs no more than one with few."""
    found = stats.summary([readings(1.0, 1.0, 1.0, 1.0), readings(3.0)], "s")
    assert found.value == 2.0
    assert (found.trials, found.repetitions) == (2, 5)


def test_the_same_stream_gives_the_same_interval_and_another_one_another() -> None:
    trials = [Readings(tuple(numpy.random.default_rng(1).normal(10, 1, 21)))]
    first, again, other = (stats.summary(trials, stream) for stream in ("a", "a", "b"))
    assert (first.low, first.high) == (again.low, again.high)
    assert numpy.array_equal(first.draws, again.draws)
    assert not numpy.array_equal(first.draws, other.draws)


@pytest.mark.parametrize("size", [10, 11])
def test_medians_of_resamples_are_distributed_as_if_each_resample_had_been_drawn(size: int) -> None:
    """The order statistics by Beta are a short cut for resampling, not another method."""
    random = numpy.random.default_rng(7)
    values = random.lognormal(0, 1, size)
    drawn = numpy.median(random.choice(values, (40_000, size)), axis=1).round(9)
    short = [stats.summary([Readings(tuple(values))], f"{index}").draws for index in range(40_000 // stats.DRAWS)]
    both = numpy.sort(numpy.concatenate([drawn, *short]).round(9))
    shares = [
        numpy.searchsorted(numpy.sort(found), both, "right") / 40_000 for found in (drawn, numpy.ravel(short).round(9))
    ]
    assert abs(shares[0] - shares[1]).max() < 0.013  # Kolmogorov-Smirnov, at a level of 0.002


def covered(trials: int, between: float, within: float) -> float:
    """The share of simulated experiments whose interval holds the true median, which is 1."""
    random = numpy.random.default_rng(20)
    hits = 0
    for experiment in range(SIMULATIONS):
        centres = 1 + between * random.standard_normal(trials)
        runs = [Readings(tuple(centre + within * random.standard_normal(20))) for centre in centres]
        found = stats.summary(runs, f"{experiment}")
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1 <= found.high
    return hits / SIMULATIONS


def test_the_interval_of_one_trial_covers_the_median_of_its_run() -> None:
    assert 0.91 <= covered(trials=1, between=0.0, within=0.05) <= 0.98


def test_the_interval_of_several_trials_covers_the_median_over_runs() -> None:
    assert 0.90 <= covered(trials=8, between=0.05, within=0.05) <= 0.99


def test_one_trial_says_nothing_of_the_spread_between_runs_and_the_method_says_so() -> None:
    assert covered(trials=1, between=0.05, within=0.01) < 0.5
    assert "With one trial it covers the spread within that run only" in stats.METHOD


def test_few_trials_miss_more_often_and_the_method_says_so() -> None:
    assert covered(trials=2, between=0.05, within=0.01) < 0.8
    assert "with two to four trials it is little more than their range" in stats.METHOD


def test_a_stated_half_width_becomes_the_interval_of_a_value_without_repetitions() -> None:
    found = stats.summary([readings(100.0, half_width=4.0)], "s")
    assert found.low == pytest.approx(96.0, abs=0.5)
    assert found.high == pytest.approx(104.0, abs=0.5)


def test_a_negative_half_width_from_a_board_breaks_nothing() -> None:
    assert stats.summary([readings(100.0, half_width=-4.0)], "s").low == pytest.approx(96.0, abs=0.5)


def test_a_single_value_without_stated_uncertainty_has_no_interval() -> None:
    found = stats.summary([readings(5.0)], "s")
    assert (found.low, found.high) == (None, None)


def test_the_quartiles_are_of_all_repetitions() -> None:
    assert stats.summary([readings(1.0, 2.0), readings(3.0, 4.0, 5.0)], "s").quartiles == (2.0, 4.0)


def test_the_ratio_has_an_interval_from_both_sides() -> None:
    random = numpy.random.default_rng(3)
    slow = stats.summary([Readings(tuple(random.normal(20, 0.4, 30)))], "slow")
    fast = stats.summary([Readings(tuple(random.normal(10, 0.2, 30)))], "fast")
    ratio = stats.ratio(fast, slow)
    assert ratio is not None
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 0.5 < ratio.high
    assert ratio.high - ratio.low > (fast.high or 0) / slow.value - (fast.low or 0) / slow.value


def test_the_ratio_of_a_thing_to_its_like_is_one_within_its_interval_nearly_always() -> None:
    random = numpy.random.default_rng(5)
    hits = 0
    for experiment in range(SIMULATIONS):
        pair = [
            stats.summary([Readings(tuple(random.normal(10, 0.5, 20)))], f"{experiment} {side}") for side in range(2)
        ]
        ratio = stats.ratio(*pair)
        assert ratio is not None
        hits += (ratio.low or 0) <= 1 <= (ratio.high or 0)
    assert 0.91 <= hits / SIMULATIONS <= 0.99


def test_a_ratio_without_an_interval_on_one_side_has_none() -> None:
    assert stats.ratio(stats.summary([readings(4.0)], "a"), stats.summary([readings(2.0)], "b")) == (2.0, None, None)


@pytest.mark.parametrize("base", [readings(0.0), readings(-1.0), readings(0.5, half_width=2.0)])
def test_nothing_is_divided_by_what_is_not_clearly_above_zero(base: Readings) -> None:
    assert stats.ratio(stats.summary([readings(1.0)], "a"), stats.summary([base], "b")) is None


def test_a_ratio_of_energies_has_both_temporal_uncertainties_in_quadrature() -> None:
    """3 % and 4 % make 5 %: the two sensors looked independently of each other."""
    of, to = stats.summary([readings(50.0, half_width=1.5)], "a"), stats.summary([readings(100.0, half_width=4.0)], "b")
    found = stats.ratio(of, to)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.value == 0.5
    assert (found.high - found.low) / 2 / found.value == pytest.approx(0.05, rel=0.06)
