"""Which files a board has, and what stands in them: the layouts of L4T R36 and R38. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from agent.simulated.boards import INA3221, Board, Chip, Rail
from agent.simulated.files import Content, Trouble
from agent.simulated.sensor import Shown

_AMBIENT_C, _WARMS_C = 36.0, 34.0
_FAN_MOST = 255
_ALERTS = ("cpu", "gpu", "soc")
_HELD = 3  # over-current inputs


class State(NamedTuple):
    """How busy and how warm a board is: shares of 1."""

    load: float
    warmth: float


class Monitor(NamedTuple):
    """A power monitor's place and rails, by channel."""

    address: str
    number: int  # of its hwmon folder
    chip: Chip
    rails: Mapping[int, Rail]

    @property
    def device(self) -> str:
        """Its device folder."""
        bus = self.address.partition("-")[0]
        return f"sys/devices/platform/c240000.i2c/i2c-{bus}/{self.address}"

    @property
    def folder(self) -> str:
        """Its hwmon folder."""
        return f"{self.device}/hwmon/hwmon{self.number}"


def monitors(board: Board) -> list[Monitor]:
    """The monitors of a board in the order of their addresses."""
    addresses = sorted({rail.address for rail in board.rails})
    found = [[rail for rail in board.rails if rail.address == address] for address in addresses]
    return [
        Monitor(rails[0].address, number, rails[0].chip, {rail.channel: rail for rail in rails})
        for number, rails in enumerate(found, 1)
    ]


def links(board: Board) -> dict[str, str]:
    """Folders that are found under several paths."""
    found = {}
    for monitor in monitors(board):
        found[f"sys/bus/i2c/drivers/{monitor.chip.driver}/{monitor.address}"] = monitor.device
        found[f"sys/bus/i2c/devices/{monitor.address}"] = monitor.device
        found[f"sys/class/hwmon/hwmon{monitor.number}"] = monitor.folder
        found[f"{monitor.folder}/device"] = monitor.device
    return found


def fixed(board: Board) -> dict[str, Content]:
    """Files that stay as they are."""
    return {**_identity(board), **_modes(board), **_memory(board), **dict(_labels(board)), **dict(_cooling(board))}


def rails(board: Board, shown: Sequence[Shown]) -> dict[str, Content]:
    """What the power monitors show."""
    by_rail = dict(zip(board.rails, shown, strict=True))
    found: dict[str, Content] = {}
    for monitor in monitors(board):
        values = {channel: by_rail[rail] for channel, rail in monitor.rails.items()}
        found |= _ina3221(monitor.folder, values) if monitor.chip is INA3221 else _ina238(monitor.folder, values[1])
    return found


def state(board: Board, now: State) -> dict[str, Content]:
    """Clocks, loads, temperatures and fan."""
    return {**_clocks(board, now.load), **_temperatures(board, now.warmth), **_fan(board, now.warmth)}


def faults(board: Board, present: frozenset[str], contents: Mapping[str, Content]) -> dict[str, Content]:
    """`contents` with the faults of these names, see `fault_names`."""
    spoiled = dict(contents)
    for monitor, (channel, rail) in ((m, each) for m in monitors(board) for each in m.rails.items()):
        for path in spoiled.keys() & {f"{monitor.folder}/{name}" for name in _rail_files(monitor.chip, channel)}:
            if f"rail-{rail.label}" in present:
                spoiled[path] = Trouble.ABSENT
            elif f"current-{rail.label}" in present and not path.endswith(("_label", f"in{channel}_input")):
                spoiled[path] = Trouble.UNREADABLE
    for index, zone in enumerate(board.zones):
        path = f"sys/class/thermal/thermal_zone{index}/temp"
        if f"zone-{zone}" in present and path in spoiled:
            spoiled[path] = Trouble.UNREADABLE
    return spoiled


def fault_names(board: Board) -> list[str]:
    """The faults that a board can have: a file of that name in its folder `faults` makes one."""
    of_rails = [f"{kind}-{rail.label}" for kind in ("rail", "current") for rail in board.rails]
    return [*of_rails, *(f"zone-{zone}" for zone in board.zones), "tegrastats"]


def _rail_files(chip: Chip, channel: int) -> tuple[str, ...]:
    beside = ("power1_input", "label") if chip is not INA3221 else (f"in{channel}_label",)
    return (f"in{channel}_input", f"curr{channel}_input", *beside)


def _identity(board: Board) -> dict[str, Content]:
    major, _, revision = board.release.partition(".")
    return {
        "proc/device-tree/model": f"{board.model}\0",
        "proc/device-tree/compatible": "".join(f"{name}\0" for name in board.compatible),
        "proc/device-tree/serial-number": "0000000000000\0",
        "etc/nv_tegra_release": f"# R{major} (release), REVISION: {revision}, GCID: 0, BOARD: generic, EABI: aarch64\n"
        "# KERNEL_VARIANT: oot\n",
    }


def _modes(board: Board) -> dict[str, Content]:
    models = "".join(
        f"< POWER_MODEL ID={number} NAME={mode.name} >\nGPU MAX_FREQ {mode.gpu_most_hz}\n\n"
        for number, mode in enumerate(board.modes)
    )
    return {
        "etc/nvpmodel.conf": f"{models}< PM_CONFIG DEFAULT={board.mode} >\n",
        "var/lib/nvpmodel/status": f"pmode:{board.mode:04d}",
    }


def _memory(board: Board) -> dict[str, Content]:
    total, swap = board.memory_kib, board.memory_kib // 2
    figures = {
        "MemTotal": total,
        "MemFree": total * 5 // 10,
        "MemAvailable": total * 7 // 10,
        "Buffers": total // 100,
        "Cached": total * 2 // 10,
        "SwapTotal": swap,
        "SwapFree": swap,
    }
    return {"proc/meminfo": "".join(f"{f'{name}:':15} {kib:>10} kB\n" for name, kib in figures.items())}


def _labels(board: Board) -> Iterator[tuple[str, Content]]:
    for monitor in monitors(board):
        yield f"{monitor.folder}/name", f"{monitor.chip.driver}\n"
        if monitor.chip is not INA3221:
            (rail,) = monitor.rails.values()
            yield f"{monitor.folder}/label", f"{rail.label}\n"
            yield f"{monitor.folder}/shunt_resistor", f"{rail.shunt_ohm * 1e6:.0f}\n"
            continue
        for channel in range(1, monitor.chip.channels + 1):
            known = monitor.rails.get(channel)
            shunt_ohm = next(iter(monitor.rails.values())).shunt_ohm
            yield f"{monitor.folder}/in{channel}_label", f"{known.label if known else 'NC'}\n"
            yield f"{monitor.folder}/in{channel}_enable", f"{int(known is not None)}\n"
            yield f"{monitor.folder}/shunt{channel}_resistor", f"{shunt_ohm * 1e6:.0f}\n"
            yield f"{monitor.folder}/curr{channel}_crit", "32760\n"
            yield f"{monitor.folder}/curr{channel}_max", "32760\n"
        yield f"{monitor.folder}/in7_label", "sum of shunt voltages\n"
        yield f"{monitor.folder}/samples", "1\n"


def _ina3221(folder: str, shown: Mapping[int, Shown]) -> dict[str, Content]:
    """Voltages and currents; beside them what must not be taken for rails: shunt voltages (in4 to in6) and sums."""
    found: dict[str, Content] = {}
    for channel in range(1, INA3221.channels + 1):
        value = shown.get(channel)
        found[f"{folder}/in{channel}_input"] = f"{value.bus_mv}\n" if value else Trouble.UNREADABLE
        found[f"{folder}/curr{channel}_input"] = f"{value.current_ma}\n" if value else Trouble.UNREADABLE
        found[f"{folder}/in{channel + 3}_input"] = f"{value.shunt_uv}\n" if value else Trouble.UNREADABLE
    found[f"{folder}/in7_input"] = f"{sum(value.shunt_uv for value in shown.values())}\n"
    found[f"{folder}/curr4_input"] = f"{sum(value.current_ma for value in shown.values())}\n"
    return found


def _ina238(folder: str, shown: Shown) -> dict[str, Content]:
    return {
        f"{folder}/in0_input": f"{shown.shunt_uv // 1000}\n",
        f"{folder}/in1_input": f"{shown.bus_mv}\n",
        f"{folder}/curr1_input": f"{shown.current_ma}\n",
        f"{folder}/power1_input": f"{shown.power_uw}\n",
    }


def _clocks(board: Board, load: float) -> dict[str, Content]:
    most_hz = board.modes[board.mode].gpu_most_hz
    allowed_hz = [hz for hz in board.clocks.gpu_hz if hz <= most_hz] or [most_hz]
    gpu_hz = allowed_hz[round(load * (len(allowed_hz) - 1))]
    gpu = f"sys/class/devfreq/{board.gpu}"
    found: dict[str, Content] = {
        f"{gpu}/cur_freq": f"{gpu_hz}\n",
        f"{gpu}/min_freq": f"{board.clocks.gpu_hz[0]}\n",
        f"{gpu}/max_freq": f"{most_hz}\n",
        f"{gpu}/governor": "nvhost_podgov\n",
        f"{gpu}/available_frequencies": f"{' '.join(map(str, board.clocks.gpu_hz))}\n",
        board.gpu_load: f"{round(load * 1000)}\n",
        "sys/devices/system/cpu/online": f"0-{board.cpus - 1}\n",
    }
    least_hz, cpu_most_hz = board.clocks.cpu_hz
    for first, after in itertools.pairwise((*board.cpu_clusters, board.cpus)):
        policy = f"sys/devices/system/cpu/cpufreq/policy{first}"
        now_hz = least_hz + round(load * (cpu_most_hz - least_hz) / 3)
        found[f"{policy}/affected_cpus"] = f"{' '.join(map(str, range(first, after)))}\n"
        found[f"{policy}/scaling_cur_freq"] = f"{now_hz // 1000}\n"
        found[f"{policy}/scaling_min_freq"] = f"{least_hz // 1000}\n"
        found[f"{policy}/scaling_max_freq"] = f"{cpu_most_hz // 1000}\n"
        found[f"{policy}/scaling_governor"] = "schedutil\n"
    return found | _emc(board, load)


def _emc(board: Board, load: float) -> dict[str, Content]:
    least_hz, most_hz = board.clocks.emc_hz
    devfreq = board.emc.startswith("sys/class/devfreq")
    names = ("cur_freq", "min_freq", "max_freq") if devfreq else ("rate", "min_rate", "max_rate")
    values_hz = (most_hz if load > 0.1 else least_hz, least_hz, most_hz)
    beside: dict[str, Content] = {} if devfreq else {f"{board.emc}/mrq_rate_locked": "0\n"}
    return beside | {f"{board.emc}/{name}": f"{hz}\n" for name, hz in zip(names, values_hz, strict=True)}


def _temperatures(board: Board, warmth: float) -> dict[str, Content]:
    found: dict[str, Content] = {}
    for index, zone in enumerate((*board.zones, *board.gated_zones)):
        above_c = 0.5 * index if zone != "tj-thermal" else 0.5 * len(board.zones)  # the hottest of all
        tenths = round((_AMBIENT_C + _WARMS_C * warmth + above_c) * 10)
        folder = f"sys/class/thermal/thermal_zone{index}"
        found[f"{folder}/type"] = f"{zone}\n"
        found[f"{folder}/temp"] = Trouble.UNREADABLE if zone in board.gated_zones else f"{tenths * 100}\n"
    return found


def _fan(board: Board, warmth: float) -> dict[str, Content]:
    number = len(monitors(board)) + 1
    return {f"sys/class/hwmon/hwmon{number}/pwm1": f"{round(_FAN_MOST * min(1.0, 0.2 + warmth * 0.6))}\n"}


def _cooling(board: Board) -> Iterator[tuple[str, Content]]:
    """The fan and the throttle alerts as cooling devices, and the over-current counters."""
    for index, name in enumerate(("pwm-fan", *(f"{part}-throttle-alert" for part in _ALERTS), "hot-surface-alert")):
        yield f"sys/class/thermal/cooling_device{index}/type", f"{name}\n"
        yield f"sys/class/thermal/cooling_device{index}/cur_state", "0\n"
        yield f"sys/class/thermal/cooling_device{index}/max_state", "1\n"
    fan, over_current = len(monitors(board)) + 1, len(monitors(board)) + 2
    yield f"sys/class/hwmon/hwmon{fan}/name", "pwmfan\n"
    yield f"sys/class/hwmon/hwmon{over_current}/name", "soctherm_oc\n"
    for count in range(1, _HELD + 1):
        yield f"sys/class/hwmon/hwmon{over_current}/oc{count}_event_cnt", "0\n"
