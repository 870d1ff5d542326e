"""Memory of this host and of this process, from /proc: what is free counts reclaimable cache, unlike CUDA's figure."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_SHARED_RESERVE_BYTES = 512 * 2**20  # for the system, which would swap or end processes


def available_bytes() -> int:
    """Memory that a new process can have without swapping."""
    return int(psutil.virtual_memory().available)


def shared_free_bytes() -> int:
    """Memory that a model may take where GPU and CPU share it; CUDA's figure leaves out what is reclaimable."""
    return max(0, available_bytes() - _SHARED_RESERVE_BYTES)


def total_bytes() -> int:
    """Memory of the host."""
    return int(psutil.virtual_memory().total)


def reset_peak() -> None:
    """Let the next `peak_bytes` count from now on, where the kernel allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int | None:
    """Largest resident set of this process since `reset_peak`; None where the kernel does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def cpu_model() -> str | None:
    """Name of the CPU as the kernel gives it; arm64 kernels give none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return None
