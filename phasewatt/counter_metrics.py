"""The hardware counters that are asked for, by Nsight Compute's own names: what each tells, and what weighs it. Pure.

A name and its meaning hold from compute capability 8.0 on where the row says nothing else; which of them a GPU has,
the tool itself is asked before a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

TIME = "gpu__time_duration.sum"
ISSUES = "smsp__issue_active.sum"  # cycles in which a scheduler issued
L1_SECTORS = "l1tex__t_sectors.sum"
L2_SECTORS = "lts__t_sectors.sum"
DRAM_BYTES = "dram__bytes.sum"
L1_HITS = "l1tex__t_sector_hit_rate.pct"
L2_HITS = "lts__t_sector_hit_rate.pct"
DRAM_BUSY = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
SM_BUSY = "sm__throughput.avg.pct_of_peak_sustained_elapsed"
ISSUE_BUSY = "smsp__issue_active.avg.pct_of_peak_sustained_active"
OCCUPANCY = "sm__warps_active.avg.pct_of_peak_sustained_active"
OCCUPANCY_LIMIT = "sm__maximum_warps_per_active_cycle_pct"
REGISTERS = "launch__registers_per_thread"
TENSOR_BUSY = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"
WARPS_PER_ISSUE = "smsp__average_warps_active_per_issue_active.ratio"

Capability = tuple[int, int]  # compute capability, (9, 0) for "9.0"
_FIRST: Capability = (8, 0)


class Metric(NamedTuple):
    """One counter: its name, what it tells, and the counter that a mean over kernels is weighted by."""

    name: str
    about: str
    weight: str = TIME  # a ratio is weighted by what it is a ratio of, so that the mean is that of all kernels together
    since: Capability = _FIRST
    total: bool = False  # summed over kernels, not averaged


class Stall(NamedTuple):
    """One reason for which a warp did not issue, by Nsight Compute's word for it."""

    reason: str
    since: Capability = _FIRST

    @property
    def metric(self) -> str:
        """Warps that wait so, on average, in a cycle in which one issues."""
        return f"smsp__average_warps_issue_stalled_{self.reason}_per_issue_active.ratio"


# Source: Nsight Compute, Profiling Guide, "Warp Scheduler States"; `gmma` by its section files for 9.0, and what a
# version of it does not count so, its own list of counters tells.
STALLS = (
    Stall("barrier"),
    Stall("branch_resolving"),
    Stall("dispatch_stall"),
    Stall("drain"),
    Stall("gmma", since=(9, 0)),
    Stall("imc_miss"),
    Stall("lg_throttle"),
    Stall("long_scoreboard"),
    Stall("math_pipe_throttle"),
    Stall("membar"),
    Stall("mio_throttle"),
    Stall("misc"),
    Stall("no_instruction"),
    Stall("not_selected"),
    Stall("short_scoreboard"),
    Stall("sleeping"),
    Stall("tex_throttle"),
    Stall("wait"),
    Stall("warpgroup_arrive", since=(9, 0)),
)
SELECTED = Stall("selected").metric  # the warp that issues: no stall, and 1 by definition

_PIPES = {
    "sm__inst_executed_pipe_alu.avg.pct_of_peak_sustained_active": "integer and logic pipe in use",
    "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active": "float32 pipe in use",
    "sm__inst_executed_pipe_lsu.avg.pct_of_peak_sustained_active": "load and store pipe in use",
}

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(TIME, "time of the kernel, apart from others", total=True),
        Metric(DRAM_BYTES, "bytes to and from DRAM", total=True),
        Metric(DRAM_BUSY, "DRAM bandwidth in use, of its peak"),
        Metric(SM_BUSY, "busiest part of the SMs, of its peak"),
        Metric(L2_SECTORS, "sectors that L2 was asked for", total=True),
        Metric(L2_HITS, "L2 hit rate", weight=L2_SECTORS),
        Metric(L1_SECTORS, "sectors that L1 was asked for", total=True),
        Metric(L1_HITS, "L1 hit rate", weight=L1_SECTORS),
        Metric(ISSUES, "cycles in which a scheduler issued", total=True),
        Metric(ISSUE_BUSY, "issue slots in use"),
        Metric(TENSOR_BUSY, "tensor pipe in use"),
        *(Metric(name, about) for name, about in _PIPES.items()),
        Metric(OCCUPANCY, "warps resident, of the most that an SM holds"),
        Metric(OCCUPANCY_LIMIT, "warps that the launch allows, of the most that an SM holds"),
        Metric(REGISTERS, "registers a thread"),
        Metric(WARPS_PER_ISSUE, "warps resident a cycle in which one issues", weight=ISSUES),
        *(Metric(stall.metric, f"stalled: {stall.reason}", weight=ISSUES, since=stall.since) for stall in STALLS),
    )
}


def asked(capability: Capability | None) -> tuple[str, ...]:
    """The counters to ask a GPU for; those of every one where its compute capability is not known."""
    return tuple(metric.name for metric in METRICS.values() if metric.since <= (capability or _FIRST))


def capability_of(text: str | None) -> Capability | None:
    """Compute capability from "9.0"; None where it is none."""
    major, dot, minor = (text or "").partition(".")
    return (int(major), int(minor)) if dot and major.isdecimal() and minor.isdecimal() else None


def is_stall(name: str) -> bool:
    """Whether it tells for what warps waited."""
    return "issue_stalled" in name


def is_pipe(name: str) -> bool:
    """Whether it tells how busy a pipe was."""
    return "pipe_" in name and not is_stall(name)


def base_of(name: str) -> str:
    """The counter that a metric is made of, as the tool lists it: what stands before the first dot."""
    return name.partition(".")[0]
