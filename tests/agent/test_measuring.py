"""A suite, cell by cell: what is committed when, and what a full disk does to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent import cells
from agent.attempt import Finished, Plan
from agent.campaigns import Campaigns
from agent.cells import Cell, Suite
from agent.measuring import Begun, CellBegun, CellDone, Ended, Stage, run_suite
from agent.outbox import Outbox, OutboxFull
from phasewatt.errors import Stopped
from phasewatt.records import Outcome
from tests.fixtures.records import changed, trial


class Scripted:
    """A runner that gives a failed trial a cell, and stops before the cell of that number."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.ran: list[str] = []
        self._stop_before = stop_before

    def run(self, cell: Cell, plan: Plan) -> Finished:
        if len(self.ran) == self._stop_before:
            raise Stopped("stopped")
        self.ran.append(cell.label)
        made = trial(outcome=Outcome.FAILED, reason="scripted")
        return Finished(changed(made, campaign=plan.campaign, cell=cell.label), ())


def _run(runner: Any, outbox: Outbox, told: list[Any], pause: Any = None, campaigns: Any = None) -> None:
    suite: Suite = cells.load("smoke", {"batch": [1, 2]})
    run_suite(suite, runner, campaigns or Campaigns(outbox), False, told.append, pause or (lambda seconds: None))


@pytest.fixture
def outbox(tmp_path: Path) -> Any:
    """An empty one."""
    made = Outbox.open(tmp_path, 64 * 2**20)
    yield made
    made.close()


def test_every_cell_is_committed_and_the_campaign_ends(outbox: Outbox) -> None:
    """Reports come in order; the next run is a new campaign with all cells."""
    told: list[Any] = []
    runner = Scripted()
    _run(runner, outbox, told)
    assert [type(report) for report in told] == [Begun, *[CellBegun, CellDone] * 4, Ended]
    assert outbox.pending() == 4
    _run(runner, outbox, told)
    assert len(runner.ran) == 8


def test_a_stopped_suite_goes_on_where_it_was(outbox: Outbox) -> None:
    """Two cells before the stop, the other two after it, all in one campaign."""
    told: list[Any] = []
    with pytest.raises(Stopped):
        _run(Scripted(stop_before=2), outbox, told)
    rest = Scripted()
    _run(rest, outbox, told)
    begun = [report for report in told if isinstance(report, Begun)]
    assert [report.done_before for report in begun] == [0, 2]
    assert begun[0].campaign == begun[1].campaign
    assert len(rest.ran) == 2


def test_a_finished_cell_is_held_while_the_disk_is_full(outbox: Outbox) -> None:
    """It is tried again until there is room, said meanwhile, and committed once."""

    class Full(Campaigns):
        left = 2

        def commit_cell(self, campaign: str, cell: str, outcome: Outcome, records: Sequence[Any]) -> list[int]:
            if Full.left:
                Full.left -= 1
                raise OutboxFull("the disk is full")
            return super().commit_cell(campaign, cell, outcome, records)

    told: list[Any] = []
    paused: list[float] = []
    _run(Scripted(), outbox, told, paused.append, Full(outbox))
    assert len(paused) == 2
    assert sum(isinstance(report, Stage) and "disk is full" in report.text for report in told) == 2
    assert outbox.pending() == 4
