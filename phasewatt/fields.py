"""What records are built of: the types of their fields, the words they share, and their base.

Units are SI and stand in the names. A missing value is `None`, never 0; a neighbouring `*reason` says why. Times in ns
are readings of the host's monotonic clock and mean something on that boot of that host only; `*_unix_s` are wall-clock
labels.
"""

from __future__ import annotations

import enum
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

    def steps(self, kv_start: int, kv_end: int) -> int:
        """How many alike steps one repetition has between two depths of the cache; of all but a decode it is one."""
        return kv_end - kv_start if self is Phase.DECODE else 1


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
