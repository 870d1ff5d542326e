"""Engines: what runs a model. One file an engine, one visible table, imported only when selected.

An engine lives in the worker process. Adding one: a file, a line in `ENGINES`, a parameter of the contract suite.
"""

from __future__ import annotations

import importlib
from array import array
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from agent.orders import (
    Burn,
    Burned,
    CeilingMeasured,
    Described,
    Load,
    Loaded,
    MeasureCeiling,
    OperatorsProfiled,
    Profile,
    Profiled,
    ProfileOperators,
    Prompt,
    Repeat,
    Repeated,
    Resolve,
)
from phasewatt.errors import ConfigInvalid
from phasewatt.profiles import OperatorProfile
from phasewatt.records import MemoryUse

ENGINES: Mapping[str, str] = {
    "transformers": "agent.engines.transformers:Transformers",
    "onnxruntime": "agent.engines.onnxruntime:Onnxruntime",
    "served": "agent.engines.served:Served",
    "fake": "agent.engines.fake:Fake",
}


class Engine(Protocol):
    """Runs one model, one phase at a time. A token is the engine's own handle, [batch, 1].

    The token of a decode step is good until the next step, that of a prefill until the next prefill.
    `describe`, `load`, `plan` and `set_prompt` may take their time. `prefill`, `decode_one` and `sync` are the hot
    path: they may return before the device is done, except `sync`. Errors are `EngineFailed`, or become so within
    `guarded`.
    """

    simulated: bool

    def describe(self, order: Resolve) -> Described:
        """The processor that would run the model, its free memory, versions, and the architecture."""

    def load(self, order: Load) -> Loaded:
        """Bring the weights to the processor; of a model that is there already, only how it is run changes."""

    def plan(self, order: Prompt) -> int | None:
        """Learn what comes: `order.tokens` is the prompt that is timed, `order.room` the deepest cache.

        The tokens a sequence that a cache of fixed size will hold; None where it grows. Prompts of other lengths, which
        only fill the cache, may follow.
        """

    def set_prompt(self, ids: array[int], batch: int) -> None:
        """Place token ids, row-major [batch, tokens], on the processor; the cache is empty afterwards."""

    def reset(self) -> None:
        """Empty the KV cache."""

    def prefill(self) -> Any:
        """Run the whole prompt on an empty cache; the first new token, [batch, 1]."""

    def decode_one(self, token: Any) -> Any:
        """Append `token` to the cache and give the next one, [batch, 1]; end of text is ignored."""

    def crop(self, depth: int) -> None:
        """Drop cache entries beyond `depth` tokens a sequence."""

    def sync(self) -> None:
        """Wait until the device has done all that was asked."""

    def device_busy_ns(self, work: Callable[[], object]) -> int:
        """Time in ns that the device was busy during `work`, by a profiler.

        Raises:
            EngineFailed: this processor has no device time of its own, or no profiler.
        """

    def burn(self, order: Burn) -> Burned:
        """Full load on a processor for a stretch of time whose ends are sharp; no model is needed."""

    def guarded(self) -> AbstractContextManager[None]:
        """Turns the back-end's own errors into `EngineFailed` or `DoesNotFit`; wraps loops, never spans."""

    def reset_peak_memory(self) -> None:
        """Let `memory` count from now on."""

    def memory(self) -> MemoryUse:
        """Peak memory since it was reset."""

    def close(self) -> None:
        """Free the model."""


@runtime_checkable
class OwnThreads(Protocol):
    """An engine whose CPU threads are not torch's."""

    def set_threads(self, asked: int | None) -> int:
        """Use `asked` CPU threads from now on, as many as the engine chooses for None; how many it uses."""


@runtime_checkable
class TellsOperators(Protocol):
    """An engine whose kernels, or operations, can be told apart by operator."""

    def operator_profile(self, order: ProfileOperators, work: Callable[[], object]) -> OperatorProfile:
        """Where the device time of `work` goes, which is one repetition of the phase of `order`.

        Nothing of it stays: what is timed afterwards runs as before.

        Raises:
            EngineFailed: there is no profiler here, or it saw nothing.
        """


@runtime_checkable
class HasCeilings(Protocol):
    """An engine that can measure what its processor does at most."""

    def ceiling(self, order: MeasureCeiling) -> CeilingMeasured:
        """One kind of work, back to back; no model is needed, and what it took is free again.

        Raises:
            EngineFailed: the processor has no such work or dtype.
        """


class PhaseRunner(Protocol):
    """Runs the phases of one prompt: the loops of `agent.phases`, or what a remote engine brings instead."""

    def repeat(self, order: Repeat) -> Repeated:
        """Repetitions of a phase, timed."""

    def profile(self, order: Profile) -> Profiled:
        """Device-busy time, in a pass of its own, or why there is none."""

    def operators(self, order: ProfileOperators) -> OperatorsProfiled:
        """Device time by operator, in a pass of its own, or why there is none."""


@runtime_checkable
class Remote(Protocol):
    """An engine whose phases run elsewhere, in a server: it brings a phase runner instead of a hot path of calls.

    Everything else is as `Engine` says.
    """

    simulated: bool

    def phases(self, context: Callable[[int], array[int]], batch: int, tokens: int) -> PhaseRunner:
        """The phases of a prompt of `tokens`; `context(n)` gives n token ids a sequence, row-major [batch, n]."""

    def describe(self, order: Resolve) -> Described:
        """See `Engine`."""

    def load(self, order: Load) -> Loaded:
        """See `Engine`."""

    def burn(self, order: Burn) -> Burned:
        """See `Engine`."""

    def guarded(self) -> AbstractContextManager[None]:
        """See `Engine`."""

    def reset_peak_memory(self) -> None:
        """See `Engine`."""

    def memory(self) -> MemoryUse:
        """See `Engine`."""

    def close(self) -> None:
        """See `Engine`."""


def check(name: str) -> None:
    """Raise ConfigInvalid if there is no engine of that name."""
    if name not in ENGINES:
        raise ConfigInvalid(f"engine: no engine {name!r}; known: {', '.join(ENGINES)}")


def create(name: str) -> Engine | Remote:
    """A new engine of that name.

    Raises:
        ConfigInvalid: no such engine.
    """
    check(name)
    module, _, factory = ENGINES[name].partition(":")
    engine: Engine | Remote = getattr(importlib.import_module(module), factory)()
    return engine
