"""The rails of a Jetson as `tegrastats` prints them, from a supervised child; for boards whose sysfs does not answer.

Only the first figure of a rail is read: the second is a mean since that tegrastats started, and of no phase.
"""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.jetson import rail_channel, steps
from agent.jetson.child import Child, Patience
from agent.jetson.line import Line, NotTegrastats, parse
from agent.meters.faults import Faults
from phasewatt import rails
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading
from phasewatt.traces import Channel

_NAME = "tegrastats"
_PLACES = ("usr/bin/tegrastats", "home/nvidia/tegrastats", "home/ubuntu/tegrastats")  # the last two until JetPack 3
_LEAST_INTERVAL_S = 0.1  # what is asked for below this is not known to be kept
OPENING_S = 8.0  # below the sampler's patience of 20 s
_STALE_INTERVALS, _STALE_S = 5, 0.5  # a line stands for so many intervals, and for at least so long
_HUNG_INTERVALS, _HUNG_S = 10, 5.0
_WORDS = 3  # lines that it prints instead, kept to say why it does not answer ...
_WORD_BYTES = 100  # ... and so much of each: a trial's mark has little room
_ZONES = ("gpu", "cpu", "tj")  # the temperatures that explain power; the others are in the host's state


class Quantity(NamedTuple):
    """One channel, and where its value stands in a line."""

    channel: Channel
    of: Callable[[Line], float | None]


class Tegrastats:
    """See `Meter`. `argument` is the root folder of a simulated board, and empty on a real one."""

    mode: str | None = None
    refused: tuple[str, ...] = ()
    _quantities: tuple[Quantity, ...] = ()  # none until a line with rails has come

    def __init__(
        self,
        period_s: float,
        argument: str = "",
        clock_ns: Callable[[], int] = time.monotonic_ns,
        patience: Patience | None = None,
        opening_s: float = OPENING_S,
    ) -> None:
        root = Path(argument or "/")
        interval_s = max(period_s, _LEAST_INTERVAL_S)
        self.simulated = root != Path("/")
        self.driver: str | None = platform.release()
        self.garbage = 0  # lines that were not tegrastats's
        self._program = _found(root)
        self._clock_ns = clock_ns
        self._stale_ns = round(max(_STALE_S, _STALE_INTERVALS * interval_s) * 1e9)
        self._faults = Faults()
        self._words: list[str] = []
        self._newest: tuple[int, tuple[float | None, ...]] | None = None
        self._refusal: str | None = None
        self._settled = threading.Event()  # it has answered, or ended
        command = (str(self._program), "--interval", str(round(interval_s * 1e3)))
        waits = patience or Patience(max(_HUNG_S, _HUNG_INTERVALS * interval_s))
        self._child = Child(command, self._take, self._ended, waits)
        self._settled.wait(opening_s)
        if not self._quantities:
            self.close()
            raise MeterUnavailable(self._why(opening_s))
        self.channels = tuple(quantity.channel for quantity in self._quantities)
        self.read_costs_s: tuple[float | None, ...] = (None,) * len(self.channels)

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        """See `Meter.read`: the values of the last line, while that is not stale."""
        newest = self._newest
        if newest is None or self._clock_ns() - newest[0] > self._stale_ns:
            return (None,) * len(self.channels)
        return newest[1]

    def notes(self) -> tuple[str, ...]:
        """See `Meter.notes`."""
        return self._faults.taken()

    def close(self) -> None:
        """See `Meter.close`."""
        self._child.close()

    def _take(self, text: bytes) -> bool:
        """Keep what a line says, and whether it is tegrastats's; called by the child's thread."""
        now_ns = self._clock_ns()
        line = parse(text)
        if isinstance(line, NotTegrastats):
            if not line.blank:
                self._drop(text)
            return False
        if self._quantities:
            self._keep(now_ns, line)
        elif line.rails:
            self._quantities = tuple(_quantities(line))
            self._keep(now_ns, line)
            self._settled.set()
        return True

    def _keep(self, now_ns: int, line: Line) -> None:
        values = tuple(quantity.of(line) for quantity in self._quantities)
        self._faults.answered(_NAME, "every channel")
        for quantity, value in zip(self._quantities, values, strict=True):
            self._watch(quantity.channel, value)
        self._newest = (now_ns, values)

    def _watch(self, channel: Channel, value: float | None) -> None:
        if channel.scope is not None and value is None:
            self._faults.failed(f"{_NAME} {channel.name}", "this rail", "it is not in the line")
        elif channel.scope is not None:
            self._faults.answered(f"{_NAME} {channel.name}", "this rail")

    def _drop(self, text: bytes) -> None:
        """Count a line that is none of its, and keep the first ones: they say why it refuses."""
        self.garbage += 1
        if len(self._words) < _WORDS:
            self._words.append(f"{text[:_WORD_BYTES].decode('utf-8', errors='replace').strip()!a}"[:_WORD_BYTES])
        if self.garbage == 1:
            self._faults.note(f"{_NAME} printed something else: {self._words[0]}; more of this is only counted")

    def _ended(self, why: str) -> bool:
        """Note why it ended; whether to start it again. One that never answered is not for this host."""
        if self._quantities:
            self._faults.failed(_NAME, "every channel", f"it {why}, and is started again")
            return True
        self._refusal = why
        self._settled.set()
        return False

    def _why(self, opening_s: float) -> str:
        said = f", saying {', '.join(self._words)}" if self._words else ""
        if self._refusal is None:
            return f"{self._program}: no power rails in its lines within {opening_s:.3g} s{said}"
        remedy = "; if another one runs, end it: sudo tegrastats --stop" if self._words else ""
        return f"{self._program} {self._refusal}{said}{remedy}"


def _found(root: Path) -> Path:
    """The program, under the root or, of this host, where the shell finds it."""
    places = [root / place for place in _PLACES]
    if root == Path("/"):
        places += [Path(place) for place in filter(None, [shutil.which(_NAME)])]
    present = [place for place in places if os.access(place, os.F_OK)]  # a home may be closed to us
    if not present:
        raise MeterUnavailable(f"no {places[0]}: this is not a Jetson, or not under NVIDIA's Linux for it")
    for place in present:
        if os.access(place, os.X_OK):
            return place
    raise MeterUnavailable(f"{present[0]} may not be run by this user: chmod +x, or run as root")


def _quantities(line: Line) -> list[Quantity]:
    """What the lines of this board have to tell, by the first one."""
    beside = [
        _beside("gpu", "gpu_load", "1", Reading.AVERAGE, lambda told: told.gpu_load),
        _beside("gpu", "gpu_clock", "Hz", Reading.INSTANT, lambda told: told.gpu_clock_hz),
        _beside("emc", "emc_load", "1", Reading.AVERAGE, lambda told: told.emc_load),
        _beside("emc", "emc_clock", "Hz", Reading.INSTANT, lambda told: told.emc_clock_hz),
        *(_temperature(zone) for zone in line.temperatures_c if zone.lower() in _ZONES),
    ]
    return [*_powers(tuple(line.rails)), *(quantity for quantity in beside if quantity.of(line) is not None)]


def _powers(names: Sequence[str]) -> list[Quantity]:
    return [
        Quantity(rail_channel.channel(rail, _NAME, steps.step_w(rail.name)), _watts_of(rail.name))
        for rail in rails.rails(names)
    ]


def _watts_of(name: str) -> Callable[[Line], float | None]:
    return lambda line: line.rails[name].now_w if name in line.rails else None


def _temperature(zone: str) -> Quantity:
    return _beside(zone, "temperature", "degC", Reading.INSTANT, lambda line: line.temperatures_c.get(zone))


def _beside(name: str, what: str, unit: str, reading: Reading, of: Callable[[Line], float | None]) -> Quantity:
    return Quantity(Channel(name=name, source=f"{_NAME}.{what}", reading=reading, unit=unit, scope=None), of)
