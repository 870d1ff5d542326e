"""The boards that can be simulated: identity, rails and their monitors, modes, clocks and zones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Chip(NamedTuple):
    """A power monitor: its least steps, and when it looks."""

    driver: str
    shunt_step_v: float
    bus_step_v: float
    conversion_s: float  # shunt and bus voltage of one channel, one after the other
    channels: int


# Source: TI INA3221 (SBOS576) and INA238 (SBOSA20) datasheets: steps, and conversion times after power-on.
INA3221 = Chip("ina3221", shunt_step_v=40e-6, bus_step_v=8e-3, conversion_s=0.0022, channels=3)
INA238 = Chip("ina238", shunt_step_v=5e-6, bus_step_v=3.125e-3, conversion_s=0.0021, channels=1)

# Assumed of every board, since no maker's word is known: values are new ten times a second (readers of real boards saw
# them repeat above that), are not averaged beyond one conversion (the chips' state after power-on, which the Linux
# driver keeps), and reach the files 5 ms after the last channel's conversion, give or take.
PERIOD_S = 0.1
LAG_S = 0.005
JITTER_S = 0.002


class Rail(NamedTuple):
    """A rail, where it is read, and how its power follows the module's."""

    label: str
    address: str  # bus and address of its monitor, such as "1-0040"
    channel: int
    bus_v: float
    shunt_ohm: float
    share: float  # of the module's power
    base_w: float = 0.0  # beside that
    counts: bool = True  # a part of the module's power; False: inside another rail, or around the module
    chip: Chip = INA3221
    told: bool = True  # whether tegrastats names it

    @property
    def step_w(self) -> float:
        """The step of its power in watts at its nominal voltage."""
        return self.chip.shunt_step_v / self.shunt_ohm * self.bus_v


class Mode(NamedTuple):
    """An nvpmodel mode and the GPU clock that it allows."""

    name: str
    gpu_most_hz: int


class Clocks(NamedTuple):
    """What the clocks range over."""

    gpu_hz: tuple[int, ...]
    cpu_hz: tuple[int, int]
    emc_hz: tuple[int, int]


class Board(NamedTuple):
    """A module on its developer kit."""

    name: str
    model: str
    compatible: tuple[str, ...]
    release: str  # of L4T, such as "36.4.3"
    rails: tuple[Rail, ...]
    power_w: tuple[float, float]  # idle and busy module
    modes: tuple[Mode, ...]
    mode: int  # the one it is in
    clocks: Clocks
    cpus: int
    cpu_clusters: tuple[int, ...]  # first CPU of each
    memory_kib: int
    gpu: str  # name of its devfreq device
    gpu_load: str  # where its load is told
    gpcs: int  # parts of the GPU, each with a clock
    emc: str  # where the memory's clock is told
    zones: tuple[str, ...]
    gated_zones: tuple[str, ...]  # without power: they cannot be read


_ORIN_ZONES = ("cpu-thermal", "gpu-thermal", "soc0-thermal", "soc1-thermal", "soc2-thermal", "tj-thermal")
_ORIN_GATED = ("cv0-thermal", "cv1-thermal", "cv2-thermal")
_ORIN_EMC = "sys/kernel/debug/bpmp/debug/clk/emc"
_ORIN_GPU = ("17000000.gpu", "sys/devices/platform/bus@0/17000000.gpu/load")


def _hz(*megahertz: float) -> tuple[int, ...]:
    return tuple(round(each * 1e6) for each in megahertz)


# Shunts, addresses and channels. Source: Linux device trees tegra234-p3701-0000.dtsi and tegra234-p3767.dtsi. Those of
# Thor are taken from the steps of its published readings (392 mW at about 20 V), the shunt of its VIN is assumed.
# Shares of the module's power are assumed, in the proportions of recorded loads.
_AGX_ORIN_RAILS = (
    Rail("VDD_GPU_SOC", "1-0040", 1, 19.98, 0.002, share=0.5),
    Rail("VDD_CPU_CV", "1-0040", 2, 19.98, 0.002, share=0.2),
    Rail("VIN_SYS_5V0", "1-0040", 3, 5.02, 0.002, share=0.3),
    Rail("VDDQ_VDD2_1V8AO", "1-0041", 2, 5.02, 0.002, share=0.1, counts=False, told=False),
)
_NX_RAILS = (
    Rail("VDD_IN", "1-0040", 1, 5.0, 0.005, share=1.0),
    Rail("VDD_CPU_GPU_CV", "1-0040", 2, 5.0, 0.005, share=0.45, counts=False),
    Rail("VDD_SOC", "1-0040", 3, 5.0, 0.005, share=0.2, counts=False),
)
_THOR_RAILS = (
    Rail("VDD_GPU", "2-0040", 1, 19.62, 0.002, share=0.5),
    Rail("VDD_CPU_SOC_MSS", "2-0040", 2, 19.62, 0.002, share=0.3),
    Rail("VIN_SYS_5V0", "2-0040", 3, 5.08, 0.002, share=0.2),
    Rail("VIN", "2-0044", 1, 19.75, 0.002, share=1.08, base_w=6.0, counts=False, chip=INA238),
)

BOARDS: Mapping[str, Board] = {
    "agx-orin": Board(
        name="Jetson AGX Orin 64GB",
        model="NVIDIA Jetson AGX Orin Developer Kit",
        compatible=("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"),
        release="36.4.3",
        rails=_AGX_ORIN_RAILS,
        power_w=(12.0, 45.0),
        modes=tuple(map(Mode, ("MAXN", "MODE_15W", "MODE_30W", "MODE_50W"), _hz(1300.5, 420.75, 624.75, 828.75))),
        mode=3,
        clocks=Clocks(
            _hz(306, 408, 510, 612, 714, 816, 918, 1020, 1122, 1300.5), (729600000, 2201600000), (204000000, 3199000000)
        ),
        cpus=12,
        cpu_clusters=(0, 4, 8),
        memory_kib=64349000,
        gpu=_ORIN_GPU[0],
        gpu_load=_ORIN_GPU[1],
        gpcs=2,
        emc=_ORIN_EMC,
        zones=_ORIN_ZONES,
        gated_zones=_ORIN_GATED,
    ),
    "orin-nx": Board(
        name="Jetson Orin NX 16GB",
        model="NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        compatible=("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"),
        release="36.4.3",
        rails=_NX_RAILS,
        power_w=(6.0, 25.0),
        modes=tuple(map(Mode, ("MAXN", "10W", "15W", "25W"), _hz(918, 612, 612, 408))),
        mode=0,
        clocks=Clocks(_hz(306, 408, 510, 612, 714, 816, 918), (729600000, 1984000000), (204000000, 3199000000)),
        cpus=8,
        cpu_clusters=(0, 4),
        memory_kib=15989000,
        gpu=_ORIN_GPU[0],
        gpu_load=_ORIN_GPU[1],
        gpcs=1,
        emc=_ORIN_EMC,
        zones=_ORIN_ZONES,
        gated_zones=_ORIN_GATED,
    ),
    "orin-nano": Board(
        name="Jetson Orin Nano 8GB",
        model="NVIDIA Jetson Orin Nano Developer Kit",
        compatible=("nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"),
        release="36.4.3",
        rails=_NX_RAILS,
        power_w=(4.0, 15.0),
        modes=tuple(map(Mode, ("15W", "7W"), _hz(624.75, 408))),
        mode=0,
        clocks=Clocks(_hz(306, 408, 510, 624.75), (729600000, 1510400000), (204000000, 2133000000)),
        cpus=6,
        cpu_clusters=(0, 4),
        memory_kib=7802000,
        gpu=_ORIN_GPU[0],
        gpu_load=_ORIN_GPU[1],
        gpcs=1,
        emc=_ORIN_EMC,
        zones=_ORIN_ZONES,
        gated_zones=_ORIN_GATED,
    ),
    "thor": Board(
        name="Jetson AGX Thor",
        model="NVIDIA Jetson AGX Thor Developer Kit",
        compatible=("nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"),
        release="38.2.0",
        rails=_THOR_RAILS,
        power_w=(30.0, 110.0),
        modes=tuple(map(Mode, ("MAXN", "120W"), _hz(1575, 1386))),
        mode=1,
        clocks=Clocks(_hz(315, 630, 945, 1260, 1386, 1575), (972000000, 2601000000), (665600000, 4266000000)),
        cpus=14,
        cpu_clusters=(0, 2, 4, 6, 8, 10, 12),
        memory_kib=128790000,
        gpu="gpu-gpc-0",
        gpu_load="sys/devices/platform/gpu.0/load",
        gpcs=3,
        emc="sys/class/devfreq/bwmgr",
        zones=("cpu-thermal", "tj-thermal", "soc012-thermal", "soc345-thermal"),
        gated_zones=("gpu-thermal",),  # while its GPU sleeps
    ),
}
