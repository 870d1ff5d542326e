"""CPU packages by the kernel's powercap tree (Intel and AMD RAPL): energy counters that wrap.

Each package zone is read; a `dram` zone inside one is a scope of its own.
"""

from __future__ import annotations

import platform
from pathlib import Path

from agent.kernel_files import number, text
from agent.meters.faults import Faults
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading, Scope
from phasewatt.traces import Channel, SensorCard

_ROOT = Path("/sys/class/powercap")
_GAIN_UNCERTAINTY = 0.05
_CARD = SensorCard(  # Source: Intel SDM volume 3, "RAPL interfaces": energy status is updated about every millisecond
    origin="documented",
    update_period_s=0.001,
    update_jitter_s=None,
    averaging_s=0.001,
    lag_s=0.0,
    resolution=None,
    noise=None,
    read_cost_s=None,
    reason="the documents give the update period alone",
)


class Rapl:
    """See `Meter`: joules of every CPU package since opening."""

    simulated = False
    driver = platform.release()
    mode = None
    refused: tuple[str, ...] = ()

    def __init__(self, period_s: float, argument: str = "", root: Path = _ROOT) -> None:
        self._faults = Faults()
        paths = [path for path in sorted(root.glob("intel-rapl:*")) if text(path / "name") is not None]
        self._zones = [_Zone(path, self._faults) for path in paths]
        self._zones = [zone for zone in self._zones if zone.name.startswith(("package", "dram"))]
        if not self._zones:
            raise MeterUnavailable("this CPU, kernel or virtual machine has no RAPL")
        if all(zone.read() is None for zone in self._zones):
            raise MeterUnavailable(
                f"{self._zones[0].path}/energy_uj cannot be read: run as root, or chmod o+r it at boot (tmpfiles.d)"
            )
        self.channels = tuple(zone.channel for zone in self._zones)
        self.read_costs_s = (None,) * len(self.channels)

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        """See `Meter.read`."""
        return tuple(zone.read() for zone in self._zones)

    def notes(self) -> tuple[str, ...]:
        """See `Meter.notes`."""
        return self._faults.taken()

    def close(self) -> None:
        """See `Meter.close`."""


class _Zone:
    """One counter, made to run on where the register wraps."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self._faults = faults
        self.path = path
        self.name = text(path / "name") or path.name
        self._range_uj = number(path / "max_energy_range_uj")
        self._last_uj: int | None = None
        self._wrapped_uj = 0

    @property
    def channel(self) -> Channel:
        return Channel(
            name=self.name,
            source="powercap",
            reading=Reading.COUNTER,
            unit="J",
            scope=Scope.CPU_PACKAGE if self.name.startswith("package") else Scope.DRAM,
            gain_uncertainty=_GAIN_UNCERTAINTY,
            card=_CARD,
        )

    def read(self) -> float | None:
        """Joules, growing; None if the counter cannot be read now."""
        now_uj = number(self.path / "energy_uj")
        if now_uj is None:
            self._faults.failed(self.name, "its counter", "cannot be read")
            return None
        self._faults.answered(self.name, "its counter")
        if self._last_uj is not None and now_uj < self._last_uj:
            if self._range_uj is None:
                self._faults.note(f"{self.name} ran backwards and its range is unknown")
                self._last_uj = now_uj  # from here on it counts again, and a window over the fall is refused
                return None
            self._wrapped_uj += self._range_uj
        self._last_uj = now_uj
        return (now_uj + self._wrapped_uj) * 1e-6
