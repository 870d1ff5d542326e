"""The power monitors of a Jetson in sysfs: INA3221 with three rails each and, on Thor, an INA238 at the board's input.

Every release shows them elsewhere, and the numbers of hwmon devices change at every boot. Beside the rails stand
channels that are none: shunt voltages (in4 to in6), their sum (in7), and inputs that nothing is connected to.
Source: Linux, drivers/hwmon/ina3221.c and ina238.c; the IIO attributes of ina3221x in L4T R32.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.jetson import steps
from agent.kernel_files import matching, whole_number

_DRIVERS = "sys/bus/i2c/drivers"
_HWMON = "sys/class/hwmon"
_NOT_CONNECTED = "NC"
_SHUNT_STEP_V = {"ina3221": 40e-6, "ina238": 5e-6}  # Source: TI SBOS576 and SLYS025, shunt voltage registers
_MOST_W = 1000.0  # no module takes as much
_LONGEST = 256  # bytes of a label or number

Read = Callable[[str], str]


class Rail(NamedTuple):
    """A power rail: the product of what its files say is its power."""

    name: str
    chip: str  # "ina3221" or "ina238"
    place: str  # address of the chip and number of the channel, which outlast a hwmon number
    step_w: float | None
    files: tuple[str, ...]
    scale: float  # watts a unit of that product


class Monitors(NamedTuple):
    """What was found, and which rails there are but switched off, in words."""

    rails: tuple[Rail, ...]
    off: tuple[str, ...]


def read_text(path: str) -> str:
    """A kernel attribute as it is now.

    Opened at every read: that costs 7 us where a register costs half a millisecond, and a device that was unbound
    and came back answers again.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LONGEST).decode(errors="replace").strip()
    finally:
        os.close(descriptor)


def power_w(rail: Rail, read: Read = read_text) -> float:
    """Power of a rail now in watts; below 0 by quantisation where it idles.

    Raises:
        OSError: a file does not answer.
        ValueError: a file holds no number, or one that no rail can have.
    """
    factors = [whole_number(read(file)) for file in rail.files]
    if len(factors) > 1 and factors[0] < 0:
        raise ValueError("a bus voltage below 0")
    power_w = math.prod(factors) * rail.scale
    if abs(power_w) > _MOST_W:
        raise ValueError(f"{power_w:.3g} W")
    return power_w


def find(root: Path, read: Read = read_text) -> Monitors:
    """The rails under `root`, by address and channel; a name that comes again has its place behind it.

    Raises:
        PermissionError: the monitors are there, and may not be read.
    """
    rails: list[Rail] = []
    closed = _closed(root)
    off = [f"{path.name}: may not be looked into" for path in closed]
    for rail, enable in _channels(root, read):
        if _is_off(rail, enable, read):
            off.append(f"{rail.name}: the channel is switched off")
        else:
            known = any(rail.name == other.name for other in rails)
            rails.append(rail._replace(name=f"{rail.name}@{rail.place}") if known else rail)
    if closed and not rails:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(closed[0]))
    return Monitors(tuple(rails), tuple(off))


def _channels(root: Path, read: Read) -> Iterator[tuple[Rail, Path | None]]:
    """Every channel that has a name, and the file that says whether it is on."""
    for address, device in _devices(root, "ina3221", read):
        yield from _ina3221(address, device, read)
    for device in matching(root / _DRIVERS, "ina3221x/*/iio*device*"):
        yield from _ina3221x(device.parent.name, device, read)
    for address, device in _devices(root, "ina238", read):
        yield from _ina238(address, device, read)


def _devices(root: Path, chip: str, read: Read) -> list[tuple[str, Path]]:
    """Each hwmon folder of a chip with its address on the bus."""
    devices = [(path.parent.parent.name, path) for path in matching(root / _DRIVERS, f"{chip}/*/hwmon/hwmon*")]
    if not devices:
        devices = [(_address(path), path) for path in matching(root / _HWMON, "hwmon*") if _is_a(chip, path, read)]
    return sorted(devices)


def _closed(root: Path) -> list[Path]:
    """Folders of monitors that this user may not look into."""
    monitors = matching(root / _DRIVERS, "ina3221*/[0-9]*-[0-9]*") + matching(root / _DRIVERS, "ina238/[0-9]*-[0-9]*")
    return [path for path in monitors if not os.access(path, os.R_OK | os.X_OK)]


def _is_a(chip: str, hwmon: Path, read: Read) -> bool:
    try:
        return read(str(hwmon / "name")) == chip
    except OSError:
        return False


def _address(hwmon: Path) -> str:
    device = hwmon / "device"
    try:
        return device.resolve(strict=True).name
    except OSError:
        return hwmon.name


def _ina3221(address: str, device: Path, read: Read) -> Iterator[tuple[Rail, Path | None]]:
    for number in (1, 2, 3):
        name = _label(device / f"in{number}_label", read)
        if name is None or name == _NOT_CONNECTED:
            continue
        mv, ma = str(device / f"in{number}_input"), str(device / f"curr{number}_input")
        shunt_uohm = _number(device / f"shunt{number}_resistor", read)
        step = _step_w(name, "ina3221", shunt_uohm, _number(Path(mv), read))
        yield Rail(name, "ina3221", f"{address}.{number}", step, (mv, ma), 1e-6), device / f"in{number}_enable"


def _ina3221x(address: str, device: Path, read: Read) -> Iterator[tuple[Rail, Path | None]]:
    for number in (0, 1, 2):
        name = _label(device / f"rail_name_{number}", read)
        if name is None or name == _NOT_CONNECTED:
            continue
        mw = str(device / f"in_power{number}_input")
        yield Rail(name, "ina3221", f"{address}.{number}", steps.step_w(name), (mw,), 1e-3), None


def _ina238(address: str, device: Path, read: Read) -> Iterator[tuple[Rail, Path | None]]:
    labels = (_label(device / name, read) for name in ("in1_label", "power1_label", "label"))
    name = next((label for label in labels if label is not None), "VIN")
    mv, ma, uw = (str(device / f"{quantity}1_input") for quantity in ("in", "curr", "power"))
    files = (uw,) if os.access(uw, os.F_OK) else (mv, ma)
    step = _step_w(name, "ina238", _number(device / "shunt_resistor", read), _number(Path(mv), read))
    yield Rail(name, "ina238", f"{address}.1", step, files, 1e-6), None


def _step_w(name: str, chip: str, shunt_uohm: int | None, bus_mv: int | None) -> float | None:
    """The step of a rail's power at its present voltage, else that of its kind of module."""
    if not shunt_uohm or not bus_mv:
        return steps.step_w(name)
    return round(_SHUNT_STEP_V[chip] / (shunt_uohm * 1e-6) * abs(bus_mv) * 1e-3, 3)


def _is_off(rail: Rail, enable: Path | None, read: Read) -> bool:
    """Whether the kernel says that this channel does not measure."""
    if enable is not None and _number(enable, read) == 0:
        return True
    try:
        power_w(rail, read)
    except OSError as error:
        return error.errno == errno.ENODATA
    except ValueError:
        return False
    return False


def _label(path: Path, read: Read) -> str | None:
    try:
        return read(str(path)) or None
    except PermissionError:
        raise  # it is there, and the user can be told how to get it
    except OSError:
        return None


def _number(path: Path, read: Read) -> int | None:
    try:
        return whole_number(read(str(path)))
    except (OSError, ValueError):
        return None
