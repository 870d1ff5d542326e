"""Which of a machine's measured figures a trial is held against, and what is said where there is none."""

from __future__ import annotations

import pytest

from phasewatt.ceilings import no_peaks, peaks_of
from phasewatt.profiles import Ceiling
from tests.fixtures.profiled import CUDA, MACHINE, ceilings
from tests.fixtures.records import changed
from tests.fixtures.trials import conditions

ON_GPU = conditions(**CUDA)


def test_the_fastest_product_and_the_largest_matrix_read_are_the_ceilings():
    """A small matrix is read five times as fast, out of a cache."""
    peaks = peaks_of(ceilings(), "bfloat16", ON_GPU, "measured here")
    assert peaks.matmul.value == MACHINE.matmul_flop_per_s
    assert peaks.read.value == MACHINE.read_byte_per_s
    assert peaks.launch.value == MACHINE.launch_s and peaks.launch.sheet is None
    assert peaks.matmul.told == "bfloat16, 8192 x 8192 x 8192, median of 3"
    assert peaks.matmul.sheet == pytest.approx(1.25 * MACHINE.matmul_flop_per_s)
    assert peaks.origin == "measured here"


def test_another_dtype_is_no_ceiling_of_products():
    peaks = peaks_of(ceilings(), "float16", ON_GPU, "")
    assert peaks.matmul.value is None
    assert peaks.matmul.reason == "the ceilings hold no matmul in float16, only in bfloat16"
    assert peaks.read.value == MACHINE.read_byte_per_s and "bfloat16" in peaks.read.told


@pytest.mark.parametrize(("tf32", "dtype"), [(True, "tf32"), (False, "float32")])
def test_float32_in_tf32_is_held_against_tf32(tf32, dtype):
    both = [
        changed(ceilings()[1], dtype="float32", values=(1e12,)),
        changed(ceilings()[1], dtype="tf32", values=(9e12,)),
    ]
    assert peaks_of(both, "float32", conditions(**CUDA, tf32=tf32), "").matmul.told.startswith(dtype)
    one = [each for each in both if each.dtype != dtype]
    assert f"no matmul in {dtype}" in peaks_of(one, "float32", conditions(**CUDA, tf32=tf32), "").matmul.reason


def test_a_cpu_is_held_against_its_own_threads():
    measured = ceilings(dtype="float32", processor="cpu")
    assert peaks_of(measured, "float32", conditions(threads=2), "").matmul.value == MACHINE.matmul_flop_per_s
    for peak in (peaks_of(measured, "float32", conditions(threads=1), "").matmul,
                 peaks_of(measured, "float32", conditions(threads=1), "").launch):  # fmt: skip
        assert peak.value is None
        assert peak.reason == "the ceilings were measured with 2 threads, this ran with 1"
    assert peaks_of(measured, "float32", conditions(threads=None), "").matmul.value is not None


def test_the_other_processor_of_a_host_is_none():
    peaks = peaks_of(ceilings(), "float32", conditions(), "")
    assert peaks.read.reason == "the ceilings hold no read on cpu"


def test_a_ceiling_that_failed_gives_its_reason():
    failed = Ceiling(work="read", unit="byte/s", shape=(4, 4), dtype="bfloat16", reason="out of memory")
    assert peaks_of([failed], "bfloat16", ON_GPU, "").read.reason == "read: out of memory"


def test_no_sheet_is_said():
    bare = [changed(each, sheet=None, sheet_source=None) for each in ceilings()]
    peak = peaks_of(bare, "bfloat16", ON_GPU, "").matmul
    assert peak.sheet is None and peak.sheet_reason == "no data sheet figure is known for this board"


def test_no_ceilings_at_all_have_one_reason():
    assert {peak.reason for peak in (no_peaks("none").matmul, no_peaks("none").launch)} == {"none"}
