"""How the lack of memory looks where CPU and GPU share it: a failed allocation may end in other libraries' words."""

from __future__ import annotations

from pathlib import Path

from agent.jetson.identity import identify

_SIGNS = (
    "can't allocate memory",  # torch on the CPU
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "NVML_SUCCESS == r",  # torch asks NVML for the state of memory, which a Jetson's does not tell
    "was killed, as the kernel does when memory runs out",  # a rank, by agent.engines.ranks
    "NvMapMemAlloc",  # "NvMapMemAllocInternalTagged: 1075072515 error 12", by the driver on standard error
)
LARGE_FAIL = "36.4.7"  # fails single allocations over 4 GiB. Source: NVIDIA's release notes of Jetson Linux 36.5


def sign_in(said: str) -> str | None:
    """The last line that tells of a failed allocation, if one does."""
    return next((line for line in reversed(said.splitlines()) if any(sign in line for sign in _SIGNS)), None)


def reason(said: str, l4t: str | None) -> str:
    """Why something does not fit, with what is known of this release of Jetson Linux."""
    known = (
        f"; Jetson Linux {l4t} fails single allocations over 4 GiB even where memory is free: "
        "36.5 mends it (apt upgrade), or choose a smaller model"
    )
    return f"out of memory: {said.strip()}" + (known if l4t == LARGE_FAIL else "")


def reason_here(said: str) -> str:
    """`reason` on the host that this runs on."""
    jetson = identify(Path("/"))
    return reason(said, None if jetson is None else jetson.l4t)
