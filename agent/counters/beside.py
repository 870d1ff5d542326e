"""Counters of a trial: a pass of ncu's own beside it, once all that is timed and metered is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from agent.bench import Placed
from agent.cells import Cell
from agent.counters.counting import ready
from agent.counters.profile import Circumstances, depths_of, without
from agent.counters.run import PHASES, Counting, Workload
from agent.counters.tool import Tool
from agent.orders import Load, Prompt
from agent.stopping import Stop
from phasewatt.errors import EngineAbsent
from phasewatt.profiles import CounterProfile

_STAND_IN = "random:7"  # weights of the same shapes: which kernels run does not hang on their values
_STEPS = 2  # the prefill gives the first token, the decode step that is counted the second


class Beside:
    """Counts cell after cell. What fails is a reason in the profiles, for the trial itself was measured before."""

    def __init__(self, stop: Stop, find: Callable[[], Tool] = ready, make: Callable[..., Counting] = Counting) -> None:
        self._stop = stop
        self._find = find
        self._make = make
        self._counting: Counting | None = None  # kept, since it learns which counters cannot be had here

    def count(self, cell: Cell, placed: Placed) -> tuple[CounterProfile, ...]:
        """Counters of those of prefill and decode that `cell` measures, or why there are none.

        Raises:
            Stopped: asked to end.
        """
        phases = [phase for phase in PHASES if phase in cell.measured]
        reason = _unfit(cell, placed) if phases else ""
        if reason is None:
            try:
                profiles = self._tool().count(workload_of(cell, placed)).profiles
                return tuple(_told(each, cell) for each in profiles if each.phase in phases)
            except EngineAbsent as error:
                reason = str(error)
            except (OSError, msgspec.DecodeError) as error:
                reason = f"counters: the pass failed: {error}"
        return without(phases, Circumstances(None, None, (), depths_of(cell.prompt_tokens)), reason)

    def _tool(self) -> Counting:
        if self._counting is None:
            self._counting = self._make(self._find(), self._stop)
        return self._counting


def lacks(profiles: Iterable[CounterProfile]) -> list[str]:
    """Which phases have no counters though they were asked for, and why, in words."""
    phases: dict[str, list[str]] = {}
    for each in profiles:
        if not each.operators:
            phases.setdefault(each.reason or "not known why", []).append(each.phase.value)
    return [f"no counters of {' and '.join(names)}: {reason}" for reason, names in phases.items()]


def workload_of(cell: Cell, placed: Placed) -> Workload:
    """What is counted of a cell: its settings, on a few layers of its model."""
    load = Load(
        architecture=placed.described.architecture,
        weights=cell.weights if cell.weights.startswith("random:") else _STAND_IN,
        dtype=cell.dtype,
        mode=cell.mode,
        attention=cell.attention,
        accelerator=placed.described.accelerator,
        tf32=cell.tf32,
        fused_weights=cell.fused_weights,
        experts=cell.experts,
        quantization=cell.quantization,
    )
    asked = Prompt(
        seed=cell.prompt_seed,
        batch=cell.batch,
        tokens=cell.prompt_tokens,
        threads=cell.threads,
        room=cell.prompt_tokens + _STEPS,
        chunk=cell.prefill_chunk,
    )
    return Workload(load, asked)


def _unfit(cell: Cell, placed: Placed) -> str | None:
    """Why such a cell cannot be counted; None: it can."""
    if cell.engine != "transformers":
        return f"counters are read of engine transformers alone, and not of {cell.engine}"
    if placed.described.accelerator != "cuda":
        return f"counters are read of NVIDIA GPUs alone, and this ran on {placed.described.accelerator}"
    if cell.tensor_parallel > 1:
        return f"counters are read of one GPU alone, and {cell.tensor_parallel} share this model"
    return None


def _told(profile: CounterProfile, cell: Cell) -> CounterProfile:
    """With what was not as in the trial."""
    if cell.weights.startswith("random:"):
        return profile
    notes = filter(None, [profile.reason, f"counted on random weights ({_STAND_IN}) of the same shapes"])
    return msgspec.structs.replace(profile, reason="; ".join(notes)[:4096])
