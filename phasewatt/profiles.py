"""Where the time of a phase went, and what a machine can do at most: apart from the passes of timing and energy."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from phasewatt.fields import Count, Label, Phase, Positive, Record, Text

Figure = Annotated[float, Meta(ge=-1e30, le=1e30)]
TRUNCATED = "truncated"  # in the reason of a profile that lacks kernels


class KernelTime(Record, frozen=True):
    """One kernel, or one operation of a CPU, by its own name."""

    name: Label
    device_ns: Count
    launches: Positive


class OperatorTime(Record, frozen=True):
    """The kernels of one operator, all layers and repetitions together."""

    operator: Label  # a value of `operators.Operator`
    device_ns: Count
    launches: Positive


class OperatorProfile(Record, frozen=True):
    """Where the device-busy time of one phase went.

    Kernels that overlap count for themselves, so the operators and the unattributed together may be above `busy_ns`;
    and what is told of a GPU by operator and as a whole are two passes, which never take quite the same time.
    """

    phase: Phase
    tool: Label  # "torch.profiler"
    tool_version: Label | None
    processor: Label  # "cuda" or "cpu": of a CPU, operations by their own time are what kernels are of a GPU
    kv_start: Count  # as in a PhaseRun; of decode it may be a stretch in the middle of the run's depths
    kv_end: Count
    repetitions: Count  # profiled; 0: see reason
    operators: tuple[OperatorTime, ...] = ()
    unattributed_ns: Count = 0  # kernels that no operator could be found for ...
    unattributed: tuple[KernelTime, ...] = ()  # ... the longest of them
    busy_ns: Count = 0  # union of all kernels and copies; of a GPU, in as many repetitions without ranges
    elapsed_ns: Count = 0  # of the same: from the first kernel's start to the last one's end; what is not busy are gaps
    reason: Text | None = None  # why there is nothing, or what it lacks: "truncated: ..."

    @property
    def is_truncated(self) -> bool:
        """Whether it lacks kernels, so that its times are too short."""
        return self.reason is not None and TRUNCATED in self.reason


class OperatorCounters(Record, frozen=True):
    """Hardware counters over the kernels of one operator, or over those of none."""

    operator: Label | None  # a value of `operators.Operator`; None: kernels that no operator could be found for
    kernels: Positive
    time_ns: Count  # as the counter tool saw it, which serialises kernels
    # By the tool's own metric name. Totals are summed over kernels; a mean is weighted by what its counter is a
    # ratio of (a hit rate by lookups, stalls by cycles in which one issued), and by time where it is a share of time.
    values: dict[Label, Figure] = field(default_factory=dict)


class CounterProfile(Record, frozen=True):
    """Hardware counters of one phase, by operator."""

    phase: Phase
    tool: Label  # "ncu"
    tool_version: Label | None
    compute_capability: Label | None  # "9.0": which architecture the metric names are of
    kv_start: Count
    kv_end: Count
    repetitions: Count  # 0: see reason
    operators: tuple[OperatorCounters, ...] = ()
    units: dict[Label, Label] = field(default_factory=dict)  # of each metric, as the tool writes them
    missing: dict[Label, Text] = field(default_factory=dict)  # metrics that were asked for, and why they have no value
    reason: Text | None = None  # why there is nothing, or what it lacks


class Ceiling(Record, frozen=True):
    """What this machine did at most of one kind of work, measured."""

    work: Label  # "matmul", "copy", "read" (a matrix times a vector), "launch" (a kernel that does nothing)
    unit: Label  # "FLOP/s", "byte/s" (read and written together), "s" (a launch)
    shape: tuple[Positive, ...]  # matmul: m, n, k; read: rows, columns; copy: elements; launch: kernels in a row
    dtype: Label | None
    values: tuple[Figure, ...] = ()  # one a repetition; empty: see reason
    processor: Label = "cuda"  # or "cpu"
    threads: Positive | None = None  # of a CPU
    clock_hz: Count | None = None  # of the processor meanwhile
    sheet: Figure | None = None  # the data sheet's figure at that clock, in `unit`; None: none is known for this board
    sheet_source: Text | None = None
    reason: Text | None = None  # why there is no value
