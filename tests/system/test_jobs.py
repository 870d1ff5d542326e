"""A job as a user gives it: the command, a real broker, the real agent with the engine `fake`, and a crash."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from collector.store import open_store
from phasewatt.jobs import Standing, State
from tests.faults.field import until
from tests.fixtures.fake_job import stored_cells, suite

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

PATIENCE_S = 240.0
JOB = 'suite = "ours"\n[targets]\nlabels = ["lab", "none"]\n'


def test_a_job_by_label_outlives_a_crash_of_its_board(fleet: Any, mosquitto: Any, tmp_path: Path) -> None:
    """Killed in the middle, it goes on in the next life; `jobs show` and `trials` agree; a wrong one says why."""
    address = f"{mosquitto.host}:{mosquitto.port}"
    state = tmp_path / "board"
    state.mkdir()
    (tmp_path / "ours.toml").write_text(suite(range(16, 20), [4]))
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "wrong.toml").write_text(JOB.replace("ours", "phases"))
    (state / "agent.toml").write_text(
        f'labels = ["lab"]\nmeters = ["none"]\n'
        f'[jobs]\nsuites = ["{tmp_path / "ours.toml"}"]\nunsynchronised_clock = true\n'
    )
    fleet.collector(address)
    daemon = fleet.daemon("board", "--device", "board-1", "--broker", address)
    until(lambda: _labels(fleet) == ["lab"], PATIENCE_S)
    assert fleet.collect("jobs", "submit", str(tmp_path / "job.toml"), "--id", "j1").returncode == 0
    until(lambda: _standing(fleet, "j1", "board-1").done > 0, PATIENCE_S)
    daemon.kill()
    fleet.daemon("board", "--device", "board-1", "--broker", address)
    fleet.collect("jobs", "submit", str(tmp_path / "wrong.toml"), "--id", "j2")
    until(lambda: _standing(fleet, "j1", "board-1").state is State.SUCCEEDED, PATIENCE_S)
    until(lambda: _standing(fleet, "j2", "board-1").state is State.REJECTED, PATIENCE_S)
    assert "suite 'phases' is not allowed on this board" in (_standing(fleet, "j2", "board-1").reason or "")
    until(lambda: len(stored_cells(fleet.db, "j1")) >= 4, PATIENCE_S)
    cells = stored_cells(fleet.db, "j1")
    assert len(set(cells)) == len(cells) == 4
    (shown,) = json.loads(fleet.collect("jobs", "show", "j1", "--json").stdout)["jobs"]
    told = {run["device"]: (run["state"], run["trials"], run["reason"]) for run in shown["runs"]}
    assert told == {
        "board-1": ("succeeded", 4, None),
        "label:none": ("rejected", 0, "no device has the label 'none'"),
    }


def _labels(fleet: Any) -> list[str]:
    with contextlib.closing(open_store(fleet.db)) as store:
        return [label for row in store.devices() for label in (row.facts.labels if row.facts else ())]


def _standing(fleet: Any, job: str, device: str) -> Standing:
    """Off the store: a command a look would cost a second each."""
    with contextlib.closing(open_store(fleet.db)) as store:
        return next(each.standing for each in store.jobs.executions(job) if each.device == device)
