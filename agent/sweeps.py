"""What a sweep over batch sizes says at once: where throughput, latency and energy per token are best. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from agent.cells import Cell
from agent.sequence import Turn
from phasewatt import optimum
from phasewatt.records import Outcome

if TYPE_CHECKING:
    from agent.measuring import CellDone


def optimum_lines(finished: Sequence[tuple[Turn, CellDone]]) -> tuple[str, ...]:
    """A line for each optimum among cells that differ in nothing but their batch."""
    sweeps: dict[Cell, dict[int, list[CellDone]]] = {}
    for turn, done in finished:
        if done.outcome is Outcome.OK:
            same = msgspec.structs.replace(turn.cell, batch=1)
            sweeps.setdefault(same, {}).setdefault(turn.cell.batch, []).append(done)
    return tuple(
        f"{cell.prompt_tokens}/{cell.output_tokens} {cell.mode}: {line}"
        for cell, by_batch in sweeps.items()
        for line in optimum.in_words({batch: _medians(done) for batch, done in by_batch.items()})
    )


def _medians(repeats: Iterable[CellDone]) -> dict[str, float | None]:
    figures: dict[str, list[float]] = {}
    for done in repeats:
        for name, value in done.figures.items():
            if value is not None:
                figures.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in figures.items()}
