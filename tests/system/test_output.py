"""Outputs that fail, and places that are no files: one line, no traceback, nothing destroyed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def _shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    full = {"PYTHON": sys.executable, **os.environ, **environment}
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=full)


@pytest.mark.parametrize("program", ["agent.app suites", "agent.app suites --json", "collector.app --help"])
@pytest.mark.parametrize("ending", ["> /dev/full", ">&-", "| head -c 1"])
def test_an_output_that_fails_is_no_traceback(program: str, ending: str) -> None:
    """A full disk, a closed output, a reader that has had enough."""
    done = _shell(f'"$PYTHON" -m {program} {ending}')
    assert "Traceback" not in done.stderr


def test_letters_that_a_terminal_lacks_are_replaced(fleet: Any) -> None:
    """A comparison on an ASCII terminal."""
    fleet.agent("run", "smoke", "--engine", "fake")
    fleet.agent("export", str(fleet.root / "x.jsonl"))
    fleet.collect("import", str(fleet.root / "x.jsonl"))
    done = _shell(f'"$PYTHON" -m collector.app compare --db {fleet.db}', PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "smollm2-135m" in done.stdout


def test_exports_and_reports_do_not_replace_what_is_no_file(fleet: Any, tmp_path: Path) -> None:
    """A pipe stays a pipe; a link keeps pointing at what was written."""
    fleet.agent("run", "smoke", "--engine", "fake")
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    done = fleet.agent("export", str(pipe))
    assert done.returncode == 1
    assert "it is no regular file" in done.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target.jsonl")
    assert fleet.agent("export", str(tmp_path / "link.jsonl")).returncode == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert fleet.collect("import", str(tmp_path / "target.jsonl")).returncode == 0
    os.mkfifo(tmp_path / "pipe.html")
    for command in (("export", str(pipe)), ("report", "--out", str(tmp_path / "pipe.html"))):
        refused = fleet.collect(*command)
        assert refused.returncode != 0
        assert "it is no regular file" in refused.stderr


def test_a_meter_that_was_asked_for_must_answer(fleet: Any) -> None:
    """Found before anything is measured."""
    done = fleet.agent("run", "smoke", "--engine", "fake", "--meter", "replay:/nonexistent")
    assert done.returncode == 1
    assert "replay: cannot read /nonexistent" in done.stderr
    assert "measuring" not in done.stderr
