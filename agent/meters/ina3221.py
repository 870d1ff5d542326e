"""The rails of a Jetson by its power monitors in sysfs: what tegrastats shows, without a process beside the work.

Beside them stand the clock, load and temperature of the GPU, which tell why power and speed moved.
"""

from __future__ import annotations

import errno
import logging
import math
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.host_state import StateFiles
from agent.jetson import hwmon, rail_channel
from agent.meters.faults import Faults
from phasewatt import rails
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading
from phasewatt.traces import Channel

logger = logging.getLogger(__name__)

Beside = tuple[Channel, Callable[[], float | None]]

_POWER = "its power"
_LOOK_AGAIN_S, _LONGEST_LOOK_S = 1.0, 30.0  # to look takes as long as to read some twenty registers
_TRIES = 3  # of a rail at opening; the least time is its cost
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class Ina3221:
    """See `Meter`: watts of every rail; `argument` is the root of a simulated board."""

    mode = None

    def __init__(
        self,
        period_s: float,
        argument: str = "",
        read: hwmon.Read = hwmon.read_text,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._root = Path(argument or "/").absolute()
        self._read = read
        self._clock = clock
        self._faults = Faults()
        self.simulated = self._root != Path("/")
        self.driver = platform.release()
        self._rails, off = self._found()
        self._looked_s = clock()
        self._look_s = _LOOK_AGAIN_S
        self._beside = _beside(StateFiles(self._root))
        self.channels = (*_channels(self._rails), *(channel for channel, _ in self._beside))
        costs_s, silent = self._probed()
        self.read_costs_s = (*costs_s, *(None for _ in self._beside))
        self.refused = (*off, *silent)

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        """See `Meter.read`."""
        powers_w = tuple(self._power_w(rail) for rail in self._rails)
        if None not in powers_w:
            self._look_s = _LOOK_AGAIN_S
        elif self._clock() - self._looked_s >= self._look_s:
            self._look_s = min(2 * self._look_s, _LONGEST_LOOK_S)
            self._look_again()
        return (*powers_w, *(ask() for _, ask in self._beside))

    def notes(self) -> tuple[str, ...]:
        """See `Meter.notes`."""
        return self._faults.taken()

    def close(self) -> None:
        """See `Meter.close`; nothing is held open."""

    def _found(self) -> hwmon.Monitors:
        try:
            found = hwmon.find(self._root, self._read)
        except PermissionError as error:
            raise MeterUnavailable(_forbidden(error)) from error
        if not found.rails:
            off = f"; {'; '.join(found.off)}" if found.off else ""
            why = f"not a Jetson, its driver is not loaded, or /sys is hidden{off}"
            raise MeterUnavailable(f"no INA3221 with named rails under {self._root / 'sys'}: {why}")
        return found

    def _probed(self) -> tuple[tuple[float | None, ...], tuple[str, ...]]:
        """The time in s that each rail takes to read, and which do not answer."""
        silent: dict[str, OSError | ValueError] = {}
        costs_s = tuple(self._cost_s(rail, silent) for rail in self._rails)
        words = tuple(f"{name}: {_why(error)}" for name, error in silent.items())
        if len(silent) == len(self._rails):
            forbidden = next((error for error in silent.values() if isinstance(error, PermissionError)), None)
            raise MeterUnavailable(_forbidden(forbidden) if forbidden else f"no rail answers: {'; '.join(words)}")
        return costs_s, words

    def _cost_s(self, rail: hwmon.Rail, silent: dict[str, OSError | ValueError]) -> float | None:
        least_s = math.inf
        try:
            for _ in range(_TRIES):
                started_s = self._clock()
                hwmon.power_w(rail, self._read)
                least_s = min(least_s, self._clock() - started_s)
        except (OSError, ValueError) as error:
            silent[rail.name] = error
            return None
        return least_s

    def _power_w(self, rail: hwmon.Rail) -> float | None:
        try:
            power_w = hwmon.power_w(rail, self._read)
        except (OSError, ValueError) as error:
            self._faults.failed(rail.name, _POWER, _why(error))
            return None
        self._faults.answered(rail.name, _POWER)
        return power_w

    def _look_again(self) -> None:
        """Take the places where the monitors are now: one that was bound anew has another hwmon number."""
        self._looked_s = self._clock()
        try:
            found = hwmon.find(self._root, self._read).rails
        except PermissionError as error:
            logger.debug("%s", error)
            return
        files = {rail.place: rail.files for rail in found}
        self._rails = tuple(rail._replace(files=files.get(rail.place, rail.files)) for rail in self._rails)


def _channels(found: Sequence[hwmon.Rail]) -> list[Channel]:
    known = rails.rails([rail.name for rail in found])
    return [rail_channel.channel(what, rail.chip, rail.step_w) for rail, what in zip(found, known, strict=True)]


def _beside(files: StateFiles) -> list[Beside]:
    """Channels of the GPU, of which the kernel tells here."""
    clock = files.clocks.gpu
    found: list[Beside] = [
        *([(_of_gpu("devfreq.gpu_clock", "Hz", Reading.INSTANT), clock.now_hz)] if clock is not None else []),
        (_of_gpu("devfreq.gpu_load", "1", Reading.AVERAGE), files.gpu_load),
        (_of_gpu("thermal.gpu", "degC", Reading.INSTANT), files.gpu_c),
    ]
    return [(channel, ask) for channel, ask in found if ask() is not None]


def _of_gpu(source: str, unit: str, reading: Reading) -> Channel:
    return Channel(name="gpu", source=source, reading=reading, unit=unit, scope=None)


def _why(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return "what it holds is no figure of a rail"
    return "vanished" if error.errno in _GONE else error.strerror or str(error)


def _forbidden(error: PermissionError) -> str:
    return f"{error.filename} may not be read: run as root, or open it by a udev rule (chmod o+r)"
