"""What may hold a host's work back: clocks, temperatures, fans, throttling, over-current, memory. Under a root."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.clocks import Clocks
from agent.kernel_files import matching, number, text
from phasewatt.conditions import HostState

_MOST = 32  # zones or fans
_ALERT = "-throttle-alert"
_OFF_C = -256.0  # what a zone of a part without power reads
_PWM_FULL = 255
_LOADS = (  # in thousandths, of the GPU; by release
    "sys/devices/gpu.0/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/17000000.gpu/load",
    "sys/devices/platform/17000000.ga10b/load",
    "sys/devices/platform/bus@0/17000000.gpu/load",
)
_OVER_CURRENT = ("oc1", "oc2", "oc3")


class StateFiles:
    """Where a host tells its state: found once, read whenever it is asked for."""

    def __init__(self, root: Path) -> None:
        self.clocks = Clocks(root)
        self.zones = _zones(root)
        self.fans = _fans(root)
        self._alerts = _alerts(root)
        self._events = _events(root)
        self._loads = _loads(root, self.clocks)
        self._memory = root / "proc/meminfo"

    def read(self) -> HostState:
        """The state now."""
        memory = self._meminfo()
        return HostState(
            clocks=self.clocks.read(),
            temperatures_c={name: celsius(zone) for name, zone in self.zones.items()},
            fans={name: share for name, file in self.fans.items() if (share := fan_share(file)) is not None},
            throttle_alerts=_numbers(self._alerts),
            over_current_events=_numbers(self._events),
            memory_available_bytes=memory.get("MemAvailable"),
            swap_used_bytes=_swap_used(memory),
        )

    def hottest_c(self) -> float | None:
        """The hottest zone; None where there is none, or none answers."""
        return max((found for zone in self.zones.values() if (found := celsius(zone)) is not None), default=None)

    def gpu_c(self) -> float | None:
        """The zone of the GPU."""
        return next((celsius(zone) for name, zone in self.zones.items() if name.lower().startswith("gpu")), None)

    def gpu_load(self) -> float | None:
        """Share of the last moment in which the GPU worked."""
        thousandths = next((load for file in self._loads if (load := number(file)) is not None), None)
        return None if thousandths is None else thousandths / 1000

    def alerts(self) -> frozenset[str] | None:
        """What is throttled now, in words; None where a host does not tell."""
        alerts = _numbers(self._alerts)
        return frozenset(f"thermal: {name}" for name, state in alerts.items() if state) if alerts else None

    def memory_bytes(self) -> int | None:
        """Memory of the host."""
        return self._meminfo().get("MemTotal")

    def available_bytes(self) -> int | None:
        """Memory that a new process can have without swapping."""
        return self._meminfo().get("MemAvailable")

    def swap_used_bytes(self) -> int | None:
        """Memory that was swapped out."""
        return _swap_used(self._meminfo())

    @property
    def has_gpu(self) -> bool:
        """Whether the kernel itself tells of a GPU, as a Jetson's does."""
        return self.clocks.gpu is not None or bool(self._loads)

    def _meminfo(self) -> dict[str, int]:
        """Figures in bytes by their name."""
        lines = (line.split() for line in (text(self._memory) or "").splitlines())
        return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if len(line) == 3 and line[1].isdecimal()}


def celsius(zone: Path) -> float | None:
    """Temperature of a zone; None while it is gated or its part is off."""
    thousandths = number(zone)
    return None if thousandths is None or thousandths / 1000 <= _OFF_C else thousandths / 1000


def fan_share(file: Path) -> float | None:
    """Share of full speed that a fan is told to turn at."""
    pwm = number(file)
    return None if pwm is None else pwm / _PWM_FULL


def numbered(found: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Files by name; the second of a name has "2" after it, and so on."""
    named: dict[str, Path] = {}
    seen: dict[str, int] = {}
    for name, file in found:
        seen[name] = seen.get(name, 0) + 1
        named[name if seen[name] == 1 else f"{name} {seen[name]}"] = file
    return dict(list(named.items())[:_MOST])


def _zones(root: Path) -> dict[str, Path]:
    zones = _by_number(matching(root / "sys/class/thermal", "thermal_zone[0-9]*"))
    return numbered((text(zone / "type") or zone.name, zone / "temp") for zone in zones)


def _fans(root: Path) -> dict[str, Path]:
    monitors = _by_number(matching(root / "sys/class/hwmon", "hwmon[0-9]*"))
    found = [(text(monitor / "name") or "fan", file) for monitor in monitors for file in _pwms(monitor)]
    old = root / "sys/devices/pwm-fan/target_pwm"  # R32
    return numbered([*found, *([("pwm-fan", old)] if number(old) is not None else [])])


def _pwms(monitor: Path) -> list[Path]:
    return [file for file in matching(monitor, "pwm[0-9]") if number(file) is not None]


def _alerts(root: Path) -> dict[str, Path]:
    devices = _by_number(matching(root / "sys/class/thermal", "cooling_device[0-9]*"))
    named = [(text(device / "type") or "", device / "cur_state") for device in devices]
    return numbered((name[: -len(_ALERT)], file) for name, file in named if name.lower().endswith(_ALERT))


def _events(root: Path) -> dict[str, Path]:
    monitors = _by_number(matching(root / "sys/class/hwmon", "hwmon[0-9]*"))
    found = ((name, monitor / f"{name}_event_cnt") for monitor in monitors for name in _OVER_CURRENT)
    return numbered((name, file) for name, file in found if number(file) is not None)


def _loads(root: Path, clocks: Clocks) -> tuple[Path, ...]:
    beside = () if clocks.gpu is None else (clocks.gpu.folder / "device/load",)
    return tuple(file for file in (*beside, *(root / name for name in _LOADS)) if number(file) is not None)


def _by_number(folders: Iterable[Path]) -> list[Path]:
    return sorted(folders, key=lambda folder: (len(folder.name), folder.name))


def _numbers(files: Mapping[str, Path]) -> dict[str, int]:
    """What each file says, of those that answer."""
    return {name: value for name, file in files.items() if (value := number(file)) is not None and value >= 0}


def _swap_used(memory: Mapping[str, int]) -> int | None:
    total, free = memory.get("SwapTotal"), memory.get("SwapFree")
    return None if total is None or free is None else total - free
