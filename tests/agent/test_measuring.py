"""A suite, cell by cell: in which order, what is committed when, what a slice begins, what a full disk does to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent import cells
from agent.attempt import Finished, Plan
from agent.campaigns import Campaigns
from agent.cells import Cell, Suite
from agent.durations import Durations
from agent.estimate import RATES
from agent.measuring import Begun, CellBegun, CellDone, Ended, Means, OutOfTime, Stage, run_suite
from agent.outbox import Outbox, OutboxFull
from agent.pace import Pace
from agent.stopping import Stop, Until
from phasewatt import codec
from phasewatt.errors import Stopped
from phasewatt.fields import Kind, Outcome
from phasewatt.records import Trial
from tests.fixtures.records import changed, trial


class Clock:
    """Seconds that pass when a cell is measured."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Scripted:
    """A runner that gives a trial a cell, taking its time, and stops before the cell of that number."""

    def __init__(
        self,
        stop_before: int | None = None,
        clock: Clock | None = None,
        takes_s: Callable[[Cell], float] = lambda cell: 0.0,
        outcome: Outcome = Outcome.FAILED,
    ) -> None:
        self.ran: list[tuple[str, int]] = []
        self.plans: list[Plan] = []
        self._stop_before = stop_before
        self._clock = clock
        self._takes_s = takes_s
        self._outcome = outcome
        self.stop: Stop = Stop()

    def run(self, cell: Cell, plan: Plan) -> Finished:
        if len(self.ran) == self._stop_before:
            raise Stopped("stopped")
        if self._clock is not None:
            self._clock.now_s += self._takes_s(cell)
        if self.stop.is_set():
            raise Stopped("in the middle of a cell")
        self.ran.append((cell.label, plan.repeat))
        self.plans.append(plan)
        made = trial(outcome=self._outcome, reason="scripted")
        same = {"campaign": plan.campaign, "cell": cell.label, "repeat": plan.repeat, "place": plan.place}
        return Finished(changed(made, **same, order_seed=plan.seed), ())


class House:
    """What `run_suite` needs, on one outbox."""

    def __init__(self, outbox: Outbox, state: Path) -> None:
        self.outbox = outbox
        self.told: list[Any] = []
        self.paused: list[float] = []
        self.durations = Durations(state)

    def suite(self, **overrides: Any) -> Suite:
        return cells.load("smoke", overrides or {"batch": [1, 2]})

    def run(
        self,
        runner: Any,
        suite: Suite | None = None,
        campaigns: Campaigns | None = None,
        until: Until | None = None,
        fresh: bool = False,
    ) -> None:
        suite = suite or self.suite()
        pace = Pace(suite.measure, self.durations, lambda cell: RATES["cpu"], metered=False)
        means = Means(
            runner, campaigns or Campaigns(self.outbox), pace, self.told.append, self.paused.append, until=until
        )
        run_suite(suite, fresh, means)

    def of(self, kind: type[Any]) -> list[Any]:
        return [report for report in self.told if isinstance(report, kind)]


@pytest.fixture
def house(tmp_path: Path) -> Any:
    """An empty one."""
    made = Outbox.open(tmp_path, 64 * 2**20)
    yield House(made, tmp_path)
    made.close()


def test_every_cell_is_committed_and_the_campaign_ends(house: House) -> None:
    """Reports come in order; the next run is a new campaign with all cells."""
    runner = Scripted()
    house.run(runner)
    assert [type(report) for report in house.told] == [Begun, *[CellBegun, CellDone] * 4, Ended]
    assert house.outbox.pending() == 4
    house.run(runner)
    assert len(runner.ran) == 8


def test_a_stopped_suite_goes_on_where_it_was(house: House) -> None:
    """Two cells before the stop, the other two after it, all in one campaign."""
    with pytest.raises(Stopped):
        house.run(Scripted(stop_before=2))
    rest = Scripted()
    house.run(rest)
    begun = house.of(Begun)
    assert [report.done_before for report in begun] == [0, 2]
    assert begun[0].campaign == begun[1].campaign
    assert len(rest.ran) == 2


def test_repeats_are_measured_in_rounds_and_each_is_done_once(house: House) -> None:
    """Every round has every cell once; a stop in a round goes on within it; seed and place are in the trials."""
    suite = cells.parse("s", SWEPT + "\n", {}, "s.toml")
    first, rest = Scripted(stop_before=4), Scripted()
    with pytest.raises(Stopped):
        house.run(first, suite)
    house.run(rest, suite)
    ran = first.ran + rest.ran
    assert len(ran) == len(set(ran)) == 9
    assert [repeat for _, repeat in ran] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [plan.place for plan in first.plans + rest.plans] == list(range(1, 10))
    assert {plan.seed for plan in first.plans} == {suite.seed} == {5}


SWEPT = """
about = "x"
seed = 5
[measure]
repeats = 3
[[cells]]
prompt_tokens = [8, 16, 32]
output_tokens = 4
"""


def test_a_finished_cell_is_held_while_the_disk_is_full(house: House) -> None:
    """It is tried again until there is room, said meanwhile, and committed once."""

    class Full(Campaigns):
        left = 2

        def commit_cell(self, campaign: str, cell: str, outcome: Outcome, records: Sequence[Any]) -> list[int]:
            if Full.left:
                Full.left -= 1
                raise OutboxFull("the disk is full")
            return super().commit_cell(campaign, cell, outcome, records)

    house.run(Scripted(), campaigns=Full(house.outbox))
    assert len(house.paused) == 2
    assert sum("disk is full" in report.text for report in house.of(Stage)) == 2
    assert house.outbox.pending() == 4


def test_a_failed_cell_does_not_end_the_suite(house: House) -> None:
    """Each failure is a trial with its reason, and the next cell is measured."""
    house.run(Scripted(outcome=Outcome.SKIPPED))
    assert [report.outcome for report in house.of(CellDone)] == [Outcome.SKIPPED] * 4
    assert {report.reason for report in house.of(CellDone)} == {"scripted"}
    (ended,) = house.of(Ended)
    assert ended.optima == ()


def _known(house: House, suite: Suite, seconds: Callable[[Cell], float]) -> None:
    """Let the host have measured these before."""
    pace = Pace(suite.measure, house.durations, lambda cell: RATES["cpu"], metered=False)
    for cell in suite.cells:
        pace.took(cell, seconds(cell), loading_s=1.0)


def _slice(runner: Scripted, clock: Clock, seconds: float) -> Until:
    until = Until(Stop(), seconds, clock)
    runner.stop = until
    return until


def test_a_slice_begins_no_cell_that_would_not_end_in_it(house: House) -> None:
    """Of cells of 10 and 100 s, a minute does the short ones; what is left is said, and the next slice does it."""
    suite, clock = house.suite(), Clock()

    def seconds(cell: Cell) -> float:
        return 10.0 * (10 if cell.batch == 2 else 1)

    _known(house, suite, seconds)
    runner = Scripted(clock=clock, takes_s=seconds, outcome=Outcome.OK)
    house.run(runner, suite, until=_slice(runner, clock, 60.0))
    assert len(runner.ran) == 2
    assert all("batch=1" in label for label, _ in runner.ran)
    (over,) = house.of(OutOfTime)
    assert (over.left, round(over.left_s)) == (2, 201)
    assert "2 cells are left" in over.message and "the shortest needs about 2 min" in over.message
    assert not house.of(Ended)
    house.run(runner, suite, until=_slice(runner, clock, 600.0))
    assert len(house.of(Ended)) == 1
    assert len(set(runner.ran)) == 4


def test_a_slice_that_is_too_short_for_anything_begins_nothing(house: House) -> None:
    """And does not hang, nor close the campaign."""
    suite, clock = house.suite(), Clock()
    _known(house, suite, lambda cell: 50.0)
    runner = Scripted(clock=clock)
    house.run(runner, suite, until=_slice(runner, clock, 20.0))
    assert runner.ran == []
    assert house.of(OutOfTime)[0].left == 4


def test_a_cell_that_outlives_its_slice_is_dropped_and_not_begun_again_in_vain(house: House) -> None:
    """It took longer than was known: the slice ends in time, and the next of that length knows better."""
    suite, clock = house.suite(batch=[1], threads=[1]), Clock()
    _known(house, suite, lambda cell: 10.0)
    runner = Scripted(clock=clock, takes_s=lambda cell: 90.0)
    house.run(runner, suite, until=_slice(runner, clock, 60.0))
    assert runner.ran == []
    assert len(house.of(OutOfTime)) == 1
    pace = Pace(suite.measure, house.durations, lambda cell: RATES["cpu"], metered=False)
    assert not pace.cell(suite.cells[0]).known


def test_being_stopped_in_a_slice_is_being_stopped(house: House) -> None:
    """Ctrl-C is no end of time."""
    runner, clock = Scripted(stop_before=0, clock=Clock()), Clock()
    with pytest.raises(Stopped):
        house.run(runner, until=Until(Stop(), 1e6, clock))
    assert not house.of(OutOfTime)


def test_a_campaign_that_was_killed_before_it_was_closed_is_closed(house: House) -> None:
    """All its cells were done: nothing is run again."""
    suite = house.suite()
    campaigns = Campaigns(house.outbox)
    begun = campaigns.start_campaign(suite.digest)
    for cell in suite.cells:
        campaigns.commit_cell(begun, cell.label, Outcome.OK, [trial(cell=cell.label)])
    runner = Scripted()
    house.run(runner, suite)
    assert runner.ran == []
    assert campaigns.open_campaign(suite.digest) is None


def test_trials_carry_their_place_through_the_outbox(house: House) -> None:
    """As they are read again from the rows."""
    house.run(Scripted())
    items = [item for batch in house.outbox.batches("d", "b", _clock()) for item in batch.items]
    trials = [codec.decode_record(Kind.TRIAL, item.schema, bytes(item.body)) for item in items]
    assert sorted(t.place or 0 for t in trials if isinstance(t, Trial)) == [1, 2, 3, 4]


def _clock() -> Any:
    from phasewatt.messages import Clock as Synchronised

    return Synchronised(synchronised=True, offset_bound_s=None)
