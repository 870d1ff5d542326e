"""The records that flow from board to collector: frozen, raw, and strictly decoded.

Here are trials and events; `traces` has what sensors showed over time, `hosts` what a host is. Units are SI and stand
in the names. A missing value is `None`, never 0; a neighbouring `*reason` says why. Times in ns are readings of the
host's monotonic clock and mean something on that boot of that host only; `*_unix_s` are wall-clock labels.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Nanoseconds = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Duration = Annotated[int, Meta(ge=1, le=2**63 - 1)]  # in ns; what took no time was not measured
NotNegative = Annotated[float, Meta(ge=0)]
Joules = Annotated[float, Meta(ge=-1e15, le=1e15)]  # beyond it lies no measurement
HalfWidth = Annotated[float, Meta(ge=0, le=1e15)]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Label = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all records: immutable, and an unknown field is an error, not a surprise later."""


class Phase(enum.Enum):
    """A part of the work that is timed and metered by itself."""

    IDLE = "idle"  # model loaded, nothing asked: the baseline that idle-adjusted energy subtracts
    PREFILL = "prefill"  # the whole prompt in one pass, up to the first token
    DECODE = "decode"  # one token a step, from a stated depth of the KV cache
    REQUEST = "request"  # prefill and every decode step, as a client would see it


class Scope(enum.Enum):
    """What a power figure covers. Figures of unlike scopes are never ranked against each other."""

    GPU_BOARD = "gpu-board"
    CPU_PACKAGE = "cpu-package"
    DRAM = "dram"
    MODULE = "module"
    BOARD_INPUT = "board-input"
    WALL = "wall"
    COMPUTE = "compute"  # derived: GPU boards + CPU packages and their DRAM
    UNKNOWN = "unknown"  # the source does not say what it covers; never becomes joules


class Reading(enum.Enum):
    """What one value of a sensor is."""

    INSTANT = "instant"  # at one moment, or over a stretch no longer than the update period
    AVERAGE = "average"  # averaged by the sensor over a stretch longer than its update period
    COUNTER = "counter"  # summed since some start


class Kind(enum.Enum):
    """The kinds of record that a board sends in batches."""

    TRIAL = "trial"
    TRACE = "trace"
    TELEMETRY = "telemetry"
    EVENT = "event"


class Outcome(enum.Enum):
    """How a cell of a suite ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Experts(Record, frozen=True):
    """The mixture-of-experts part of an architecture."""

    count: Positive
    per_token: Positive
    intermediate_size: Positive
    shared_intermediate_size: Count = 0
    norm_topk_prob: bool = False  # the weights of a token's experts are scaled to sum to one


class Architecture(Record, frozen=True):
    """The shape of a decoder-only transformer; `name` is a label and no part of its identity."""

    name: Label
    family: Label  # the Hugging Face model_type
    hidden_size: Positive
    layers: Positive
    heads: Positive
    kv_heads: Positive
    head_dim: Positive
    intermediate_size: Positive
    vocab_size: Positive
    max_position: Positive
    tied_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    experts: Experts | None = None
    qk_norm_joint: bool = False  # the norms of queries and keys span all heads at once
    output_bias: bool = False  # of the attention's output projection


class Task(Record, frozen=True):
    """What is asked of any model of one architecture; see `identity.task_id`."""

    architecture: Architecture
    batch: Positive
    prompt_tokens: Positive
    prompt_digest: Label  # sha256 over the token ids, see prompt.digest
    output_tokens: Positive  # forced: no early end of text


class Weights(Record, frozen=True):
    """Which numbers fill the architecture."""

    source: Label  # "random:SEED", "path:DIR", "hub:OWNER/NAME@REVISION", or the engine's own word
    parameters: Positive
    digest: Label | None = None  # sha256 over names and values; None: drawn on the device, or not read
    drawn_on: Label | None = None  # "cpu": identical everywhere; "device": same distribution only


class Work(Record, frozen=True):
    """A task with its weights and their representation; see `identity.work_id`."""

    task: Task
    weights: Weights
    dtype: Label
    quantization: Label | None = None


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
    temperatures_c: dict[Label, float | None] = {}  # by type of thermal zone; None: it did not answer
    fans: dict[Label, float] = {}  # share of full speed that is asked for
    throttle_alerts: dict[Label, Count] = {}  # by cooling device; above 0 it holds back now
    over_current_events: dict[Label, Count] = {}  # since boot
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
    versions: dict[str, Label] = {}
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
    statistics: dict[Label, float] = {}  # where the tool gives these instead of values


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
    meters: dict[Label, Text] = {}  # what each said when the ones to read were chosen
    repeat: Positive = 1  # of its cell in its campaign
    place: Positive | None = None  # in the order of its campaign, which ...
    order_seed: Count | None = None  # ... was drawn from this
    course: Course | None = None  # None: not watched
    imported: Imported | None = None  # measured by another tool: no runs, and no work that could be compared

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
    fields: dict[str, Label] = {}
