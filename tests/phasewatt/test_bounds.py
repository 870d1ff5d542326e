"""The rules of docs/roofline.md, each at both of its sides."""

from __future__ import annotations

import pytest

from phasewatt.bounds import GAPS, LAUNCHES, NEAR, Bound, of_operator, of_phase
from phasewatt.ceilings import Peak, no_peaks, peaks_of
from phasewatt.profiled_work import Demand
from tests.fixtures.profiled import CUDA, MACHINE, ceilings
from tests.fixtures.records import changed
from tests.fixtures.trials import conditions

PEAKS = peaks_of(ceilings(), "bfloat16", conditions(**CUDA), "")
SECOND_OF_FLOPS, SECOND_OF_BYTES = MACHINE.matmul_flop_per_s, MACHINE.read_byte_per_s


def bound(flops, moved_bytes, device_s=1.0, launches=1.0, peaks=PEAKS, replayed=False):
    return of_operator(Demand(flops, moved_bytes), device_s, launches, peaks, replayed)


def test_the_nearer_ceiling_bounds():
    assert bound(0.8 * SECOND_OF_FLOPS, 0.5 * SECOND_OF_BYTES).bound is Bound.COMPUTE
    assert bound(0.5 * SECOND_OF_FLOPS, 0.8 * SECOND_OF_BYTES).bound is Bound.MEMORY
    assert bound(0, 0.8 * SECOND_OF_BYTES).reason == "80% of the read ceiling, the nearer one"


def test_far_below_both_is_neither():
    assert bound(NEAR * 1.01 * SECOND_OF_FLOPS, 1).bound is Bound.COMPUTE
    found = bound(NEAR * 0.99 * SECOND_OF_FLOPS, 1)
    assert found.bound is Bound.NEITHER and "less than 40%" in found.reason


def test_short_kernels_are_launch_bound_where_no_ceiling_is_near():
    kernels = 1000
    short_s, long_s = (factor * LAUNCHES * MACHINE.launch_s * kernels for factor in (0.99, 1.01))
    assert bound(0, 1, short_s, kernels).bound is Bound.LAUNCH
    assert bound(0, 1, long_s, kernels).bound is Bound.NEITHER
    assert bound(0, 0.9 * short_s * SECOND_OF_BYTES, short_s, kernels).bound is Bound.MEMORY
    replayed = bound(0, 1, short_s, kernels, replayed=True)
    assert replayed.bound is Bound.NEITHER and "replayed from a graph" in replayed.reason


def test_more_than_the_ceiling_is_explained():
    assert "a cache holds part" in bound(0, 1.2 * SECOND_OF_BYTES).reason


def test_missing_ceilings_and_costs_give_no_bound_and_the_reason():
    assert bound(1, 1, peaks=no_peaks("nothing was measured")) == (None, "nothing was measured")
    without = changed(PEAKS, matmul=Peak(value=None, reason="no product"))
    assert bound(1.0, 0.8 * SECOND_OF_BYTES, peaks=without) == (None, "no product")
    assert bound(0.0, 0.8 * SECOND_OF_BYTES, peaks=without).bound is Bound.MEMORY  # it multiplies nothing
    no_launch = changed(PEAKS, launch=Peak(value=None, reason="no launch"))
    found = bound(1, 1, peaks=no_launch)
    assert found.bound is None and found.reason.endswith("whether launches hold it back is not known: no launch")
    assert of_operator(Demand(None, None, "no formula"), 1, 1, PEAKS, False) == (None, "no formula")


@pytest.mark.parametrize(
    ("gaps", "expected"), [(GAPS + 0.01, Bound.LAUNCH), (GAPS, Bound.COMPUTE), (None, Bound.COMPUTE)]
)
def test_a_phase_that_mostly_waits_is_launch_bound(gaps, expected):
    assert of_phase(Demand(0.9 * SECOND_OF_FLOPS, 1), 1.0, gaps, PEAKS).bound is expected


def test_gaps_need_no_ceiling():
    assert of_phase(Demand(None, None, "no formula"), 1.0, 0.9, no_peaks("none")).bound is Bound.LAUNCH
