"""What NVIDIA GPUs say of themselves beside power: names, limits, clocks, temperature, throttling, other processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from phasewatt.records import GpuFacts

Answer = TypeVar("Answer")

# nvmlClocksEventReason* bits that mean the GPU was held back. Source: nvml.h
_THROTTLES = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}


class Gpus:
    """The GPUs of this host, or none; every call is asked for itself, and None is what it does not answer."""

    def __init__(self, library: Any = None) -> None:
        self._nvml = library
        self._devices: list[Any] = []
        with contextlib.suppress(ImportError):
            if self._nvml is None:
                import pynvml  # noqa: PLC0415 - an optional dependency

                self._nvml = pynvml
            self._devices = self._opened()

    def facts(self) -> tuple[GpuFacts, ...]:
        """Every GPU by name."""
        return tuple(self._facts(index, device) for index, device in enumerate(self._devices))

    def driver(self) -> str | None:
        """Version of the driver."""
        return self._ask(lambda: str(self._nvml.nvmlSystemGetDriverVersion())) if self._devices else None

    def power_limit_w(self) -> float | None:
        """Enforced limit of the first GPU."""
        return self._of_first(lambda device: self._nvml.nvmlDeviceGetEnforcedPowerLimit(device) * 1e-3)

    def clock_hz(self) -> int | None:
        """SM clock of the first GPU now."""
        return self._of_first(lambda device: int(self._nvml.nvmlDeviceGetClockInfo(device, 1)) * 1_000_000)

    def temperature_c(self) -> float | None:
        """Temperature of the first GPU now."""
        return self._of_first(lambda device: float(self._nvml.nvmlDeviceGetTemperature(device, 0)))

    def utilisation(self) -> float | None:
        """Share of the last sample period in which the first GPU ran a kernel."""
        return self._of_first(lambda device: self._nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)

    def memory_used_bytes(self) -> int | None:
        """Memory in use on the first GPU."""
        return self._of_first(lambda device: int(self._nvml.nvmlDeviceGetMemoryInfo(device).used))

    def processes(self, besides: int | None = None) -> int | None:
        """Compute processes on all GPUs, not counting process id `besides`."""
        counts = [self._ask(partial(self._processes_on, device, besides)) for device in self._devices]
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    def throttled(self) -> frozenset[str] | None:
        """What holds the first GPU back now."""
        bits = self._of_first(lambda device: int(self._nvml.nvmlDeviceGetCurrentClocksEventReasons(device)))
        return None if bits is None else frozenset(name for bit, name in _THROTTLES.items() if bits & bit)

    def _processes_on(self, device: Any, besides: int | None) -> int:
        return sum(p.pid != besides for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(device))

    def _opened(self) -> list[Any]:
        def devices() -> list[Any]:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            return [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]

        return self._ask(devices) or []

    def _facts(self, index: int, device: Any) -> GpuFacts:
        nvml = self._nvml
        return GpuFacts(
            index=index,
            name=self._ask(lambda: str(nvml.nvmlDeviceGetName(device))) or "GPU without a name",
            uuid=self._ask(lambda: str(nvml.nvmlDeviceGetUUID(device))),
            memory_bytes=self._ask(lambda: int(nvml.nvmlDeviceGetMemoryInfo(device).total)),
            power_limit_w=self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device) * 1e-3),
        )

    def _of_first(self, call: Callable[[Any], Answer]) -> Answer | None:
        return self._ask(lambda: call(self._devices[0])) if self._devices else None

    def _ask(self, call: Callable[[], Answer]) -> Answer | None:
        try:
            return call()
        except self._nvml.NVMLError:
            return None
