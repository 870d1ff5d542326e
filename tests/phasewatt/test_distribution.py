"""Percentiles where there are enough values, and the spread."""

from __future__ import annotations

import pytest

from phasewatt import distribution
from phasewatt.metrics import Readings


def test_percentiles_are_named_and_interpolated() -> None:
    assert distribution.percentiles(list(range(101))) == {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
    assert distribution.percentiles([4.0, 1.0]) == {"p50": 2.5}


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (0, []),
        (1, []),
        (2, ["p50"]),
        (9, ["p50"]),
        (10, ["p50", "p90"]),
        (20, ["p50", "p90", "p95"]),
        (99, 3),
        (100, 4),
    ],
)
def test_a_percentile_needs_values_that_can_tell_it(count: int, names: object) -> None:
    """The 99th of ten values would be their largest under another name."""
    found = list(distribution.percentiles([1.0] * count))
    assert found == names if isinstance(names, list) else len(found) == names


def test_spread_is_the_quartiles_distance_over_the_median() -> None:
    assert distribution.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert distribution.spread([1.0, 2.0, 3.0]) is None
    assert distribution.spread([0.0] * 5) is None


def test_readings_of_a_metric_give_both() -> None:
    readings = Readings(tuple(float(n) for n in range(1, 12)))
    assert readings.percentiles == {"p50": 6.0, "p90": 10.0}
    assert readings.spread == pytest.approx(5 / 6)
