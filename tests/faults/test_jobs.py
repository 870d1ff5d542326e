"""A job whose board, broker and collector are killed at random points: it ends, and each cell is stored once."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector import job_spec
from collector.job_spec import JobRow
from collector.store import TrialQuery, open_store
from phasewatt.jobs import State
from tests.faults.field import Collector, Field, Program, field, until
from tests.faults.job_board import Orders

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

JOB = """
suite = "quick"
[parameters]
prompt_tokens = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27]
output_tokens = [4, 5, 6]
[targets]
devices = ["board-1"]
"""
CELLS = 36
CELL_S = 0.4
KILLS = 20
END_S = 90.0


def test_a_job_ends_whatever_is_killed_and_no_cell_is_lost_or_twice(tmp_path: Path, fault_seed: str) -> None:
    """Twenty kills of every process at random points of one job."""
    draw = random.Random(f"{fault_seed}/jobs")
    with field(tmp_path, fault_seed) as fleet:
        collector = fleet.collector()
        orders = Orders(state=str(tmp_path / "board"), device="board-1", port=fleet.broker.port, cell_s=CELL_S)
        board = fleet.program("board", "tests.faults.job_board", msgspec.json.encode(orders).decode())
        board.start()
        _submit(collector)
        for kill in range(KILLS):
            lives = kill + 1
            until(lambda lives=lives: board.printed().count("lives\n") == lives, END_S, board.printed)
            time.sleep(draw.uniform(0.0, 1.0))
            assert not _state(collector).is_final, "the job is too short for its kills"
            _strike(fleet, collector, board, everything=kill % 4 == 0)
        until(lambda: _state(collector) is State.SUCCEEDED, END_S, lambda: board.printed() + collector.printed())
        assert board.end() == 0
        until(lambda: len(_cells(collector)) >= CELLS, END_S, board.printed)
        cells = _cells(collector)
    assert len(cells) == CELLS
    assert len(set(cells)) == CELLS


def _submit(collector: Collector) -> None:
    with contextlib.closing(open_store(collector.url)) as store:
        until(lambda: bool(store.devices()), END_S)
        job = JobRow("j1", job_spec.parse(JOB, "job.toml"), time.time())
        store.jobs.submit(job, job_spec.executions_of(job, None, store.devices(), time.time()))


def _strike(fleet: Field, collector: Collector, board: Program, everything: bool) -> None:
    """Kill the board, now and then all the rest with it, as a power cut does; start them again."""
    board.kill()
    if everything:
        collector.kill()
        fleet.broker.kill()
        fleet.broker.start()
        collector.start(wait=False)
    board.start()


def _state(collector: Collector) -> Any:
    with contextlib.closing(open_store(collector.url)) as store:
        (execution,) = store.jobs.executions("j1")
        return execution.standing.state


def _cells(collector: Collector) -> list[str]:
    with contextlib.closing(open_store(collector.url)) as store:
        return [stored.trial.cell for stored in store.trials(TrialQuery(campaign="j1"))]
