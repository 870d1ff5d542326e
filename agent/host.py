"""This host: what it is, and what state it is in. Read from the kernel's files under an injected root."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import psutil

import phasewatt
from agent import memory
from agent.gpus import Gpus, NoLibrary
from agent.host_state import StateFiles
from agent.jetson.identity import identify
from agent.jetson.modes import PowerMode, power_mode
from agent.kernel_files import number, text
from phasewatt.conditions import HostState
from phasewatt.errors import ConfigInvalid, StoreUnavailable
from phasewatt.fields import Identifier
from phasewatt.hosts import HostFacts, SensorFacts
from phasewatt.messages import Clock

_MODEL_FILES = ("proc/device-tree/model", "sys/class/dmi/id/product_name")
_GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
_CPU_CLOCK = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"  # kHz
_BOOT_ID = "proc/sys/kernel/random/boot_id"

Figure = TypeVar("Figure", int, float)


class Observation(NamedTuple):
    """State of the host at one moment."""

    clock_hz: int | None = None
    temperature_c: float | None = None
    throttled: frozenset[str] | None = None
    power_mode: PowerMode | None = None  # None: no Jetson
    state: HostState | None = None


class Host:
    """Facts and state of one host. Under another root than "/" it is simulated, and has no GPU of the host's."""

    def __init__(self, device: str, root: Path = Path("/"), gpus: Gpus | None = None) -> None:
        self.device = device
        self.simulated = root != Path("/")
        self.gpus = gpus or Gpus(NoLibrary() if self.simulated else None)
        self._root = root
        self.boot_id = text(root / _BOOT_ID) or "unknown"
        self.governor = text(root / _GOVERNOR)
        self.jetson = identify(root)
        self.state_files = StateFiles(root)
        self.memory_bytes = self.state_files.memory_bytes() or memory.total_bytes()

    def facts(self, sensors: tuple[SensorFacts, ...] = ()) -> HostFacts:
        """What this host is and what its meters said."""
        driver = self.gpus.driver()
        jetson = self.jetson
        return HostFacts(
            device=self.device,
            hostname=socket.gethostname(),
            model=next(filter(None, (text(self._root / name) for name in _MODEL_FILES)), None),
            architecture=platform.machine(),
            operating_system=_os_name(),
            kernel=platform.release(),
            python=platform.python_version(),
            agent_version=phasewatt.__version__,
            cpu_model=memory.cpu_model(),
            cpu_count=os.cpu_count() or 1,
            memory_bytes=self.memory_bytes,
            boot_id=self.boot_id,
            gpus=self.gpus.facts(),
            sensors=sensors,
            versions=({"driver": driver} if driver else {}) | self.releases,
            module=jetson.module if jetson else None,
            carrier=jetson.carrier if jetson else None,
        )

    @property
    def releases(self) -> dict[str, str]:
        """Releases of L4T and JetPack, of a Jetson."""
        return self.jetson.versions if self.jetson else {}

    def observe(self, accelerator: str, gpu_uuid: str | None = None) -> Observation:
        """Clock, temperature and throttling of what does the work, and the state of the rest."""
        mode = power_mode(self._root) if self.jetson else None
        state, alerts = self.state_files.read(), self.state_files.alerts()
        if accelerator == "cuda":
            gpus = self.gpus.of(gpu_uuid)
            throttled = _united(gpus.throttled(), alerts)
            return Observation(self.gpu_clock_hz(gpus), self.gpu_temperature_c(gpus), throttled, mode, state)
        khz = number(self._root / _CPU_CLOCK)
        return Observation(None if khz is None else khz * 1000, self.temperature_c(), alerts, mode, state)

    def temperature_c(self) -> float | None:
        """Hottest thermal zone; None where there is none, or none answers."""
        return self.state_files.hottest_c()

    def gpu_clock_hz(self, gpus: Gpus | None = None) -> int | None:
        """Clock of the GPU that works; a Jetson's NVML does not tell it, and its kernel does."""
        kernels = self.state_files.clocks.gpu
        return _either((gpus or self.gpus).clock_hz(), kernels.now_hz if kernels else _nothing)

    def gpu_temperature_c(self, gpus: Gpus | None = None) -> float | None:
        """Temperature of the GPU that works."""
        return _either((gpus or self.gpus).temperature_c(), self.state_files.gpu_c)

    def gpu_load(self) -> float | None:
        """Share of the last moment in which the GPU worked."""
        return _either(self.gpus.utilisation(), self.state_files.gpu_load)

    def clock(self) -> Clock:
        """Whether the kernel holds the wall clock to be synchronised."""
        return Clock(synchronised=_synchronised(), offset_bound_s=None)


def busy_cores(seconds: float, sleep: Callable[[float], None] = time.sleep) -> float:
    """Cores kept busy on this host over the next `seconds`."""
    idle_before_s, total_before_s = idle_and_total_s()
    sleep(seconds)
    idle_s, total_s = idle_and_total_s()
    passed_s = total_s - total_before_s
    return float(max(0.0, 1 - (idle_s - idle_before_s) / passed_s) * (os.cpu_count() or 1)) if passed_s > 0 else 0.0


def idle_and_total_s() -> tuple[float, float]:
    """CPU time of all cores together since boot: spent idle, and in all."""
    times = psutil.cpu_times()
    idle_s = sum(getattr(times, name, 0.0) for name in ("idle", "iowait"))
    return idle_s, sum(times) - _counted_twice(times)


def device_id(state: Path, asked: str | None) -> str:
    """The name of this board: as kept in the state directory; at first as asked, or made of the host's name.

    Raises:
        ConfigInvalid: not a name, or the directory holds the records of another device.
    """
    kept = text(state / "device")
    name = asked or kept or _made_name()
    try:
        msgspec.convert(name, Identifier)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(
            f"device: expected up to 64 letters, digits, '.', '_' and '-', a letter or digit first, got {name!r}"
            + ("" if asked else f" in {state / 'device'}: delete that file")
        ) from error
    if kept is None:
        _keep_name(state / "device", name)
    elif kept != name:
        raise ConfigInvalid(f"device: {state} holds the records of {kept!r}, not of {name!r}; use another")
    return name


def _keep_name(file: Path, name: str) -> None:
    draft = file.with_name("device.part")
    try:
        draft.write_text(name + "\n", encoding="ascii")
        draft.replace(file)
    except OSError as error:
        raise StoreUnavailable(f"state directory {file.parent}: {error.strerror}; free some space") from error


def _made_name() -> str:
    host = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname()).strip("-") or "host"
    return f"{host[:48]}-{secrets.token_hex(2)}"


def _counted_twice(times: object) -> float:
    """Guest time, which the kernel also counts as user time."""
    return float(getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0))


def _synchronised() -> bool | None:
    """The kernel's own word, by adjtimex(2): bit STA_UNSYNC of its status is clear."""
    import ctypes  # noqa: PLC0415 - costs a megabyte that not every command needs

    buffer = (ctypes.c_byte * 512)()  # struct timex is 208 bytes; modes = 0 only reads
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "adjtimex"):
        return None
    state = libc.adjtimex(ctypes.byref(buffer))
    return None if state < 0 else state != 5  # TIME_ERROR


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()


def _nothing() -> None:
    return None


def _either(first: Figure | None, second: Callable[[], Figure | None]) -> Figure | None:
    return second() if first is None else first


def _united(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    """What either tells; None: neither does."""
    return None if first is None and second is None else (first or frozenset()) | (second or frozenset())
