"""What telemetry samples beside the meters: the same names on every platform, and what a host lacks left out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import psutil

from agent.host import Host
from agent.host_state import celsius, fan_share

logger = logging.getLogger(__name__)


class Column(NamedTuple):
    """One figure that is sampled; `scale` is the step that it is stored in."""

    name: str
    unit: str
    scale: float
    ask: Callable[[], float | None]

    def read(self) -> float | None:
        """The figure, or None where this host does not give it now: one column never ends the others."""
        try:
            return self.ask()
        except (OSError, AttributeError, ValueError, RuntimeError, psutil.Error) as error:
            logger.debug("%s: %s", self.name, error)
            return None


def columns_of(host: Host) -> tuple[Column, ...]:
    """The columns of a host. They are read once a second: files and cheap calls, no process."""
    return (*_everywhere(host), *_clocks(host), *_zones_and_fans(host), *_of_gpu(host))


def _everywhere(host: Host) -> Iterator[Column]:
    state = host.state_files
    yield Column("cpu_busy", "1", 1e-3, lambda: psutil.cpu_percent() / 100)
    yield Column("memory_available", "B", 1024.0, state.available_bytes)
    yield Column("swap_used", "B", 1024.0, state.swap_used_bytes)
    yield Column("load_1min", "1", 1e-2, lambda: os.getloadavg()[0])
    yield Column("temperature", "degC", 0.1, host.temperature_c)
    yield Column("disk_free", "B", 1024.0, lambda: psutil.disk_usage("/").free)
    yield Column("disk_read", "B", 1.0, _disk_read)
    yield Column("disk_written", "B", 1.0, _disk_written)
    yield Column("network_sent", "B", 1.0, lambda: psutil.net_io_counters().bytes_sent)
    yield Column("network_received", "B", 1.0, lambda: psutil.net_io_counters().bytes_recv)


def _disk_read() -> int | None:
    counters = psutil.disk_io_counters()
    return None if counters is None else counters.read_bytes


def _disk_written() -> int | None:
    counters = psutil.disk_io_counters()
    return None if counters is None else counters.write_bytes


def _clocks(host: Host) -> Iterator[Column]:
    clocks = host.state_files.clocks
    if clocks.cpus:
        yield Column("cpu_clock", "Hz", 1e6, clocks.cpu_hz)
    if clocks.memory is not None:
        yield Column("emc_clock", "Hz", 1e6, clocks.memory.now_hz)


def _zones_and_fans(host: Host) -> Iterator[Column]:
    for name, zone in host.state_files.zones.items():
        yield Column(f"temperature/{name}", "degC", 0.1, partial(celsius, zone))
    for name, file in host.state_files.fans.items():
        yield Column(f"fan/{name}", "1", 1e-3, partial(fan_share, file))


def _of_gpu(host: Host) -> Iterator[Column]:
    if not host.gpus.facts() and not host.state_files.has_gpu:
        return
    yield Column("gpu_busy", "1", 1e-3, host.gpu_load)
    yield Column("gpu_clock", "Hz", 1e6, host.gpu_clock_hz)
    yield Column("gpu_temperature", "degC", 0.1, host.gpu_temperature_c)
    if host.gpus.memory_used_bytes() is not None:  # a Jetson's GPU has no memory of its own
        yield Column("gpu_memory_used", "B", 1024.0, host.gpus.memory_used_bytes)
