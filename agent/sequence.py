"""In which order a suite is measured: one load after another, cells interleaved within it. Pure."""

from __future__ import annotations

import random
from typing import NamedTuple

from agent.cells import Cell, Suite


class Turn(NamedTuple):
    """One cell to be measured, for the `repeat`th time; `place` counts from 1."""

    cell: Cell
    repeat: int
    place: int

    @property
    def name(self) -> str:
        """What tells it from the other turns of its campaign."""
        return self.cell.label if self.repeat == 1 else f"{self.cell.label} #{self.repeat}"


def sequence(suite: Suite) -> tuple[Turn, ...]:
    """The turns of `suite`, the same for the same seed.

    Loads come in the suite's order, so that each model is loaded once. Within one, every repeat is a shuffled round of
    all cells: what drifts with time (heat, other load) falls on all of them, not on the last.
    """
    drawn = random.Random(suite.seed)
    loads: dict[tuple[str, ...], list[Cell]] = {}
    for cell in suite.cells:
        loads.setdefault(cell.load_key, []).append(cell)
    rounds = [
        (cell, repeat)
        for cells in loads.values()
        for repeat in range(1, suite.measure.repeats + 1)
        for cell in drawn.sample(cells, len(cells))
    ]
    return tuple(Turn(cell, repeat, place) for place, (cell, repeat) in enumerate(rounds, 1))
