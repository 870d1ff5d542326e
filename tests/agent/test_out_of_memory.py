"""The lack of memory is told from other failures, in whatever words it comes."""

from __future__ import annotations

import pytest

from agent import out_of_memory

NVMAP = "NvMapMemAllocInternalTagged: 1075072515 error 12"


@pytest.mark.parametrize(
    "said",
    [
        NVMAP,
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1131, please report a bug to PyTorch.',
        "CUDA error: out of memory",
        "[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: you tried to allocate",
    ],
)
def test_signs_are_found_in_what_a_library_says(said: str) -> None:
    """Wherever in it: the line that tells is given, the last one if several do."""
    assert out_of_memory.sign_in(f"a warning\n{NVMAP}\n{said}\nCompile with TORCH_USE_CUDA_DSA") == said


def test_other_failures_have_no_sign() -> None:
    assert out_of_memory.sign_in("CUDA error: device-side assert triggered\nRuntimeError: shapes differ") is None
    assert out_of_memory.sign_in("") is None


def test_the_release_that_fails_large_allocations_is_named_with_its_remedy() -> None:
    """On that release a model may fail although memory is free; on others nothing is added."""
    told = out_of_memory.reason(NVMAP, "36.4.7")
    assert told.startswith(f"out of memory: {NVMAP}; Jetson Linux 36.4.7 fails single allocations over 4 GiB")
    assert "36.5 mends it" in told
    for other in (None, "36.4.3", "36.5.0"):
        assert out_of_memory.reason(NVMAP, other) == f"out of memory: {NVMAP}"
