"""The calls of NVML that fill one channel each: power, and what is shown beside it.

Grace Hopper and Grace Blackwell may answer for their whole module where other GPUs answer for their board: the
instant power is asked there by scope, and what cannot be asked so is of unknown scope. Written by the documents; it
has not been seen on such a machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from agent.gpus import clock_event_reasons
from agent.meters.gpm import Gpm
from phasewatt.fields import Reading, Scope
from phasewatt.throttling import CLOCK_SOURCE, EVENTS_SOURCE
from phasewatt.traces import Channel

_GAIN_UNCERTAINTY = 0.05  # NVIDIA states +-5 %; no self-calibration sees it

_FIELD_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT
_OF_GPU, _OF_MODULE = 0, 1  # NVML_POWER_SCOPE_*
_WITH_GRACE = re.compile(r"\bG[HB]\d+")  # "NVIDIA GH200 480GB", "NVIDIA GB200"
_GA100 = (8, 0)  # its compute capability
_GPM_APART_S = 0.25  # between its samples: enough of them in a short phase, and each one an average of something


class Gpu(NamedTuple):
    """One GPU and its part in the total."""

    number: int
    handle: Any
    counts: bool  # it is asked for, by name or with all others
    alone: bool  # no other one counts

    @property
    def name(self) -> str:
        """What its channels are called."""
        return f"gpu{self.number}"


class Call(NamedTuple):
    """One question to NVML, and the channels that its answer fills."""

    gpu: str
    source: str
    channels: tuple[Channel, ...]
    ask: Callable[[], tuple[float | None, ...]]
    least_apart_s: float = 0.0

    @property
    def makes_total(self) -> bool:
        """Whether it gives watts or joules that count."""
        return self.channels[0].scope is not None and self.channels[0].parts_of_total


def power_calls(nvml: Any, gpu: Gpu) -> Iterator[Call]:
    """Instant, average and counter; of two that are the same reading of the same scope, the better one first."""
    handle = gpu.handle
    grace = _has_grace(nvml, handle)
    usage = Reading.AVERAGE if _usage_is_averaged(nvml, handle) else Reading.INSTANT
    scope = Scope.UNKNOWN if grace else Scope.GPU_BOARD
    yield _power(gpu, "nvml.field186", Reading.INSTANT, Scope.GPU_BOARD, lambda: _instant_w(nvml, handle, _OF_GPU))
    if grace:
        yield _module_power(gpu, lambda: _instant_w(nvml, handle, _OF_MODULE))
    yield _power(gpu, "nvml.power_usage", usage, scope, lambda: nvml.nvmlDeviceGetPowerUsage(handle) * 1e-3)
    yield _power(gpu, "nvml.total_energy", Reading.COUNTER, scope, lambda: _counter_j(nvml, handle))


def side_calls(nvml: Any, gpu: Gpu) -> Iterator[Call]:
    """What explains the power: clock, what holds it back, temperature, and the share of time with a kernel."""
    handle = gpu.handle
    yield _beside(gpu, CLOCK_SOURCE, "Hz", lambda: nvml.nvmlDeviceGetClockInfo(handle, 1) * 1e6)
    yield _beside(gpu, EVENTS_SOURCE, "bits", lambda: clock_event_reasons(nvml, handle))
    yield _beside(gpu, "nvml.temperature", "degC", lambda: nvml.nvmlDeviceGetTemperature(handle, 0))
    yield _beside(
        gpu, "nvml.utilisation", "1", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu * 1e-2, Reading.AVERAGE
    )


def gpm_call(gpu: Gpu, gpm: Gpm) -> Call:
    """All metrics of GPM by one call."""
    channels = [
        Channel(name=gpu.name, source=metric.source, reading=Reading.AVERAGE, unit=metric.unit, scope=None)
        for metric in gpm.metrics
    ]
    return Call(gpu.name, "nvml.gpm", tuple(channels), gpm.read, _GPM_APART_S)


def _power(gpu: Gpu, source: str, reading: Reading, scope: Scope, ask: Callable[[], float]) -> Call:
    channel = Channel(
        name=gpu.name,
        source=source,
        reading=reading,
        unit="J" if reading is Reading.COUNTER else "W",
        scope=scope,
        gain_uncertainty=_GAIN_UNCERTAINTY,
        parts_of_total=gpu.counts,
    )
    return _single(channel, ask)


def _module_power(gpu: Gpu, ask: Callable[[], float]) -> Call:
    """Power of the module that holds the GPU. Several GPUs may share one, so only that of a single GPU is summed."""
    channel = Channel(
        name=f"module{gpu.number}",
        source="nvml.field186.module",
        reading=Reading.INSTANT,
        unit="W",
        scope=Scope.MODULE,
        gain_uncertainty=_GAIN_UNCERTAINTY,
        parts_of_total=gpu.counts and gpu.alone,
    )
    return _single(channel, ask)


def _beside(gpu: Gpu, source: str, unit: str, ask: Callable[[], float], reading: Reading = Reading.INSTANT) -> Call:
    return _single(Channel(name=gpu.name, source=source, reading=reading, unit=unit, scope=None), ask)


def _single(channel: Channel, ask: Callable[[], float]) -> Call:
    return Call(channel.name, channel.source, (channel,), lambda: (float(ask()),))


def _instant_w(nvml: Any, handle: Any, scope: int) -> float:
    field = nvml.nvmlDeviceGetFieldValues(handle, [(_FIELD_INSTANT, scope)])[0]
    if field.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(field.nvmlReturn)
    return float(field.value.uiVal) * 1e-3


def _counter_j(nvml: Any, handle: Any) -> float:
    return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * 1e-3


def _usage_is_averaged(nvml: Any, handle: Any) -> bool:
    """Whether PowerUsage is a mean of one second: on Ampere, but not GA100, and newer. Source: nvml.h"""
    try:
        return tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)) > _GA100
    except nvml.NVMLError:
        return True  # an average never becomes joules by mistake


def _has_grace(nvml: Any, handle: Any) -> bool:
    try:
        return _WITH_GRACE.search(str(nvml.nvmlDeviceGetName(handle))) is not None
    except nvml.NVMLError:
        return False
