"""Curves through measured lengths: what they find again, what they refuse, and errors that were not fitted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.fitting import LEAST_LENGTHS, Curve, Point, curve_through, fit, left_out

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def points(curve, lengths=LENGTHS, noise=0.0, seed=0):
    drawn = random.Random(seed)
    terms = [(float(length), float(length) ** 2) for length in lengths]
    return [Point(each, curve.at(each) * drawn.lognormvariate(0, noise), int(each[0])) for each in terms]


@pytest.mark.parametrize(
    "curve",
    [
        Curve(0.0, (0.03, 0.0), None),
        Curve(3.0, (0.025, 0.0), None),
        Curve(3.0, (0.025, 1e-6), None),
        Curve(0.0, (0.03, 0.0), 22.0),
        Curve(1.0, (0.025, 1e-6), 20.0),
    ],
    ids=["line", "line with a start", "bend", "floor and line", "floor and bend"],
)
def test_an_exact_curve_is_found_again_and_predicts_lengths_that_it_was_not_shown(curve):
    made = fit(points(curve))
    assert made is not None and made.r2 == pytest.approx(1)
    assert made.curve.constant == pytest.approx(curve.constant, abs=1e-6)
    assert made.curve.slopes == pytest.approx(curve.slopes, abs=1e-9)
    assert made.curve.floor == (None if curve.floor is None else pytest.approx(curve.floor))
    inner = [abs(made.errors[length]) for length in LENGTHS[3:-1]]
    assert max(inner) < 1e-6


def test_the_half_width_grows_with_the_noise_and_holds_the_truth():
    curve = Curve(1.0, (0.025, 1e-6), 20.0)
    middle = (3000.0, 9e6)
    quiet, loud = (fit(points(curve, noise=noise, seed=3)) for noise in (0.005, 0.05))
    assert quiet is not None and loud is not None and quiet.half_width < loud.half_width
    for made in (quiet, loud):
        assert made.curve.at(middle) == pytest.approx(curve.at(middle), rel=made.half_width)


def test_an_error_is_of_a_length_left_out_not_of_the_fit():
    """A point that lies off is fitted, and its left-out error shows it nearly whole."""
    honest = points(Curve(0.0, (0.03, 0.0), None))
    bent = [*honest[:4], honest[4]._replace(value=honest[4].value * 2), *honest[5:]]
    made = fit(bent)
    assert made is not None and made.errors[2048] == pytest.approx(-0.5, abs=0.1)
    assert made.worst_error >= abs(made.errors[2048])


def test_too_few_lengths_are_no_fit_however_often_each_was_measured():
    one = points(Curve(1.0, (0.02, 0.0), None), LENGTHS[: LEAST_LENGTHS - 1])
    assert fit(one * 5) is None
    assert fit([]) is None


def test_coefficients_are_never_below_zero():
    falling = [Point((float(n), float(n) ** 2), 100.0 / n, n) for n in (1, 2, 4, 8, 16)]
    curve = curve_through(falling)
    assert curve.constant >= 0 and min(curve.slopes) >= 0


def test_reach_is_that_of_every_term():
    made = fit(points(Curve(1.0, (0.02, 0.0), None)))
    assert made is not None
    assert made.reaches((1000.0, 1e6)) and not made.reaches((32768.0, 32768.0**2)) and not made.reaches((64.0, 4096.0))


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=4, max_size=9))
def test_any_positive_values_give_a_finite_curve(values):
    given_points = [Point((2.0**at, 4.0**at), value, 2**at) for at, value in enumerate(values)]
    made = fit(given_points)
    assert made is not None and 0 <= made.curve.at((3.0, 9.0)) < float("inf") and made.half_width >= 0


def test_a_point_that_the_others_do_not_enclose_is_extrapolated():
    """The ends are, and so is one whose second term lies beyond the others, whatever its length."""
    line = Curve(1.0, (0.1, 0.01), None)
    terms = [(1.0, 5.0), (2.0, 1.0), (3.0, 50.0), (4.0, 3.0), (5.0, 9.0), (6.0, 2.0)]
    found = left_out([Point(each, line.at(each), int(each[0])) for each in terms], [int(each[0]) for each in terms])
    assert [key for key, each in found.items() if each.interpolated is None] == [1, 2, 3, 6]
    assert all(each.interpolated == each.error for each in found.values() if each.interpolated is not None)
