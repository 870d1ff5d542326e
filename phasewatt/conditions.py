"""How a trial was run, and the state of the host meanwhile."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from phasewatt.fields import Count, Label, Nanoseconds, NotNegative, Positive, Record


class ClockState(Record, frozen=True):
    """One clock of a host at one moment."""

    name: Label  # "gpu", "cpu0", "emc"
    now_hz: Count | None
    least_hz: Count | None  # what it may not fall below ...
    most_hz: Count | None  # ... or rise above, as set now
    governor: Label | None = None

    @property
    def locked(self) -> bool | None:
        """Whether it cannot move; None: its limits are not told."""
        return None if self.least_hz is None or self.most_hz is None else self.least_hz == self.most_hz


class HostState(Record, frozen=True):
    """What may hold a host's work back, at one moment. What a host does not have is not in the lists."""

    clocks: tuple[ClockState, ...] = ()
    temperatures_c: dict[Label, float | None] = field(default_factory=dict)  # by type of zone; None: no answer
    fans: dict[Label, float] = field(default_factory=dict)  # share of full speed that is asked for
    throttle_alerts: dict[Label, Count] = field(default_factory=dict)  # by cooling device; above 0 it holds back now
    over_current_events: dict[Label, Count] = field(default_factory=dict)  # since boot
    memory_available_bytes: Count | None = None
    swap_used_bytes: Count | None = None


class Cooling(Record, frozen=True):
    """What a trial waited for before it began: a processor no hotter than `limit_c`."""

    limit_c: float
    temperature_c: float | None  # when it began; None: no sensor answered, and it did not wait
    waited_s: NotNegative


class Course(Record, frozen=True):
    """Clock and temperature of the processor while phases ran, in columns."""

    at_ns: tuple[Nanoseconds, ...] = ()
    clock_hz: tuple[Count | None, ...] = ()
    temperature_c: tuple[float | None, ...] = ()
    throttled: tuple[bool | None, ...] = ()  # whether something held it back then; None: this host does not tell


class Conditions(Record, frozen=True):
    """How a trial was run: settings first, then what was observed meanwhile."""

    engine: Label
    mode: Label  # eager, graph or compiled
    accelerator: Label  # "cpu", "cuda"
    processor: Label | None  # name of the GPU, or of the CPU where that does the work
    attention: Label | None = None
    tf32: bool | None = None
    threads: Positive | None = None
    parallelism: Label = "single"
    power_mode: Label | None = None
    power_limit_w: float | None = None
    governor: Label | None = None
    versions: dict[str, Label] = field(default_factory=dict)
    simulated: bool = False  # a fake engine or a replayed meter had a part in it
    clock_hz: tuple[Count | None, Count | None] = (None, None)  # processor clock before, after
    temperature_c: tuple[float | None, float | None] = (None, None)  # before, after
    other_cpu_load: float | None = None  # cores kept busy by other processes just before
    other_gpu_processes: Count | None = None
    ecc: bool | None = None
    persistence: bool | None = None
    mig: bool | None = None  # the GPU is divided, and its power is that of all its parts
    throttled: tuple[Label, ...] | None = None  # None: this host does not tell
    marks: tuple[Label, ...] = ()  # what a reader must know, such as "not alone: 1.3 cores busy"
    power_mode_id: Count | None = None  # ids and names of modes differ by module
    state: tuple[HostState | None, HostState | None] = (None, None)  # before, after
    cooling: Cooling | None = None  # None: nothing was waited for
    slept_s: float | None = None  # of the host, suspended meanwhile; None: its clocks do not tell
    prefill_chunk: Positive | None = None  # prompt tokens a forward pass; None: all in one
    fused_weights: bool | None = None  # query, key and value in one product, gate and up in one; None: not told
    cache_tokens: Positive | None = None  # a sequence, in a cache of fixed size; None: it grows
    experts_by: Label | None = None  # how a mixture's experts are computed, in the engine's own word
    ttft_limit_s: Annotated[float, Meta(gt=0)] | None = None  # a request within both limits, of those that are set, ...
    tpot_limit_s: Annotated[float, Meta(gt=0)] | None = None  # ... counts as goodput
    unknown: tuple[Label, ...] = ()  # fields of these conditions that an import does not tell, whatever stands in them
