"""How forward passes are run: one file a mode, one visible table, imported only when selected."""

from __future__ import annotations

import enum
import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import torch

from phasewatt.errors import EngineFailed
from phasewatt.fields import Phase

MODES: Mapping[str, str] = {
    "eager": "agent.engines.transformers_eager:Eager",
    "graph": "agent.engines.transformers_graph:graph",
    "compiled": "agent.engines.transformers_compiled:compiled",
}


class Launching(enum.Enum):
    """How the kernels of a phase come to run."""

    ONE_BY_ONE = "one by one"  # each by an operation of the host
    REPLAYED = "replayed"  # all by one replay of what was launched one by one before
    FUSED = "fused"  # by code that a compiler made: other kernels than the operations would launch


class Plan(NamedTuple):
    """The work that comes next."""

    batch: int
    tokens: int  # of the prompt that is timed; others only fill the cache
    room: int  # most tokens a sequence that the cache will hold
    chunk: int | None  # prompt tokens a pass; None: all in one


class Mode(Protocol):
    """Runs one model on its device; see `Engine` for what the methods of the same names do."""

    @property
    def logits(self) -> torch.Tensor | None:
        """Of the last pass, [batch, 1, vocabulary]."""

    def plan(self, plan: Plan) -> int | None:
        """See `Engine.plan`."""

    def set_prompt(self, ids: torch.Tensor) -> None:
        """Place the prompt, [batch, tokens], and make ready whatever its shape needs.

        Raises:
            EngineFailed: this mode cannot run that shape.
        """

    def reset(self) -> None:
        """Empty the cache."""

    def prefill(self) -> torch.Tensor:
        """The first new token, [batch, 1]."""

    def decode_one(self, token: torch.Tensor) -> torch.Tensor:
        """The next token, [batch, 1]."""

    def crop(self, depth: int) -> None:
        """Drop what is beyond `depth`."""

    def launching(self, phase: Phase) -> Launching:
        """How the kernels of `phase` come to run."""

    def one_by_one(self) -> AbstractContextManager[None]:
        """Within it, what is replayed otherwise is launched one by one: the same work on the same buffers."""


def create(name: str, model: Any) -> Mode:
    """The mode of that name for `model`.

    Raises:
        EngineFailed: there is none, or it cannot work here.
    """
    if name not in MODES:
        raise EngineFailed(f"engine transformers has no mode {name!r}; known: {', '.join(MODES)}")
    module, _, factory = MODES[name].partition(":")
    make: Callable[[Any], Mode] = getattr(importlib.import_module(module), factory)
    return make(model)


def chunks(ids: torch.Tensor, size: int | None) -> tuple[torch.Tensor, ...]:
    """The prompt, [batch, tokens], in pieces of `size` tokens, each [batch, at most size]."""
    return (ids,) if size is None else tuple(piece.contiguous() for piece in ids.split(size, dim=1))  # type: ignore[no-untyped-call]
