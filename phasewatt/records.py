"""The records that flow from board to collector: frozen, raw, and strictly decoded.

Here are trials and events; `traces` has what sensors showed over time, `hosts` what a host is, `profiles` where the
time of a phase went. `fields` says what units and missing values look like.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import field

from phasewatt.conditions import Conditions, Course
from phasewatt.fields import (
    Count,
    Duration,
    HalfWidth,
    Identifier,
    Joules,
    Label,
    Nanoseconds,
    NotNegative,
    Outcome,
    Phase,
    Positive,
    Reading,
    Record,
    Scope,
    Text,
)
from phasewatt.profiles import Ceiling, CounterProfile, OperatorProfile
from phasewatt.work import Work


class Span(Record, frozen=True):
    """A stretch of monotonic time that belongs to one phase, and the tokens processed in it."""

    phase: Phase
    start_ns: Nanoseconds
    end_ns: Nanoseconds
    tokens: Count

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) * 1e-9


class PhaseRun(Record, frozen=True):
    """Every repetition of one phase, raw, in columns; the first `warmup` of them are not evidence."""

    phase: Phase
    starts_ns: tuple[Nanoseconds, ...]
    durations_ns: tuple[Duration, ...]  # host time, from before the first call to after the sync
    warmup: Count
    tokens: Count  # by one repetition, all sequences of the batch together
    kv_start: Count  # tokens in the KV cache of a sequence when a repetition starts ...
    kv_end: Count  # ... and when it ends
    steady: bool
    steady_reason: Text
    device_busy_ns: tuple[Duration, ...] | None = None  # of separately profiled repetitions
    device_busy_reason: Text | None = None
    first_token_ns: tuple[Nanoseconds, ...] | None = None  # REQUEST: start to first token, per repetition
    gaps_ns: tuple[tuple[Nanoseconds, ...], ...] | None = None  # REQUEST: between tokens, per steady repetition
    window_reason: Text | None = None  # why the window is longer than asked for
    other_cpu_cores: float | None = None  # kept busy by other processes meanwhile
    other_gpu_processes: Count | None = None  # seen before or after
    in_flight: Positive = (
        1  # REQUEST: repetitions, each of one sequence, that overlap: clients that ask again when done
    )
    gaps_of_chunks: bool = False  # REQUEST: several tokens came at a time, and a gap is between two such chunks
    kv_advance: Count = 0  # DECODE: tokens by which a steady repetition is deeper than the one before; 0: all alike

    def __post_init__(self) -> None:
        if len(self.starts_ns) != len(self.durations_ns) or self.warmup > len(self.starts_ns):
            raise ValueError("starts_ns and durations_ns must be of one length, and warmup within it")
        if self.phase is not Phase.IDLE and self.kv_end <= self.kv_start:
            raise ValueError(f"{self.phase.value}: kv_end must be above kv_start")

    def spans(self) -> Iterator[Span]:
        """The repetitions that are evidence, in order."""
        for start, duration in list(zip(self.starts_ns, self.durations_ns, strict=True))[self.warmup :]:
            yield Span(phase=self.phase, start_ns=start, end_ns=start + duration, tokens=self.tokens)

    @property
    def deeper(self) -> int:
        """Tokens by which steady repetitions are deeper than `kv_start` and `kv_end`, in the mean."""
        return self.kv_advance * max(0, len(self.starts_ns) - self.warmup - 1) // 2

    @property
    def window(self) -> Span | None:
        """From the first steady repetition's start to the last end of one; None if there is none."""
        spans = list(self.spans())
        if not spans:
            return None
        tokens = self.tokens * len(spans)
        last = (
            spans if self.in_flight > 1 else spans[-1:]
        )  # where they overlap, the last to begin may end before others
        end_ns = max(span.end_ns for span in last)
        return Span(phase=self.phase, start_ns=spans[0].start_ns, end_ns=end_ns, tokens=tokens)


class CrossCheck(Record, frozen=True):
    """The same window by another reading of the same scope: a check of consistency, not of truth."""

    source: Label
    reading: Reading
    energy_j: float | None  # None: see reason
    reason: Text | None
    temporal_uncertainty_j: float | None


class PhaseEnergy(Record, frozen=True):
    """The energy of one phase's window on one scope, with what the verdict rests on."""

    phase: Phase
    scope: Scope
    source: Label  # which sensor, e.g. "nvml.instant"
    reading: Reading
    rails: tuple[Label, ...]
    window_s: NotNegative
    repetitions: Count
    tokens: Count
    energy_j: Joules | None  # gross, of the whole window; None: see reason
    reason: Text | None  # a code, then words: "gap: ..."
    idle_adjusted_j: Joules | None  # less idle power times the window; None: see idle_reason
    idle_reason: Text | None
    mean_power_w: float | None
    peak_power_w: float | None
    distinct_updates: Count
    longest_gap_s: float | None
    temporal_uncertainty_j: HalfWidth | None  # half-width of 95 %: when the sensor looked
    systematic_uncertainty_j: HalfWidth | None  # half-width: the sensor's gain, which no repetition shows
    calibrated: bool = False  # period, lag and averaging come from sensor cards, not from the samples alone
    doubts: tuple[Text, ...] = ()  # codes with words: the figure stands, and a reader must know
    check: CrossCheck | None = None


class PhaseReading(Record, frozen=True):
    """What a channel beside power showed in one phase's window."""

    phase: Phase
    name: Label  # of the channel
    source: Label
    unit: Label
    mean: float
    lowest: float
    highest: float
    readings: Positive


class MemoryUse(Record, frozen=True):
    """Peak memory while a trial ran."""

    host_peak_bytes: Count | None  # resident set of the process that held the model
    accelerator_peak_bytes: Count | None
    reason: Text | None = None  # why a figure is None


class ForeignFigure(Record, frozen=True):
    """One result of another tool, in our units."""

    term: Label  # what that tool calls it
    metric: Label | None  # what it is called here; None: nothing here means the same
    unit: Label
    values: tuple[float, ...]  # one a repetition, or the single figure that the tool gives
    statistics: dict[Label, float] = field(default_factory=dict)  # where the tool gives these instead of values


class Imported(Record, frozen=True):
    """Where a trial came from that no agent of ours measured; what it does not say is not known."""

    tool: Label
    tool_version: Label | None
    model: Label | None  # as the tool calls it: neither its shape nor its weights are proven
    prompt_tokens: Count | None
    output_tokens: Count | None
    depth: Count | None  # tokens in the cache before
    figures: tuple[ForeignFigure, ...]


class Trial(Record, frozen=True):
    """One piece of work measured once on one host."""

    device: Identifier
    campaign: Label
    suite: Label
    cell: Label
    agent_version: Label
    boot_id: Label
    started_unix_s: float
    started_ns: Nanoseconds
    outcome: Outcome
    reason: Text | None  # why not OK
    work: Work | None  # None: the cell failed before its architecture was known
    conditions: Conditions
    runs: tuple[PhaseRun, ...] = ()
    memory: MemoryUse | None = None
    energy: tuple[PhaseEnergy, ...] = ()  # summary, so that a lost trace loses no number
    energy_reason: Text | None = None  # why `energy` is empty
    readings: tuple[PhaseReading, ...] = ()  # clocks and utilisation, phase by phase
    traces: tuple[Label, ...] = ()  # record ids, in order
    meters: dict[Label, Text] = field(default_factory=dict)  # what each said when the ones to read were chosen
    repeat: Positive = 1  # of its cell in its campaign
    place: Positive | None = None  # in the order of its campaign, which ...
    order_seed: Count | None = None  # ... was drawn from this
    course: Course | None = None  # None: not watched
    imported: Imported | None = None  # measured by another tool: no runs, and no work that could be compared
    profiles: tuple[OperatorProfile, ...] = ()  # at most one a phase
    counters: tuple[CounterProfile, ...] = ()  # at most one a phase
    ceilings: tuple[Ceiling, ...] = ()  # of the trial that measured them: it has no work

    def run_of(self, phase: Phase) -> PhaseRun | None:
        """The repetitions of `phase`, or None if it was not run."""
        return next((run for run in self.runs if run.phase is phase), None)


class Event(Record, frozen=True):
    """Something that happened to the agent and that an operator may ask about later."""

    device: Identifier
    boot_id: Label
    time_unix_s: float
    name: Label
    message: Text
    fields: dict[str, Label] = field(default_factory=dict)
