"""The order of a suite: one load at a time, rounds within it, the same for the same seed."""

from __future__ import annotations

import itertools

from agent import cells
from agent.cells import Suite
from agent.sequence import sequence

TEXT = """
about = "x"
seed = {seed}
[measure]
repeats = {repeats}
[[cells]]
dtype = ["float32", "bfloat16"]
prompt_tokens = [8, 16, 32, 64]
output_tokens = 4
"""


def suite(seed: int = 1, repeats: int = 2) -> Suite:
    return cells.parse("s", TEXT.format(seed=seed, repeats=repeats), {}, "s.toml")


def test_each_model_is_loaded_once() -> None:
    """All turns of one load follow each other, repeats included."""
    loads = [turn.cell.load_key for turn in sequence(suite())]
    assert len(list(itertools.groupby(loads))) == len(set(loads)) == 2


def test_every_repeat_is_a_round_of_all_cells() -> None:
    """So that what drifts with time falls on all of them."""
    turns = [turn for turn in sequence(suite(repeats=3)) if turn.cell.dtype == "float32"]
    rounds = [turns[first : first + 4] for first in range(0, 12, 4)]
    assert [{turn.repeat for turn in each} for each in rounds] == [{1}, {2}, {3}]
    assert all(len({turn.cell for turn in each}) == 4 for each in rounds)


def test_the_order_is_shuffled_and_told_by_the_seed() -> None:
    """The same again for one seed, another for another; rounds differ among themselves."""
    one, same, other = sequence(suite(1)), sequence(suite(1)), sequence(suite(2))
    assert one == same
    assert [turn.cell for turn in one] != [turn.cell for turn in other]
    assert [turn.cell for turn in one] != list(suite(repeats=1).cells) * 2


def test_names_tell_repeats_apart_and_places_count() -> None:
    """A first turn is named as its cell is, as before there were repeats."""
    turns = sequence(suite())
    assert len({turn.name for turn in turns}) == len(turns) == 16
    assert [turn.place for turn in turns] == list(range(1, 17))
    assert {turn.name for turn in turns if turn.repeat == 1} == {cell.label for cell in suite().cells}
