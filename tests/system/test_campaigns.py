"""Campaigns with real processes: killed at any point, ended by a slice, archived, compared by a condition."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SUITE = """
about = "three cells, twice each"
[measure]
repetitions = 3
unmetered_window_s = 0.05
warmup_limit_s = 0.1
limit_s = 1
gate_s = 0
repeats = 2
[[cells]]
engine = "fake"
model = "stories15m"
prompt_tokens = [8, 16, 32]
output_tokens = 4
"""
TIMEOUT_S = 300


@pytest.fixture
def suite(tmp_path: Path) -> str:
    """A file of six short trials."""
    (tmp_path / "six.toml").write_text(SUITE)
    return str(tmp_path / "six.toml")


def _killed_at(word: str, times: int, *arguments: str) -> str:
    """What a run said until it was killed, kill -9, at the `times`th line that holds `word`."""
    command = [sys.executable, "-m", "agent.app", "run", *arguments]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    said: list[str] = []
    with running:
        for line in running.stderr:
            said.append(line)
            times -= word in line
            if times == 0:
                running.kill()
    return "".join(said)


@pytest.mark.timeout(TIMEOUT_S)
def test_a_campaign_that_is_killed_again_and_again_measures_every_cell_once(fleet: Any, suite: str) -> None:
    """kill -9 before the first cell, in the first, in later ones; in the end six trials of one campaign, each once."""
    state = str(fleet.root / "board")
    for word, times in (("cells, about", 1), ("measuring", 1), ("measuring", 2), ("measuring", 3)):
        said = _killed_at(word, times, suite, "--state-dir", state)
        assert "Traceback" not in said
    archive = fleet.root / "campaign.jsonl.gz"
    done = fleet.agent("run", suite, "--json", "--archive", str(archive))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["cells"]) < 6
    assert told["archive"].startswith("archive: 6 records of campaign ")
    assert fleet.collect("import", str(archive)).returncode == 0
    trials = fleet.trials()
    assert {trial["campaign"] for trial in trials} == {told["campaign"]}
    cells = [trial["cell"] for trial in trials]
    assert len(cells) == 6
    assert {cells.count(cell) for cell in cells} == {2}


@pytest.mark.timeout(TIMEOUT_S)
def test_a_slice_that_is_too_short_begins_nothing_and_says_what_is_left(fleet: Any, suite: str) -> None:
    """Exit code 3, the number of cells and how long they take; the whole time then does them."""
    short = fleet.agent("run", suite, "--for", "11s")
    assert short.returncode == 3, short.stderr
    assert "time is up: 6 cells are left, about " in short.stderr
    assert "the same command goes on with them" in short.stderr
    assert "measuring" not in short.stderr
    told = json.loads(fleet.agent("run", suite, "--for", "20m", "--json").stdout)
    assert (len(told["cells"]), told["left"]) == (6, None)


def test_suites_show_tells_what_would_happen_here(fleet: Any, suite: str) -> None:
    """Cells, memory and time before anything is started; a model that is too large with both figures."""
    shown = fleet.agent("suites", "show", "paper", "--model", "qwen2.5-32b", "--dtype", "float32")
    assert shown.returncode == 0, shown.stderr
    assert "skipped: needs " in shown.stdout and " GB are free" in shown.stdout
    plan = json.loads(fleet.agent("suites", "show", suite, "--json").stdout)["plan"]
    assert [cell["skipped"] for cell in plan["cells"]] == [None] * 3
    assert all(cell["needed_bytes"] < cell["free_bytes"] for cell in plan["cells"])
    assert "roughly estimated" in plan["basis"]
    assert plan["expected_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "smoke", "--for", "soon"), "--for: expected a time such as 90s, 9m or 1h30m, got 'soon'"),
        (("run", "smoke", "--for", "0m"), "--for: expected a time such as"),
        (("run", "smoke", "--for", "-5m"), "expected one argument"),
        (("run", "smoke", "--archive", "/nonexistent/a.jsonl"), "--archive: expected a file in a folder that exists"),
        (("suites", "show"), "suites: expected the name of one suite"),
        (("suites", "show", "papers"), "no suite 'papers'; known:"),
        (("suites", "show", "smoke", "--batch", "many"), "--batch: expected whole numbers, got 'many'"),
    ],
)
def test_bad_input_is_one_line(fleet: Any, arguments: tuple[str, ...], words: str) -> None:
    """The thing and the remedy, exit code 2."""
    done = fleet.agent(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
