"""How sure a mean is, from its values alone: against closed forms, and by how often the interval holds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatt.spread import half_width, trend

CASES = 1500


def white(source: random.Random, count: int) -> list[float]:
    """Independent values about 0."""
    return [source.gauss(0, 1) for _ in range(count)]


def persistent(source: random.Random, count: int, memory: float = 0.6) -> list[float]:
    """Values that each keep a part of the one before, as a slow beat has it."""
    found = [source.gauss(0, 1) / math.sqrt(1 - memory**2)]
    while len(found) < count:
        found.append(memory * found[-1] + source.gauss(0, 1))
    return found


def coverage(noise: Callable[[random.Random, int], list[float]], count: int) -> float:
    """How often 0, the mean of the noise, lies within the half-width about the mean of its values."""
    source, held = random.Random(11), 0
    for _ in range(CASES):
        values = noise(source, count)
        residuals = trend(range(count), values).residuals
        held += abs(math.fsum(values) / count) <= half_width(residuals) / math.sqrt(count)
    return held / CASES


@pytest.mark.parametrize("count", [8, 15, 30, 60])
def test_the_interval_holds_for_independent_values(count):
    assert coverage(white, count) == pytest.approx(0.95, abs=0.02)


def test_the_interval_nearly_holds_for_persistent_values():
    """Where a standard deviation over sqrt(n) would hold two times in three."""
    assert coverage(persistent, 100) == pytest.approx(0.93, abs=0.03)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.integers(4, 40))
def test_a_parabola_is_trend_and_leaves_nothing(level, slope, bend, count):
    times = [0.3 * index + 0.1 * math.sin(index) for index in range(count)]
    middle = (times[0] + times[-1]) / 2
    found = trend(times, [level + slope * t + bend * (t - middle) ** 2 for t in times])
    assert found.residuals == pytest.approx([0.0] * count, abs=1e-9)
    assert half_width(found.residuals) == pytest.approx(0.0, abs=1e-9)


@given(st.floats(-5, 5), st.integers(4, 40))
def test_the_slope_is_per_unit_of_time(slope, count):
    times = [0.3 * index + 7 for index in range(count)]
    assert trend(times, [slope * t - 3 for t in times]).slope == pytest.approx(slope, abs=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=4, max_size=40))
def test_residuals_are_orthogonal_to_the_trend(values):
    residuals = trend(range(len(values)), values).residuals
    for order in range(3):
        assert math.fsum(r * t**order for t, r in enumerate(residuals)) == pytest.approx(0.0, abs=1e-6 * 40**order)


def test_the_trend_is_the_least_squares_parabola():
    numpy = pytest.importorskip("numpy", reason="the independent computation is numpy's")
    source = random.Random(2)
    times = sorted(source.uniform(0, 10) for _ in range(25))
    values = [source.gauss(50, 9) for _ in times]
    parabola = numpy.polynomial.Polynomial.fit(times, values, 2)
    left = [value - parabola(time) for time, value in zip(times, values, strict=True)]
    assert trend(times, values).residuals == pytest.approx(left, abs=1e-9)


def test_one_low_cosine_is_its_own_variance_shared_among_those_asked():
    """n = 8 asks for three cosines, orders 3 to 5: t(3) = 3.182 times the root of their mean square."""
    pure = [math.sqrt(2 / 8) * math.cos(math.pi * 4 / 8 * (at + 0.5)) for at in range(8)]
    assert half_width(pure) == pytest.approx(3.182 / math.sqrt(3))
    beyond = [math.cos(math.pi * 6 / 8 * (at + 0.5)) for at in range(8)]
    assert half_width(beyond) == pytest.approx(0.0, abs=1e-12), "what is faster averages out over the window"


def test_more_values_are_judged_by_more_cosines():
    """Student's t falls from 3.18 at three to 2.18 at twelve; the twelfth order is seen by none but long windows."""
    twelfth = [math.sqrt(2 / 200) * math.cos(math.pi * 12 / 200 * (at + 0.5)) for at in range(200)]
    assert half_width(twelfth) == pytest.approx(2.179 / math.sqrt(12))
    short = [math.cos(math.pi * 12 / 40 * (at + 0.5)) for at in range(40)]
    assert half_width(short) == pytest.approx(0.0, abs=1e-12)


def test_cosines_that_a_long_average_flattened_are_not_asked():
    """A window of ten averages: orders above 6 hold less than three quarters of their power."""
    eighth = [math.sqrt(2 / 100) * math.cos(math.pi * 8 / 100 * (at + 0.5)) for at in range(100)]
    assert half_width(eighth) > 0.1
    assert half_width(eighth, averaged_share=0.1) == pytest.approx(0.0, abs=1e-12)


@given(st.lists(st.integers(-1000, 1000), min_size=8, max_size=60), st.sampled_from([0.5, 2, 1000]))
def test_half_width_scales_with_the_values(values, k):
    residuals = [float(value) for value in values]
    assert half_width([k * r for r in residuals]) == pytest.approx(k * half_width(residuals), abs=1e-9)
