"""What NVIDIA GPUs say of themselves beside power: names, limits, clocks, temperature, throttling, other processes."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeVar

from phasewatt import throttling
from phasewatt.hosts import GpuFacts

Answer = TypeVar("Answer")


class NoLibrary:
    """In the place of NVML on a host without GPUs of NVIDIA: it does not start."""

    class NVMLError(Exception):
        """See pynvml's."""

    def nvmlInit(self) -> None:  # noqa: N802 - named as NVML names it
        """See NVML's."""
        raise self.NVMLError("no NVML here")


class Gpus:
    """The GPUs of this host, or none; every call is asked for itself, and None is what it does not answer.

    One of them is the GPU that works: the first, or the one named by `of`.
    """

    def __init__(self, library: Any = None) -> None:
        self._nvml = library
        self._devices: list[Any] = []
        with contextlib.suppress(ImportError):
            if self._nvml is None:
                import pynvml  # noqa: PLC0415 - an optional dependency

                self._nvml = pynvml
            self._devices = self._opened()
        self._working: Any = self._devices[0] if self._devices else None

    def of(self, uuid: str | None) -> Gpus:
        """The same GPUs, of which the one named `uuid` works; without a name, as before.

        Where no GPU has that name, none works: another one's figures would not be those of the work.
        """
        if uuid is None:
            return self
        named = copy.copy(self)
        named._working = self._ask(lambda: whole_gpu(self._nvml, uuid)) if self._devices else None
        return named

    def facts(self) -> tuple[GpuFacts, ...]:
        """Every GPU by name."""
        return tuple(self._facts(index, device) for index, device in enumerate(self._devices))

    def driver(self) -> str | None:
        """Version of the driver."""
        return self._ask(lambda: str(self._nvml.nvmlSystemGetDriverVersion())) if self._devices else None

    def power_limit_w(self) -> float | None:
        """Enforced limit of the GPU that works."""
        return self._of_working(lambda device: self._nvml.nvmlDeviceGetEnforcedPowerLimit(device) * 1e-3)

    def ecc(self) -> bool | None:
        """Whether the memory of the GPU that works corrects errors, which takes bandwidth on some."""
        return self._of_working(lambda device: bool(self._nvml.nvmlDeviceGetEccMode(device)[0]))

    def persistence(self) -> bool | None:
        """Whether the driver keeps the GPU that works awake without clients."""
        return self._of_working(lambda device: bool(self._nvml.nvmlDeviceGetPersistenceMode(device)))

    def mig(self) -> bool | None:
        """Whether the GPU that works is divided into instances, whose power is only known together."""
        return self._of_working(lambda device: bool(self._nvml.nvmlDeviceGetMigMode(device)[0]))

    def clock_hz(self) -> int | None:
        """SM clock of the GPU that works, now."""
        return self._of_working(lambda device: int(self._nvml.nvmlDeviceGetClockInfo(device, 1)) * 1_000_000)

    def temperature_c(self) -> float | None:
        """Temperature of the GPU that works, now."""
        return self._of_working(lambda device: float(self._nvml.nvmlDeviceGetTemperature(device, 0)))

    def utilisation(self) -> float | None:
        """Share of the last sample period in which the GPU that works ran a kernel."""
        return self._of_working(lambda device: self._nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)

    def memory_used_bytes(self) -> int | None:
        """Memory in use on the GPU that works."""
        return self._of_working(lambda device: int(self._nvml.nvmlDeviceGetMemoryInfo(device).used))

    def memory_free_bytes(self) -> int | None:
        """Memory that is free on the GPU that works."""
        return self._of_working(lambda device: int(self._nvml.nvmlDeviceGetMemoryInfo(device).free))

    def runs_any(self, pids: Collection[int]) -> bool:
        """Whether one of these processes computes on a GPU."""
        found = [self._ask(partial(self._processes_on, device)) for device in self._devices]
        return any(not on_one.isdisjoint(pids) for on_one in found if on_one is not None)

    def processes(
        self, besides: int | None = None, is_working: bool = False, servers: Collection[int] = ()
    ) -> int | None:
        """Compute processes on all GPUs, not counting process id `besides` nor those of `servers`.

        `is_working`: that process does use the GPU that works. In a container the driver may number processes
        otherwise than the container does; then one on that GPU is taken to be it.
        """
        found = [self._ask(partial(self._processes_on, device)) for device in self._devices]
        known = {pid for pids in found if pids is not None for pid in pids}
        if all(pids is None for pids in found):
            return None
        renumbered = is_working and besides not in known and bool(self._of_working(self._processes_on))
        return len(known - {besides, *servers}) - renumbered

    def throttled(self) -> frozenset[str] | None:
        """What holds the GPU that works back now."""
        bits = self._of_working(lambda device: clock_event_reasons(self._nvml, device))
        return None if bits is None else held_back(bits)

    def _processes_on(self, device: Any) -> frozenset[int]:
        return frozenset(p.pid for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(device))

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

    def _of_working(self, call: Callable[[Any], Answer]) -> Answer | None:
        return None if self._working is None else self._ask(lambda: call(self._working))

    def _ask(self, call: Callable[[], Answer]) -> Answer | None:
        try:
            return call()
        except self._nvml.NVMLError:
            return None


def held_back(bits: int) -> frozenset[str]:
    """What held a GPU back, by the clock-event reasons that it gave."""
    return frozenset(throttling.reasons(bits))


def clock_event_reasons(nvml: Any, device: Any) -> int:
    """The bits of what sets the clocks now; raises `nvml.NVMLError` where that is not told."""
    try:
        return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(device))
    except nvml.NVMLError:
        return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device))  # its name before driver 535


def whole_gpu(nvml: Any, uuid: str) -> Any:
    """Handle of the GPU of that name, or of the GPU that a MIG device of that name is a part of.

    Raises `nvml.NVMLError` if there is none. CUDA gives the id of a MIG device without saying that it is one.
    """
    if uuid.startswith("MIG-"):
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(uuid))
    try:
        return nvml.nvmlDeviceGetHandleByUUID(uuid)
    except nvml.NVMLError:
        return whole_gpu(nvml, f"MIG-{uuid.removeprefix('GPU-')}")
