"""NVTX ranges by phase and operator, so that ncu can tell whose a kernel is.

Each range is named `PHASE.OPERATOR`, and a kernel belongs to the innermost one around its launch. Which part of a model
is which operator is told where torch's profiler has it from too: agent.engines.transformers_ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from phasewatt.fields import Phase
from phasewatt.operators import Operator


class Marker(Protocol):
    """Opens and closes ranges, as `torch.cuda.nvtx` does."""

    def range_push(self, name: str) -> object:
        """Open a range within those that are open."""

    def range_pop(self) -> object:
        """Close the innermost one."""


class Ranges:
    """Marks the operators of one phase after another."""

    def __init__(self, marker: Marker) -> None:
        self._marker = marker
        self._phase: Phase | None = None
        self._depth = 0

    @property
    def is_inside(self) -> bool:
        """Whether the range of an operator is open."""
        return self._depth > 0

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Everything in the block is of `phase`."""
        self._phase = phase
        try:
            with self._open(phase.value):
                yield
        finally:
            self._phase = None

    @contextmanager
    def operator(self, operator: Operator) -> Iterator[None]:
        """Everything in the block is of `operator`; outside of phases nothing is marked."""
        if self._phase is None:
            yield
            return
        self._depth += 1
        try:
            with self._open(range_name(self._phase, operator)):
                yield
        finally:
            self._depth -= 1

    @contextmanager
    def _open(self, name: str) -> Iterator[None]:
        self._marker.range_push(name)
        try:
            yield
        finally:
            self._marker.range_pop()


def range_name(phase: Phase, operator: Operator) -> str:
    """Name of the range of an operator in a phase."""
    return f"{phase.value}.{operator.value}"


def range_names(phases: tuple[Phase, ...]) -> tuple[str, ...]:
    """The names of all ranges that there may be in some phases."""
    return tuple(name for phase in phases for name in (phase.value, *(range_name(phase, each) for each in Operator)))
