"""One line of tegrastats as a record in SI units, whatever the release that printed it. Pure, and total on any input.

Layouts differ by module, by release and by who runs it: every statistic is looked for by itself, and one that a line
does not have is None. Source: NVIDIA's Jetson Linux Developer Guides, "tegrastats utility", and recorded lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

MAX_CHARACTERS = 16384  # real lines have under a thousand
OFF_C = -256.0  # what a zone shows whose sensor is switched off
NOT_CONNECTED = "NC"

_BYTES = {"kB": 2**10, "MB": 2**20, "GB": 2**30}  # tegrastats means powers of two
_NAME = r"(?P<name>[A-Za-z][\w.+-]{0,63})"
_CLOCK = r"@(?:(?P<clock>[0-9]{1,6})|\[(?P<clocks>[0-9]{1,6}(?:,[0-9]{1,6}){0,15})\])"
_LOAD_AND_CLOCK = rf" (?:(?P<load>[0-9]{{1,3}})%)?(?:{_CLOCK})?(?!\S)"
_USE = r" (?P<used>[0-9]{1,9})/(?P<total>[0-9]{1,9})(?P<unit>[kMG]B)"
_MILLIWATTS = r"-?[0-9]{1,9}"

_TIME = re.compile(r"(?<!\S)[0-9]{2}-[0-9]{2}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}(?!\S)", re.ASCII)
_RAM = re.compile(
    rf"(?<!\S)RAM{_USE}(?: ?\(lfb (?P<blocks>[0-9]{{1,9}})x(?P<block>[0-9]{{1,9}})(?P<block_unit>[kMG]B)\))?"
)
_SWAP = re.compile(rf"(?<!\S)SWAP{_USE}(?: ?\(cached (?P<cached>[0-9]{{1,9}})(?P<cached_unit>[kMG]B)\))?")
_GPU = re.compile(rf"(?<!\S)GR3D(?:_FREQ)?{_LOAD_AND_CLOCK}")
_EMC = re.compile(rf"(?<!\S)EMC(?:_FREQ)?{_LOAD_AND_CLOCK}")
_CPU = re.compile(r"(?<!\S)(?:CPU|cpu) ?\[(?P<cores>[0-9a-z%@, ]{0,4096})(?P<end>\](?:@(?P<clock>[0-9]{1,6}))?)?")
_CORE = re.compile(r"(?P<load>[0-9]{1,3})%(?:@(?P<clock>[0-9]{1,6}))?")
_TEMPERATURE = re.compile(
    rf"(?<!\S){_NAME}@(?P<now>-?[0-9]{{1,4}}(?:\.[0-9]{{1,9}})?)C(?:/-?[0-9.]{{1,14}}C)*(?!\S)", re.ASCII
)
_RAIL = re.compile(
    rf"(?<!\S){_NAME} (?P<now>{_MILLIWATTS})(?P<unit>mW)?"
    rf"(?:/(?P<mean>{_MILLIWATTS})(?:mW)?(?:/(?P<peak>{_MILLIWATTS})(?:mW)?)?)?(?!\S)",
    re.ASCII,
)
_NO_RAILS = ("RAM", "SWAP", "IRAM")  # a cut line may end in `RAM 936/3964`
_RAIL_NAME = re.compile(r"(?:VDD|VIN|POM|SYS)\w", re.ASCII)


class RailPower(NamedTuple):
    """Power of one rail in watts. Negative ones are the sensor's rounding about zero."""

    now_w: float
    mean_w: float | None  # since that tegrastats started: of no phase
    peak_w: float | None = None  # printed from JetPack 7.2 on


class Line(NamedTuple):
    """What one line tells; None, or an empty mapping, where it does not."""

    time: str | None  # local wall time as printed, month first
    time_iso: str | None  # the same, year first; None too where it is no date
    rails: Mapping[str, RailPower]
    temperatures_c: Mapping[str, float | None]  # None: the zone is off
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    free_block_bytes: int | None  # the largest free block ...
    free_blocks: int | None  # ... and how many there are of that size
    swap_used_bytes: int | None
    swap_total_bytes: int | None
    swap_cached_bytes: int | None
    cpu_loads: tuple[float | None, ...] | None  # share, one a core; None: the core is off
    cpu_clocks_hz: tuple[int | None, ...] | None
    gpu_load: float | None
    gpu_clocks_hz: tuple[int, ...] | None  # one a cluster where it tells them apart; 0: that one is off
    emc_load: float | None  # of the memory controller
    emc_clock_hz: int | None

    @property
    def gpu_clock_hz(self) -> int | None:
        """The clock of the fastest cluster of the GPU."""
        return max(self.gpu_clocks_hz) if self.gpu_clocks_hz else None


class NotTegrastats(NamedTuple):
    """A line that tegrastats did not print."""

    reason: str
    blank: bool = False


def parse(line: str | bytes) -> Line | NotTegrastats:
    """What a line tells. A cut one gives what is there; bytes may be of any encoding."""
    text = " ".join(_decoded(line)[:MAX_CHARACTERS].split())
    time = _TIME.search(text)
    loads, clocks_hz = _cores(text)
    gpu_load, gpu_clocks_hz = _load_and_clocks(_GPU, text)
    emc_load, emc_clocks_hz = _load_and_clocks(_EMC, text)
    memory, swap = _RAM.search(text), _SWAP.search(text)
    found = Line(
        time=time[0] if time else None,
        time_iso=_iso(time[0]) if time else None,
        rails=_rails(text),
        temperatures_c={match["name"]: _celsius(match["now"]) for match in _TEMPERATURE.finditer(text)},
        memory_used_bytes=_bytes(memory, "used", "unit"),
        memory_total_bytes=_bytes(memory, "total", "unit"),
        free_block_bytes=_bytes(memory, "block", "block_unit"),
        free_blocks=int(memory["blocks"]) if memory and memory["blocks"] else None,
        swap_used_bytes=_bytes(swap, "used", "unit"),
        swap_total_bytes=_bytes(swap, "total", "unit"),
        swap_cached_bytes=_bytes(swap, "cached", "cached_unit"),
        cpu_loads=loads,
        cpu_clocks_hz=clocks_hz,
        gpu_load=gpu_load,
        gpu_clocks_hz=gpu_clocks_hz,
        emc_load=emc_load,
        emc_clock_hz=emc_clocks_hz[0] if emc_clocks_hz else None,
    )
    return found if _is_told(found) else _refused(text)


def _decoded(line: str | bytes) -> str:
    """Text without the byte order marks, and the NULs that UTF-16 has between letters."""
    if isinstance(line, bytes):
        line = line.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").decode("utf-8", errors="replace")
    return line.replace("\0", "").replace("\ufeff", "")


def _rails(text: str) -> dict[str, RailPower]:
    """Rails by name. Without `mW` and a second number it may be anything, such as `APE 174`."""
    found = [match for match in _RAIL.finditer(text) if match["unit"] or match["mean"]]
    return {
        match["name"]: RailPower(int(match["now"]) / 1e3, _watts(match["mean"]), _watts(match["peak"]))
        for match in found
        if match["name"] != NOT_CONNECTED and match["name"] not in _NO_RAILS
    }


def _watts(milliwatts: str | None) -> float | None:
    return None if milliwatts is None else int(milliwatts) / 1e3


def _celsius(text: str) -> float | None:
    value_c = float(text)
    return value_c if value_c > OFF_C else None


def _bytes(match: re.Match[str] | None, number: str, unit: str) -> int | None:
    return int(match[number]) * _BYTES[match[unit]] if match is not None and match[number] is not None else None


def _load_and_clocks(pattern: re.Pattern[str], text: str) -> tuple[float | None, tuple[int, ...] | None]:
    """Load as a share, and clocks in Hz."""
    match = pattern.search(text)
    if match is None:
        return None, None
    clocks = match["clock"] or match["clocks"]
    return _share(match["load"]), tuple(map(_hertz, clocks.split(","))) if clocks else None


def _cores(text: str) -> tuple[tuple[float | None, ...] | None, tuple[int | None, ...] | None]:
    """Loads and clocks of the cores; of a cut line without the core that was cut."""
    match = _CPU.search(text)
    if match is None:
        return None, None
    parts = match["cores"].split(",")
    cores = [_CORE.fullmatch(part.strip()) for part in (parts if match["end"] else parts[:-1])]
    loads = tuple(_share(core["load"]) if core else None for core in cores)
    clocks = tuple((core["clock"] or match["clock"]) if core else None for core in cores)
    clocks_hz = tuple(None if clock is None else _hertz(clock) for clock in clocks)
    return loads or None, clocks_hz or None


def _share(percent: str | None) -> float | None:
    return int(percent) / 100 if percent is not None and int(percent) <= 100 else None


def _hertz(megahertz: str) -> int:
    return int(megahertz) * 10**6


def _iso(printed: str) -> str | None:
    try:
        return datetime.strptime(printed, "%m-%d-%Y %H:%M:%S").isoformat()  # noqa: DTZ007 - tegrastats tells no zone
    except ValueError:
        return None


def _is_told(found: Line) -> bool:
    """Whether anything in it is printed by tegrastats alone; `step 5/10` could be a rail of an old release."""
    others = (found.memory_used_bytes, found.cpu_loads, found.gpu_load, found.gpu_clocks_hz, found.emc_load)
    return bool(
        any(other is not None for other in others)
        or found.temperatures_c
        or any(_RAIL_NAME.match(name) for name in found.rails)
    )


def _refused(text: str) -> NotTegrastats:
    if not text:
        return NotTegrastats("an empty line", blank=True)
    return NotTegrastats(f"not a line of tegrastats: {text[:60]!a}{'...' if len(text) > 60 else ''}")
