"""The study's words for why warps stall, in Nsight Compute's reasons; shares of all stall cycles. Pure.

The study speaks as nvprof did ("memory dependency", "execution dependency", "pipe busy", "synchronization"). NVIDIA's
own table of what those metrics became is followed; what came with later GPUs is placed by its description, and says so.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from phasewatt.counter_metrics import STALLS, WARPS_PER_ISSUE, Capability, Stall, capability_of
from phasewatt.profiles import CounterProfile, OperatorCounters


class Word(enum.Enum):
    """A cause, as the study and nvprof name it."""

    MEMORY_DEPENDENCY = "memory dependency"
    EXECUTION_DEPENDENCY = "execution dependency"
    SYNCHRONISATION = "synchronisation"
    PIPE_BUSY = "pipe busy"
    MEMORY_THROTTLE = "memory throttle"
    CONSTANT_MEMORY = "constant memory dependency"
    INSTRUCTION_FETCH = "instruction fetch"
    NOT_SELECTED = "not selected"
    TEXTURE = "texture"
    SLEEPING = "sleeping"
    OTHER = "other"


class Meaning(NamedTuple):
    """Nsight Compute's reason under one of the words, on GPUs from a compute capability on, and who says so."""

    reason: str
    word: Word
    since: Capability
    source: str


_NVPROF = "Nsight Compute CLI, nvprof transition guide, metric comparison: {}"
_GUIDE = "Nsight Compute, Profiling Guide, warp stall reasons: {}; not in nvprof's table, placed by this description"
_AMPERE: Capability = (8, 0)  # and 8.7, Orin, whose SMs have the same reasons
_HOPPER: Capability = (9, 0)  # and 10.x, 11.x until a report shows another

MEANINGS = (
    Meaning("long_scoreboard", Word.MEMORY_DEPENDENCY, _AMPERE, _NVPROF.format("stall_memory_dependency")),
    Meaning("short_scoreboard", Word.EXECUTION_DEPENDENCY, _AMPERE, _NVPROF.format("stall_exec_dependency")),
    Meaning("wait", Word.EXECUTION_DEPENDENCY, _AMPERE, _NVPROF.format("stall_exec_dependency")),
    Meaning("barrier", Word.SYNCHRONISATION, _AMPERE, _NVPROF.format("stall_sync")),
    Meaning("membar", Word.SYNCHRONISATION, _AMPERE, _NVPROF.format("stall_sync")),
    Meaning("math_pipe_throttle", Word.PIPE_BUSY, _AMPERE, _NVPROF.format("stall_pipe_busy")),
    Meaning("mio_throttle", Word.PIPE_BUSY, _AMPERE, _NVPROF.format("stall_pipe_busy")),
    Meaning("gmma", Word.PIPE_BUSY, _HOPPER, _GUIDE.format("waits for the tensor pipe of warp groups")),
    Meaning("warpgroup_arrive", Word.SYNCHRONISATION, _HOPPER, _GUIDE.format("waits for WARPGROUP.ARRIVES or .WAIT")),
    Meaning("drain", Word.MEMORY_THROTTLE, _AMPERE, _NVPROF.format("stall_memory_throttle")),
    Meaning("lg_throttle", Word.MEMORY_THROTTLE, _AMPERE, _NVPROF.format("stall_memory_throttle")),
    Meaning("imc_miss", Word.CONSTANT_MEMORY, _AMPERE, _NVPROF.format("stall_constant_memory_dependency")),
    Meaning("no_instruction", Word.INSTRUCTION_FETCH, _AMPERE, _NVPROF.format("stall_inst_fetch")),
    Meaning("branch_resolving", Word.INSTRUCTION_FETCH, _AMPERE, _GUIDE.format("waits for the target of a branch")),
    Meaning("not_selected", Word.NOT_SELECTED, _AMPERE, _NVPROF.format("stall_not_selected")),
    Meaning("tex_throttle", Word.TEXTURE, _AMPERE, _NVPROF.format("stall_texture")),
    Meaning("sleeping", Word.SLEEPING, _AMPERE, _NVPROF.format("stall_sleeping")),
    Meaning("dispatch_stall", Word.OTHER, _AMPERE, _NVPROF.format("stall_other")),
    Meaning("misc", Word.OTHER, _AMPERE, _NVPROF.format("stall_other")),
)
_WORDS: Mapping[str, Word] = {meaning.reason: meaning.word for meaning in MEANINGS}


class StallShares(NamedTuple):
    """Shares of all stall cycles by word, or why there are none."""

    by_word: Mapping[Word, float]
    reason: str | None
    explained: float | None = None  # part of all waiting that the reasons account for; None: it was not counted


def stalls_of(capability: Capability | None) -> tuple[Stall, ...]:
    """The reasons that a GPU of that compute capability tells apart; all that there are where it is not known."""
    return tuple(stall for stall in STALLS if capability is None or stall.since <= capability)


def stall_shares(profile: CounterProfile, operator: OperatorCounters) -> StallShares:
    """Shares of the cycles in which warps of an operator waited; a warp that issues does not wait, and is left out.

    With a reason uncounted the others' shares would be too high, so then there are none, unless the GPU has no such
    counter.
    """
    stalls = stalls_of(capability_of(profile.compute_capability))
    waited = {stall: operator.values.get(stall.metric) for stall in stalls}
    uncounted = [stall.reason for stall, cycles in waited.items() if cycles is None and not _is_unknown(profile, stall)]
    if uncounted:
        return StallShares({}, f"{len(uncounted)} of {len(stalls)} stall reasons were not counted: {_few(uncounted)}")
    total = sum(cycles for cycles in waited.values() if cycles is not None)
    if total <= 0:
        return StallShares({}, "no stall was counted")
    shares = dict.fromkeys(Word, 0.0)
    for stall, cycles in waited.items():
        shares[_WORDS[stall.reason]] += (cycles or 0.0) / total
    return StallShares(shares, None, _explained(operator, total))


def _explained(operator: OperatorCounters, total: float) -> float | None:
    """Of the warps that are resident while one issues, all but that one wait."""
    resident = operator.values.get(WARPS_PER_ISSUE)
    return total / (resident - 1) if resident is not None and resident > 1 else None


NO_SUCH = "this GPU has no such counter"  # what a profile says of a counter that its GPU lacks


def _is_unknown(profile: CounterProfile, stall: Stall) -> bool:
    return profile.missing.get(stall.metric) == NO_SUCH


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
