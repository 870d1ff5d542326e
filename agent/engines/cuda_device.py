"""The first CUDA device as the driver itself describes it, for engines without torch. Source: CUDA Driver API."""

from __future__ import annotations

import ctypes
import uuid
from typing import Any, NamedTuple

from agent import memory
from phasewatt.errors import EngineFailed

_INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED: the GPU shares the host's memory
_LONGEST_NAME = 256


class CudaDevice(NamedTuple):
    """What the driver tells."""

    name: str
    uuid: str  # as NVML writes it
    free_bytes: int


def first(driver: Any = None) -> CudaDevice:
    """The device that CUDA numbers 0, as a program sees it; its context is made, and kept for who comes next.

    Raises:
        EngineFailed: there is no driver or no device, or it does not answer.
    """
    try:
        cuda = driver or ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EngineFailed(f"no CUDA driver: {error}; see phasewatt-agent doctor") from error
    device = ctypes.c_int()
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    name, raw = ctypes.create_string_buffer(_LONGEST_NAME), ctypes.create_string_buffer(16)
    _call(cuda, "cuDeviceGetName", name, _LONGEST_NAME, device)
    _call(cuda, "cuDeviceGetUuid_v2", raw, device)
    named = f"GPU-{uuid.UUID(bytes=raw.raw)}"
    return CudaDevice(name.value.decode(errors="replace"), named, _free_bytes(cuda, device))


def _free_bytes(cuda: Any, device: ctypes.c_int) -> int:
    """Free memory; a GPU that shares the host's memory counts as the host, as it does for the other engines."""
    integrated = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(integrated), _INTEGRATED, device)
    if integrated.value:
        return memory.shared_free_bytes()
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    _call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    _call(cuda, "cuCtxSetCurrent", context)
    _call(cuda, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value


def _call(cuda: Any, name: str, *arguments: Any) -> None:
    code = getattr(cuda, name)(*arguments)
    if code:
        raise EngineFailed(f"no CUDA device answers: {name} gives error {code}; see phasewatt-agent doctor")
