"""NVIDIA GPUs by NVML: instantaneous power, averaged power and the energy counter, kept apart and named.

Initialising proves nothing (a Jetson's NVML initialises and then supports none of it), so every call is probed.
Calls differ 4,000-fold in cost; a costly one is made so seldom that it takes at most `_COST_SHARE` of the time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from phasewatt.errors import MeterUnavailable
from phasewatt.records import Channel, Reading, Scope

logger = logging.getLogger(__name__)

_GAIN_UNCERTAINTY = 0.05  # NVIDIA states +-5 %; no self-calibration sees it
_COST_SHARE = 0.001
_FIELD_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT


class _Source(NamedTuple):
    """One channel's call, and how many readings apart it is made."""

    channel: Channel
    call: Callable[[], float]
    every: int


class Nvml:
    """See `Meter`: all GPUs of the host; with a UUID as `argument`, that GPU alone counts and the others are shown."""

    simulated = False

    def __init__(self, period_s: float, argument: str = "", library: Any = None) -> None:
        """`library` is pynvml or what stands in for it."""
        self._nvml = library or _library()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise MeterUnavailable(f"NVML does not start ({error}): no NVIDIA driver here") from error
        self._counted = argument
        refused: list[str] = []
        self._sources = tuple(self._probed(period_s, refused))
        self.channels = tuple(source.channel for source in self._sources)
        self._ticks = 0
        if not self.channels:
            self.close()
            raise MeterUnavailable(f"NVML answers, but not to power: {'; '.join(refused) or 'no GPU'}")

    def read(self) -> tuple[float | None, ...]:
        """See `Meter.read`."""
        values = tuple(self._value(source) if self._ticks % source.every == 0 else None for source in self._sources)
        self._ticks += 1
        return values

    def close(self) -> None:
        """See `Meter.close`."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as error:
            logger.debug("NVML shutdown: %s", error)

    def _probed(self, period_s: float, refused: list[str]) -> list[_Source]:
        found = []
        for index in range(self._count()):
            try:
                calls = self._calls(index, self._nvml.nvmlDeviceGetHandleByIndex(index))
            except self._nvml.NVMLError as error:
                refused.append(f"gpu{index}: {error}")
                continue
            for channel, call in calls:
                try:
                    cost_s = _cost_s(call)
                except self._nvml.NVMLError as error:
                    refused.append(f"{channel.source} of gpu{index}: {error}")
                    continue
                every = max(1, math.ceil(cost_s / (_COST_SHARE * period_s)))
                found.append(_Source(channel, call, every))
        return found

    def _count(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            self.close()
            raise MeterUnavailable(f"NVML does not count its GPUs: {error}") from error

    def _calls(self, index: int, device: Any) -> list[tuple[Channel, Callable[[], float]]]:
        counts = not self._counted or str(self._nvml.nvmlDeviceGetUUID(device)) == self._counted
        nvml = self._nvml

        def instant_w() -> float:
            field = nvml.nvmlDeviceGetFieldValues(device, [_FIELD_INSTANT])[0]
            if field.nvmlReturn != nvml.NVML_SUCCESS:
                raise nvml.NVMLError(field.nvmlReturn)
            return float(field.value.uiVal) * 1e-3

        def average_w() -> float:
            return float(nvml.nvmlDeviceGetPowerUsage(device)) * 1e-3

        def counter_j() -> float:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(device)) * 1e-3

        return [
            (_channel(index, Reading.INSTANT, "nvml.field186", counts), instant_w),
            (_channel(index, Reading.AVERAGE, "nvml.power_usage", counts), average_w),
            (_channel(index, Reading.COUNTER, "nvml.total_energy", counts), counter_j),
        ]

    def _value(self, source: _Source) -> float | None:
        try:
            return source.call()
        except self._nvml.NVMLError as error:
            logger.warning("%s of %s: %s", source.channel.source, source.channel.name, error)
            return None


def _library() -> Any:
    try:
        import pynvml  # noqa: PLC0415 - an optional dependency, needed only where this meter is tried
    except ImportError as error:
        raise MeterUnavailable("NVML is not installed: pip install 'phasewatt[nvml]'") from error
    return pynvml


def _channel(index: int, reading: Reading, source: str, counts: bool) -> Channel:
    return Channel(
        name=f"gpu{index}",
        scope=Scope.GPU_BOARD,
        reading=reading,
        source=source,
        gain_uncertainty=_GAIN_UNCERTAINTY,
        parts_of_total=counts,
    )


def _cost_s(call: Callable[[], float]) -> float:
    """Cost of a call: the least of three after the first, which opens things."""
    call()
    costs_s = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        costs_s.append(time.perf_counter() - started)
    return min(costs_s)
