"""A sweep with real worker processes, one of which dies in the middle as when memory runs out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import cells
from agent.bench import Bench
from agent.campaigns import Campaigns
from agent.durations import Durations
from agent.estimate import RATES
from agent.host import Host
from agent.measuring import CellDone, Ended, Means, run_suite
from agent.outbox import Outbox
from agent.pace import Pace
from agent.runner import Metering, Runner
from agent.stopping import Stop
from phasewatt.fields import Outcome

SUITE = """
about = "three cells on one model"
[measure]
repetitions = 3
unmetered_window_s = 0.05
warmup_limit_s = 0.1
gate_s = 0
[[cells]]
engine = "fake"
model = "stories15m"
prompt_tokens = [8, 16, 32]
output_tokens = 4
phases = "prefill, decode"
"""
TOO_LARGE = SUITE.replace('"stories15m"', '["stories15m", "qwen2.5-32b"]').replace("[8, 16, 32]", "8") + "batch = 64\n"


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An empty one."""
    opened = Outbox.open(tmp_path, 64 * 2**20)
    yield opened
    opened.close()


def _run(text: str, outbox: Outbox, state: Path, at_cell: Any = None) -> list[CellDone]:
    """The cells as they were told; `at_cell(number, bench)` is called at each cell's decode window."""
    suite = cells.parse("s", text, {}, "s.toml")
    told: list[Any] = []
    stop = Stop()
    windows: list[str] = []

    def stage(text: str) -> None:
        if text == "decode: measuring":
            windows.append(text)
            if at_cell is not None:
                at_cell(len(windows), bench)

    bench = Bench(stop, stage)
    runner = Runner(Host("board"), bench, Metering((), "no power sensor"), stop, stage)
    pace = Pace(suite.measure, Durations(state), lambda cell: RATES["cpu"], metered=False)
    try:
        run_suite(suite, False, Means(runner, Campaigns(outbox), pace, told.append, stop.pause))
    finally:
        bench.clear()
    assert isinstance(told[-1], Ended)
    return [report for report in told if isinstance(report, CellDone)]


def test_a_worker_that_is_killed_in_the_middle_costs_its_cell(outbox: Outbox, tmp_path: Path) -> None:
    """The second of three is skipped with its reason, the third gets a new process, and the campaign ends."""

    def kill_the_second(number: int, bench: Bench) -> None:
        if number == 2 and bench.pid is not None:
            os.kill(bench.pid, signal.SIGKILL)

    done = _run(SUITE, outbox, tmp_path, kill_the_second)
    assert [cell.outcome for cell in done] == [Outcome.OK, Outcome.SKIPPED, Outcome.OK]
    assert "as the kernel does when memory runs out" in (done[1].reason or "")
    assert outbox.pending() == 3


def test_a_cell_that_cannot_fit_is_skipped_with_both_figures(outbox: Outbox, tmp_path: Path) -> None:
    """What it needs and what is free; the one that fits is measured."""
    done = _run(TOO_LARGE, outbox, tmp_path)
    by_outcome = {cell.outcome: cell for cell in done}
    assert set(by_outcome) == {Outcome.OK, Outcome.SKIPPED}
    reason = by_outcome[Outcome.SKIPPED].reason or ""
    assert "GB, " in reason and "GB are free" in reason
