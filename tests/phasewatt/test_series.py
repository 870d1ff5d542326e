"""Series: columns come back as they went in, to within half a step, and what was missing stays missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatt import codec, series
from phasewatt.traces import Series

SCALES = st.sampled_from([1.0, 1e-3, 1e-6, 0.4])
VALUES = st.lists(st.none() | st.floats(-1e6, 1e6, allow_nan=False))


@given(SCALES, VALUES)
def test_values_come_back_within_half_a_step(scale, values):
    """However long the column: rounding does not add up."""
    back = series.unpack(series.pack("power", "W", scale, values))
    assert len(back) == len(values)
    for sent, received in zip(values, back, strict=True):
        assert (sent is None) == (received is None)
        if sent is not None and received is not None:
            assert math.isclose(sent, received, rel_tol=1e-9, abs_tol=scale / 2 * (1 + 1e-6))


@given(st.lists(st.integers(-(2**40), 2**40)))
def test_whole_steps_come_back_exactly(ticks):
    assert series.unpack(series.pack("count", "1", 1.0, ticks)) == ticks


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_times_come_back_exactly(times_ns):
    assert series.unpack_times(series.pack_times(times_ns)) == times_ns


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_missing(value):
    column = series.pack("power", "W", 1.0, [5.0, value, 7.0])
    assert column.steps == (5, None, 2)
    assert series.unpack(column) == [5.0, None, 7.0]


def test_missing_at_the_start_and_zero_are_two_things():
    assert series.unpack(series.pack("power", "W", 1.0, [None, 0.0])) == [None, 0.0]


def test_negative_power_is_kept():
    """Idle rails read -398 mW by quantisation."""
    assert series.unpack(series.pack("power", "W", 1e-3, [-0.398, 0.399])) == pytest.approx([-0.398, 0.399])


def test_steps_are_a_quarter_of_rows():
    """A minute at 10 Hz: a column with integer steps against a time and a value a row."""
    times_ns = [10**15 + index * 100_000_000 for index in range(600)]
    powers_w = [150.0 + math.sin(index / 9) for index in range(600)]
    packed = [series.pack_times(times_ns), series.pack("power", "W", 1e-3, powers_w)]
    rows = [{"time_s": at * 1e-9, "power_w": power} for at, power in zip(times_ns, powers_w, strict=True)]
    assert len(codec.encode(packed)) < len(codec.encode(rows)) / 3


@pytest.mark.parametrize(
    "column",
    [
        Series(name="power", unit="W", scale=1e-3, steps=(1, 2)),
        Series(name="time", unit="s", scale=1e-9, steps=(1, None)),
    ],
    ids=["another scale", "a hole"],
)
def test_what_is_no_time_series_is_not_read_as_one(column):
    with pytest.raises(ValueError, match="no series of times"):
        series.unpack_times(column)
