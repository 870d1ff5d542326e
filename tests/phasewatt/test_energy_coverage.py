"""How often the stated interval of an energy holds the true one, over simulated sensors and works: a small table.

The whole one, with a thousand cases a cell, is printed by `python -m benchmarks.energy_coverage`.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from phasewatt import doubts
from phasewatt.estimate import Estimate
from phasewatt.fields import Reading
from phasewatt.records import Span
from phasewatt.updates import Sample
from phasewatt.window_energy import WIDE_SHARE
from tests.fixtures.simulated_power import BOARDS, SENSORS, WORKS, Case, case

CASES = 150
BOARD_CASES = 60
ENOUGH = 100  # figures of a cell, for its share to say something
WINDOWS_S = (0.5, 3.0, 10.0)


class Looked(NamedTuple):
    """A case and the estimate that the agent would take."""

    case: Case
    estimate: Estimate

    @property
    def truth_j(self) -> float:
        """Its energy, exactly."""
        return self.case.work.energy_j

    @property
    def held(self) -> bool:
        """Whether the truth lies in the stated interval."""
        assert self.estimate.energy_j is not None and self.estimate.temporal_uncertainty_j is not None
        return abs(self.estimate.energy_j - self.truth_j) <= self.estimate.temporal_uncertainty_j

    @property
    def width(self) -> float:
        """Half-width as a share of the truth."""
        assert self.estimate.temporal_uncertainty_j is not None
        return self.estimate.temporal_uncertainty_j / self.truth_j


def looked_at(sensor: str, work: str, window_s: float, seed: int) -> Looked:
    """The case of that name and number, by the reading that the agent would prefer."""
    made = case(sensor, work, window_s, seed)
    return Looked(made, made.estimate)


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str, float], list[Looked]]:
    """Every sensor, work and window."""
    names = itertools.product(SENSORS, WORKS, WINDOWS_S)
    return {cell: [looked_at(*cell, seed) for seed in range(CASES)] for cell in names}


@pytest.fixture(scope="module")
def figures(cells: dict[tuple[str, str, float], list[Looked]]) -> dict[tuple[str, str, float], list[Looked]]:
    """The cases that have a figure, of the cells that have enough of them."""
    given = {cell: [each for each in cases if each.estimate.energy_j is not None] for cell, cases in cells.items()}
    return {cell: cases for cell, cases in given.items() if len(cases) >= ENOUGH}


def test_every_sensor_gives_figures_for_ten_seconds(figures):
    assert {(sensor, work) for sensor, work, window_s in figures if window_s == 10.0} == {
        (sensor, work) for sensor in SENSORS for work in WORKS
    }


def test_the_counter_gives_figures_for_half_a_second(figures):
    assert {sensor for sensor, _, window_s in figures if window_s == 0.5} == {"H200-like"}


def test_a_refusal_has_its_code(cells):
    reasons = {each.estimate.reason for cases in cells.values() for each in cases} - {None}
    assert {reason.partition(":")[0] for reason in reasons} == {"too_few_updates", "averaged_source", "aliased"}


def test_the_interval_holds_in_every_cell(figures):
    """Its goal is 95 %; of 150 cases a share within 88 and 100 % is what chance leaves of that."""
    shares = {cell: sum(each.held for each in cases) / len(cases) for cell, cases in figures.items()}
    assert {cell: share for cell, share in shares.items() if not 0.88 <= share <= 1.0} == {}


def test_the_interval_holds_as_often_as_it_says(figures):
    held = [each.held for cases in figures.values() for each in cases]
    assert 0.93 <= sum(held) / len(held) <= 0.98


def test_half_widths_are_within_the_goal_from_thirty_updates_on(figures):
    for cell, cases in figures.items():
        if statistics.median(each.estimate.distinct_updates for each in cases) >= 30:
            assert statistics.median(each.width for each in cases) <= WIDE_SHARE, cell


def test_every_wide_figure_is_flagged_and_no_other(figures):
    for each in itertools.chain.from_iterable(figures.values()):
        energy, width = each.estimate.energy_j, each.estimate.temporal_uncertainty_j
        assert energy is not None and width is not None
        assert bool(doubts.of_width(energy, width)) == (width > WIDE_SHARE * energy)


# Boards, whose rails are rounded each by itself.


@pytest.fixture(scope="module")
def boards() -> dict[tuple[str, str], list[Looked]]:
    """Every board and work over three seconds: the cases that have a figure."""
    cells = itertools.product(BOARDS, WORKS)
    looked = {cell: [looked_at(*cell, 3.0, seed) for seed in range(BOARD_CASES)] for cell in cells}
    return {cell: [each for each in cases if each.estimate.energy_j is not None] for cell, cases in looked.items()}


def test_the_interval_holds_on_every_board(boards):
    """Of 60 cases a share within 85 and 100 % is what chance leaves of 95 %; 80 % where a dip may never be seen."""
    shares = {cell: sum(each.held for each in cases) / len(cases) for cell, cases in boards.items()}
    assert {cell: share for cell, share in shares.items() if share < (0.8 if cell[1] == "pulses" else 0.85)} == {}


def test_the_interval_holds_on_boards_as_often_as_it_says(boards):
    held = [each.held for cases in boards.values() for each in cases]
    assert 0.93 <= sum(held) / len(held) <= 0.98


@pytest.mark.parametrize("board", list(BOARDS))
@pytest.mark.parametrize("work", ["ramp", "drift"])
def test_half_widths_of_boards_are_within_the_goal(boards, board, work):
    assert statistics.median(each.width for each in boards[board, work]) <= WIDE_SHARE


# The rules that other tools use, on readings of the same sensor taken ten times a second.


def mean_times_duration(inside: Sequence[Sample], span: Span) -> float:
    """Mean of the readings within the window, times its length."""
    return statistics.fmean(sample.value for sample in inside) * span.duration_s


def last_minus_first(inside: Sequence[Sample], span: Span) -> float:
    """Last reading within the window less the first."""
    return inside[-1].value - inside[0].value


@pytest.mark.parametrize("work", list(WORKS))
@pytest.mark.parametrize(
    ("rule", "reading"),
    [
        (mean_times_duration, Reading.INSTANT),
        (last_minus_first, Reading.COUNTER),
        (mean_times_duration, Reading.AVERAGE),
    ],
    ids=["mean of watts", "last minus first", "mean of averages"],
)
def test_plain_rules_are_worse(cells, work, rule: Callable[[Sequence[Sample], Span], float], reading):
    """By far, at the 95th percentile, on three seconds of a GPU that has ten updates a second."""
    ours, theirs = [], []
    for each in cells["H200-like", work, 3.0]:
        span = each.case.work.span
        inside = [s for s in each.case.plain[reading] if span.start_ns <= s.time_ns <= span.end_ns]
        theirs.append(abs(rule(inside, span) / each.truth_j - 1))
        assert each.estimate.energy_j is not None
        ours.append(abs(each.estimate.energy_j / each.truth_j - 1))
    assert statistics.quantiles(theirs, n=20)[-1] > 2 * statistics.quantiles(ours, n=20)[-1]
