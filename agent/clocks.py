"""The clocks of a host: GPU by devfreq, CPUs by cpufreq, memory by the firmware's debug files or devfreq."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.kernel_files import matching, number, text
from phasewatt.conditions import ClockState

MOST_POLICIES = 8  # more, and those that are set alike are told as one
_MOST_CLOCKS = 16
_DEVFREQ = "sys/class/devfreq"
_GPU = re.compile(r"gpu|ga10b|gp10b|gv11b|gm20b")  # 17000000.gpu, 17000000.ga10b, gpu-gpc-0
_NO_GPU_CORE = re.compile(r"nvd")  # Thor's video engines are a clock of the GPU too
_EMC = re.compile(r"emc|bwmgr")  # Thor has the latter
_EMC_DEBUG = (  # need root
    ("sys/kernel/debug/bpmp/debug/clk/emc", ("rate", "min_rate", "max_rate")),
    ("sys/kernel/debug/clk/emc", ("clk_rate", "clk_min_rate", "clk_max_rate")),
)


class ClockFiles(NamedTuple):
    """Where one clock is told."""

    name: str
    folder: Path
    figures: tuple[str, str, str]  # now, least, most
    unit_hz: int  # that the figures are in
    governor: str | None = None
    held: str | None = None  # 1 in it: the clock stays where it is, whatever its limits

    def read(self) -> ClockState:
        """The clock now."""
        now_hz, least_hz, most_hz = (self._hz(figure) for figure in self.figures)
        if self.held is not None and number(self.folder / self.held) == 1:
            least_hz = most_hz = now_hz
        governor = None if self.governor is None else text(self.folder / self.governor)
        return ClockState(name=self.name, now_hz=now_hz, least_hz=least_hz, most_hz=most_hz, governor=governor)

    def now_hz(self) -> int | None:
        """The clock now in Hz, and nothing else."""
        return self._hz(self.figures[0])

    def _hz(self, figure: str) -> int | None:
        value = number(self.folder / figure)
        return None if value is None or value < 0 else value * self.unit_hz


class Clocks:
    """The clocks under a root: found once, read whenever they are asked for."""

    def __init__(self, root: Path) -> None:
        self.gpu = next(iter(_devfreq(root, "gpu", _GPU)), None)
        self.cpus = tuple(_policies(root))
        self.memory = _memory(root)

    def read(self) -> tuple[ClockState, ...]:
        """Every clock now; on a host of many cores those that are set alike as one, whose `now_hz` is their mean."""
        cpus = [policy.read() for policy in self.cpus]
        merged = cpus if len(cpus) <= MOST_POLICIES else _merged(cpus)
        others = [clock.read() for clock in (self.gpu, self.memory) if clock is not None]
        return (*others, *merged)[:_MOST_CLOCKS]

    def cpu_hz(self) -> float | None:
        """Mean clock of the CPUs in Hz, of a few policies across a large host: reading one wakes its core."""
        apart = -(-len(self.cpus) // MOST_POLICIES) or 1
        known = [hz for policy in self.cpus[::apart] if (hz := policy.now_hz()) is not None]
        return statistics.fmean(known) if known else None


def _devfreq(root: Path, name: str, pattern: re.Pattern[str]) -> Iterator[ClockFiles]:
    for folder in matching(root / _DEVFREQ, "*"):
        if pattern.search(folder.name) and not _NO_GPU_CORE.search(folder.name):
            yield ClockFiles(name, folder, ("cur_freq", "min_freq", "max_freq"), 1, "governor")


def _policies(root: Path) -> Iterator[ClockFiles]:
    cpus = root / "sys/devices/system/cpu"
    folders = matching(cpus, "cpufreq/policy[0-9]*") or matching(cpus, "cpu[0-9]*/cpufreq")
    figures = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq")
    for index, folder in sorted((_cpu_of(folder), folder) for folder in folders):
        yield ClockFiles(f"cpu{index}", folder, figures, 1000, "scaling_governor")  # cpufreq tells kHz


def _cpu_of(folder: Path) -> int:
    """The first CPU of a policy: it gives the folder its name."""
    named = folder.name if folder.name.startswith("policy") else folder.parent.name
    return int(re.sub(r"[^0-9]", "", named) or 0)


def _memory(root: Path) -> ClockFiles | None:
    for folder, figures in _EMC_DEBUG:
        clock = ClockFiles("emc", root / folder, figures, 1, held="mrq_rate_locked")
        if clock.now_hz() is not None:
            return clock
    return next(iter(_devfreq(root, "emc", _EMC)), None)


def _merged(cpus: Sequence[ClockState]) -> Iterable[ClockState]:
    alike: dict[tuple[int | None, int | None, str | None], list[ClockState]] = {}
    for cpu in cpus:
        alike.setdefault((cpu.least_hz, cpu.most_hz, cpu.governor), []).append(cpu)
    for (least_hz, most_hz, governor), group in alike.items():
        known = [cpu.now_hz for cpu in group if cpu.now_hz is not None]
        yield ClockState(
            name="cpu" if len(alike) == 1 else _name(group),
            now_hz=round(statistics.fmean(known)) if known else None,
            least_hz=least_hz,
            most_hz=most_hz,
            governor=governor,
        )


def _name(group: Sequence[ClockState]) -> str:
    return group[0].name if len(group) == 1 else f"{group[0].name} and {len(group) - 1} like it"
