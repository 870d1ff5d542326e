"""What the runner asks of the worker process, and what it answers: one JSON line each."""

from __future__ import annotations

from msgspec import Struct

from phasewatt.fields import Phase
from phasewatt.profiles import OperatorProfile
from phasewatt.records import MemoryUse
from phasewatt.work import Architecture


class Order(Struct, frozen=True, tag=True, kw_only=True):
    """Base of the orders."""


class Resolve(Order, frozen=True):
    """Which processor and architecture would `model` run with?"""

    model: str  # preset, or "" where the weights bring their own config.json
    weights: str  # random:SEED, path:DIR, hub:OWNER/NAME[@REVISION]
    accelerator: str  # auto, cpu, cuda
    endpoint: str = ""  # of a served model
    served_model: str = ""  # what its server calls it
    tensor_parallel: int = 1  # ranks that share the model, each on a GPU of its own


class Load(Order, frozen=True):
    """Bring this model into memory."""

    architecture: Architecture
    weights: str
    dtype: str
    mode: str
    attention: str
    accelerator: str
    tf32: bool = False
    fused_weights: bool = False  # query, key and value in one product, gate and up in one
    experts: str | None = None  # how a mixture's are computed; None: the engine's own choice
    quantization: str = "none"  # of the weights once they are loaded: none, int8, int4
    exports: str | None = None  # folder for models in another engine's format; None: one that goes with the engine
    tensor_parallel: int = 1  # ranks that share the model, each on a GPU of its own
    meeting: str | None = None  # folder in which they meet, kept while they live; None: one that goes with the engine


class Prompt(Order, frozen=True):
    """Set the prompt, and the number of CPU threads, for the next repetitions."""

    seed: int
    batch: int
    tokens: int
    threads: int | None
    room: int = 0  # most tokens a sequence that the cache will hold; 0: not told
    chunk: int | None = None  # prompt tokens a forward pass; None: all in one


class Repeat(Order, frozen=True):
    """Repeat a phase back to back, at least `repetitions` times and `seconds` long, at most `limit_s` long."""

    phase: Phase
    repetitions: int
    seconds: float
    limit_s: float
    depth: int = 0  # DECODE: tokens in the cache before each repetition
    steps: int = 0  # DECODE: steps a repetition; REQUEST: output tokens


class Profile(Order, frozen=True):
    """Device-busy time of a phase, `repetitions` times, in a pass of its own."""

    phase: Phase
    repetitions: int
    depth: int = 0
    steps: int = 0


class ProfileOperators(Order, frozen=True):
    """Where the device time of a phase goes, operator by operator, in a pass of its own."""

    phase: Phase
    repetitions: int
    kv_start: int  # as in the phase's run
    kv_end: int
    depth: int = 0
    steps: int = 0


class MeasureCeiling(Order, frozen=True):
    """What the processor does at most of one kind of work; no model is needed."""

    work: str  # as in a Ceiling, and so are ...
    shape: tuple[int, ...]  # ... this ...
    dtype: str | None  # ... and this
    accelerator: str  # cpu, cuda
    repetitions: int
    seconds: float  # about, of a repetition
    threads: int | None = None  # of a CPU; None: the engine's choice


class MeasureMemory(Order, frozen=True):
    """Peak memory since the prompt was set."""


class Burn(Order, frozen=True):
    """Keep the processor as busy as it can be, to drive a load that sensors are calibrated with."""

    seconds: float
    accelerator: str  # auto, cpu, cuda


class Described(Order, frozen=True):
    """Answer to Resolve."""

    architecture: Architecture
    accelerator: str
    processor: str | None
    gpu_uuid: str | None  # as NVML writes it; None: no NVIDIA GPU does the work
    memory_free_bytes: int | None
    versions: dict[str, str]
    simulated: bool
    mode: str | None = None  # not the cell's to choose: a server's own; None: the cell's, and its attention and threads
    other_gpus: tuple[str, ...] = ()  # that do the work beside the first, as NVML writes them


class Loaded(Order, frozen=True):
    """Answer to Load."""

    parameters: int
    weights_source: str
    weights_digest: str | None
    drawn_on: str | None
    seconds: float
    tf32: bool | None
    experts: str | None = None  # how a mixture's are computed; None: there are none, or the engine does not tell
    quantization: str | None = None  # in words, as it is part of the work; None: the weights are as they were drawn
    ranks: tuple[int, ...] = ()  # process ids of those that share the model with the engine


class Ready(Order, frozen=True):
    """Answer to Prompt."""

    threads: int | None
    cache_tokens: int | None = None  # a sequence, in a cache of fixed size; None: it grows


class Repeated(Order, frozen=True):
    """Answer to Repeat: raw times in ns, in the order they were taken."""

    starts_ns: tuple[int, ...]
    durations_ns: tuple[int, ...]
    first_token_ns: tuple[int, ...] = ()  # REQUEST: from the start
    gaps_ns: tuple[tuple[int, ...], ...] = ()  # REQUEST: between tokens
    in_flight: int = 1  # REQUEST: repetitions that overlap, each of one sequence
    several_to_a_chunk: bool = False  # REQUEST: gaps are between chunks of several tokens
    kv_ahead: int = 0  # DECODE: tokens by which the first repetition was deeper than asked
    kv_advance: int = 0  # DECODE: tokens by which each repetition was deeper than the one before


class Profiled(Order, frozen=True):
    """Answer to Profile: busy time of each repetition, or why there is none."""

    busy_ns: tuple[int, ...] | None
    reason: str | None


class OperatorsProfiled(Order, frozen=True):
    """Answer to ProfileOperators; a profile of no repetition says why there is none."""

    profile: OperatorProfile


class Memory(Order, frozen=True):
    """Answer to MeasureMemory."""

    use: MemoryUse


class CeilingMeasured(Order, frozen=True):
    """Answer to MeasureCeiling: one value a repetition."""

    values: tuple[float, ...]
    threads: int | None = None  # of a CPU


class Burned(Order, frozen=True):
    """Answer to Burn: when the load began and ended."""

    start_ns: int
    end_ns: int
    accelerator: str  # which was kept busy: cpu, cuda


class Refused(Order, frozen=True):
    """Answer to any order that failed; `fits` is False where memory was the cause."""

    message: str
    fits: bool = True
    absent: bool = False  # the engine is not installed


Question = Resolve | Load | Prompt | Repeat | Profile | ProfileOperators | MeasureMemory | MeasureCeiling | Burn
Answer = (
    Described | Loaded | Ready | Repeated | Profiled | OperatorsProfiled | Memory | CeilingMeasured | Burned | Refused
)


def no_operators(order: ProfileOperators, reason: str) -> OperatorsProfiled:
    """A profile of no repetition, and why."""
    profile = OperatorProfile(
        phase=order.phase,
        tool="none",
        tool_version=None,
        processor="none",
        kv_start=order.kv_start,
        kv_end=order.kv_end,
        repetitions=0,
        reason=reason,
    )
    return OperatorsProfiled(profile=profile)
