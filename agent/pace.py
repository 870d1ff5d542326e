"""What is left of a campaign, in time: from what the same took here before, else from a rough estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from agent import durations, estimate, models
from agent.cells import Cell, Measure
from agent.durations import Durations, Took
from agent.estimate import RATES, Rates
from agent.sequence import Turn
from phasewatt.errors import ConfigInvalid
from phasewatt.work import Architecture

_KNOWN_MARGIN, _ROUGH_MARGIN = 1.15, 1.5  # of the time that a cell is given in a slice
_MARGIN_S = 2.0
_LEAST_SCALE, _MOST_SCALE = 0.1, 10.0


class Expectation(NamedTuple):
    """How long something is going to take; `known`: the same was measured on this host before."""

    seconds: float
    known: bool

    @property
    def with_margin_s(self) -> float:
        """What it will very likely end in."""
        return self.seconds * (_KNOWN_MARGIN if self.known else _ROUGH_MARGIN) + _MARGIN_S


class Pace:
    """Expectations of one suite on this host. Rough ones are scaled by what this run has shown."""

    def __init__(self, measure: Measure, known: Durations, rates: Callable[[Cell], Rates], metered: bool) -> None:
        self._measure = measure
        self._known = known
        self._rates = rates
        self._metered = metered
        self._rough_s = self._real_s = 0.0  # of the cells of this run that were estimated roughly

    def cell(self, cell: Cell) -> Expectation:
        """A trial of `cell` on a loaded model."""
        took = self._known.get(durations.cell_key(cell, self._measure))
        if took is None:
            return Expectation(self._rough_cell_s(cell) * self._scale, known=False)
        return Expectation(took.seconds, known=took.whole)

    def load(self, cell: Cell) -> Expectation:
        """Loading the model of `cell`."""
        took = self._known.get(durations.load_key(cell))
        if took is None:
            return Expectation(estimate.load_s(shape_of(cell), cell, self._rates(cell)), known=False)
        return Expectation(took.seconds, known=took.whole)

    def left_s(self, turns: Sequence[Turn], loaded: tuple[str, ...]) -> float:
        """All of `turns`, in that order, the model of `loaded` being loaded already."""
        total_s = 0.0
        for turn in turns:
            total_s += self.cell(turn.cell).seconds
            if turn.cell.load_key != loaded:
                total_s += self.load(turn.cell).seconds
                loaded = turn.cell.load_key
        return total_s

    def needed_s(self, cell: Cell, loaded: tuple[str, ...]) -> float:
        """What `cell` will very likely end in, its load included where it is not `loaded`."""
        load_s = 0.0 if cell.load_key == loaded else self.load(cell).with_margin_s
        return self.cell(cell).with_margin_s + load_s

    def took(self, cell: Cell, seconds: float, loading_s: float = 0.0, whole: bool = True) -> None:
        """Learn from a trial: `seconds` without its load, `loading_s` of load; not `whole`: it was cut off."""
        key = durations.cell_key(cell, self._measure)
        if self._known.get(key) is None and whole:
            self._rough_s, self._real_s = self._rough_s + self._rough_cell_s(cell), self._real_s + seconds
        self._known.note(key, Took(round(seconds, 2), whole))
        if loading_s:
            self._known.note(durations.load_key(cell), Took(round(loading_s, 2), whole=True))

    @property
    def _scale(self) -> float:
        if not self._rough_s:
            return 1.0
        return min(_MOST_SCALE, max(_LEAST_SCALE, self._real_s / self._rough_s))

    def _rough_cell_s(self, cell: Cell) -> float:
        shape = shape_of(cell)
        if shape is None:
            return estimate.longest_s(cell, self._measure)
        return estimate.cell_s(shape, cell, self._measure, self._rates(cell), self._metered)


def rates_of(has_gpu: bool, is_jetson: bool) -> Callable[[Cell], Rates]:
    """The rough rates of what a cell will run on, on a host with these."""

    def rates(cell: Cell) -> Rates:
        on_cpu = cell.accelerator == "cpu" or not (has_gpu or is_jetson)
        return RATES["cpu" if on_cpu else "jetson" if is_jetson else "cuda"]

    return rates


def shape_of(cell: Cell) -> Architecture | None:
    """The architecture that a cell will have; None where that is known only when its weights are there."""
    kind, _, where = cell.weights.partition(":")
    try:
        if kind == "random":
            return models.preset(cell.model)
        return models.from_config_file(Path(where) / "config.json") if kind == "path" else None
    except ConfigInvalid:
        return None


def in_words(seconds: float) -> str:
    """A stretch of time as a person says it, such as "about 12 min"."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 120 else f"about {seconds / 3600:.1f} h"


def sources(expected: Iterable[Expectation]) -> str:
    """What a sum of expectations rests on."""
    known = [each.known for each in expected]
    if all(known):
        return "by what the same took on this host before"
    return f"{sum(known)} of {len(known)} by what the same took on this host before, the rest roughly estimated"
