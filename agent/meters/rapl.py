"""CPU packages by the kernel's powercap tree (Intel and AMD RAPL): energy counters that wrap.

Each package zone is read; a `dram` zone inside one is shown beside it and is no part of the package's total.
"""

from __future__ import annotations

import logging
from pathlib import Path

from phasewatt.errors import MeterUnavailable
from phasewatt.records import Channel, Reading, Scope

logger = logging.getLogger(__name__)

_ROOT = Path("/sys/class/powercap")
_GAIN_UNCERTAINTY = 0.05


class Rapl:
    """See `Meter`: joules of every CPU package since opening."""

    simulated = False

    def __init__(self, period_s: float, argument: str = "", root: Path = _ROOT) -> None:
        self._zones = [_Zone(path) for path in sorted(root.glob("intel-rapl:*")) if _name(path) is not None]
        self._zones = [zone for zone in self._zones if zone.name.startswith(("package", "dram"))]
        if not self._zones:
            raise MeterUnavailable("this CPU, kernel or virtual machine has no RAPL")
        if all(zone.read() is None for zone in self._zones):
            raise MeterUnavailable(
                f"{self._zones[0].path}/energy_uj cannot be read: run as root, or chmod o+r it at boot (tmpfiles.d)"
            )
        self.channels = tuple(zone.channel for zone in self._zones)

    def read(self) -> tuple[float | None, ...]:
        """See `Meter.read`."""
        return tuple(zone.read() for zone in self._zones)

    def close(self) -> None:
        """See `Meter.close`."""


class _Zone:
    """One counter, made to run on where the register wraps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = _name(path) or path.name
        self._range_uj = _number(path / "max_energy_range_uj")
        self._last_uj: int | None = None
        self._wrapped_uj = 0

    @property
    def channel(self) -> Channel:
        return Channel(
            name=self.name,
            scope=Scope.CPU_PACKAGE,
            reading=Reading.COUNTER,
            source="powercap",
            gain_uncertainty=_GAIN_UNCERTAINTY,
            parts_of_total=self.name.startswith("package"),
        )

    def read(self) -> float | None:
        """Joules, growing; None if the counter cannot be read now."""
        now_uj = _number(self.path / "energy_uj")
        if now_uj is None:
            return None
        if self._last_uj is not None and now_uj < self._last_uj:
            if self._range_uj is None:
                logger.warning("%s ran backwards and its range is unknown", self.name)
                return None
            self._wrapped_uj += self._range_uj
        self._last_uj = now_uj
        return (now_uj + self._wrapped_uj) * 1e-6


def _name(path: Path) -> str | None:
    try:
        return (path / "name").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
