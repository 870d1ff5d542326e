"""The whole path, with real processes and a real broker: measured here, delivered, stored once, compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SMALL = """
about = "two conditions of a small model"
[measure]
repetitions = 3
unmetered_window_s = 0.1
warmup_limit_s = 0.3
limit_s = 3
decode_steps = 4
[[cells]]
model = "stories15m"
prompt_tokens = 16
output_tokens = 6
threads = [1, 2]
"""

FAKE = ("--engine", "fake")


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.broker)])
def broker(request: pytest.FixtureRequest) -> str:
    """What `serve --broker` is told."""
    if request.param == "embedded":
        return "embedded:0"
    server = request.getfixturevalue("mosquitto")
    return f"{server.host}:{server.port}"


def test_a_measured_trial_arrives_once_and_is_compared(fleet: Any, broker: str, tmp_path: Path) -> None:
    """A real model on this CPU under two conditions, over MQTT, into a comparison and a report."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    (tmp_path / "small.toml").write_text(SMALL)
    collector, address = fleet.collector(broker)
    done = fleet.agent("run", str(tmp_path / "small.toml"), "--broker", address, "--device", "board-1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delivery"] == "all records are in the collector's store"
    assert collector.end() == 0
    trials = fleet.trials()
    assert [(t["device"], t["outcome"], t["simulated"]) for t in trials] == [("board-1", "ok", False)] * 2
    compared = fleet.collect("compare", "--json")
    assert compared.returncode == 0, compared.stderr
    assert len(json.loads(compared.stdout)["groups"]) == 2
    report = tmp_path / "report.html"
    assert fleet.collect("report", "--out", str(report)).returncode == 0
    assert "board-1" in report.read_text()


def test_trials_wait_for_a_broker_that_is_absent(fleet: Any, mosquitto: Any) -> None:
    """Said in one line; nothing is lost; they arrive, once, when the broker is back."""
    mosquitto.stop()
    address = f"{mosquitto.host}:{mosquitto.port}"
    waiting = fleet.agent("run", "smoke", *FAKE, "--broker", address, "--wait-s", "1", "--device", "b")
    assert waiting.returncode == 1
    assert "2 records wait in the outbox: " in waiting.stderr
    assert "Traceback" not in waiting.stderr
    mosquitto.start()
    fleet.collector(address)
    again = fleet.agent("run", "smoke", *FAKE, "--broker", address, "--device", "b")
    assert "all records are in the collector's store" in again.stderr
    trials = fleet.trials()
    assert len(trials) == 4
    assert len({trial["record_id"] for trial in trials}) == 4


test_trials_wait_for_a_broker_that_is_absent = pytest.mark.broker(test_trials_wait_for_a_broker_that_is_absent)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_keeps_its_cells_and_goes_on_with_the_rest(fleet: Any, number: int) -> None:
    """One line, exit code 130, and the next run measures only what is missing."""
    state = str(fleet.root / "board")
    command = [sys.executable, "-m", "agent.app", "run", "smoke", *FAKE, "--batch", "1,2,3", "--state-dir", state]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if "batch=3" in line and "threads=1" in line:
            break
    os.kill(running.pid, number)
    rest = running.communicate(timeout=20)[1]
    assert running.returncode == 130
    assert "the same command goes on with the rest" in rest
    assert "Traceback" not in rest
    resumed = fleet.agent("run", "smoke", *FAKE, "--batch", "1,2,3", "--json")
    assert resumed.returncode == 0, resumed.stderr
    told = json.loads(resumed.stdout)
    assert 1 <= len(told["cells"]) < 6
    fleet.agent("export", str(fleet.root / "all.jsonl"))
    assert fleet.collect("import", str(fleet.root / "all.jsonl")).returncode == 0
    cells = [trial["cell"] for trial in fleet.trials()]
    assert len(cells) == len(set(cells)) == 6


def test_carried_by_hand_and_sent_is_stored_once(fleet: Any) -> None:
    """Export and import use the keys of the wire."""
    _, address = fleet.collector()
    fleet.agent("run", "smoke", *FAKE, "--broker", address)
    assert fleet.agent("export", str(fleet.root / "x.jsonl.gz")).returncode == 0
    assert fleet.collect("import", str(fleet.root / "x.jsonl.gz")).returncode == 0
    assert len(fleet.trials()) == 2


def test_a_daemon_takes_a_suite_and_delivers_it(fleet: Any) -> None:
    """`run` beside it hands the work over; its own options are refused; it ends at SIGTERM with telemetry committed."""
    _, address = fleet.collector()
    daemon = fleet.daemon("board", "--broker", address, "--device", "board-7")
    done = fleet.agent("run", "smoke", *FAKE)
    assert done.returncode == 0, done.stderr
    assert "the daemon delivers the records" in done.stderr
    refused = fleet.agent("run", "smoke", *FAKE, "--broker", "127.0.0.1:1")
    assert refused.returncode == 2
    assert "a daemon lives in this state directory" in refused.stderr
    second = fleet.agent("serve")
    assert second.returncode == 1
    assert "another agent works in" in second.stderr
    assert daemon.end() == 0
    _wait_for(lambda: len(fleet.trials()) == 2)
    devices = json.loads(fleet.collect("devices", "--json").stdout)["devices"]
    assert [(d["device"], d["presence"]) for d in devices] == [("board-7", "offline")]


def test_a_killed_collector_gets_again_what_it_did_not_commit(fleet: Any, mosquitto: Any) -> None:
    """kill -9 in the middle: started again, it ends up with everything, once."""
    address = f"{mosquitto.host}:{mosquitto.port}"
    collector, _ = fleet.collector(address)
    fleet.agent("run", "smoke", *FAKE, "--broker", address)
    collector.kill()
    fleet.agent("run", "smoke", *FAKE, "--broker", address, "--wait-s", "1")
    fleet.collector(address)
    fleet.agent("run", "smoke", *FAKE, "--broker", address)
    _wait_for(lambda: len(fleet.trials()) == 6)
    assert len({trial["record_id"] for trial in fleet.trials()}) == 6


test_a_killed_collector_gets_again_what_it_did_not_commit = pytest.mark.broker(
    test_a_killed_collector_gets_again_what_it_did_not_commit
)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "smok"), 2, "no suite 'smok'; known:"),
        (("run", "smoke", "--engine", "fake", "--model", "gpt-9"), 2, "no preset 'gpt-9'"),
        (("run", "smoke", "--engine", "vllm"), 2, "no engine 'vllm'"),
        (("run", "smoke", "--dtype", "int8"), 2, "cells[0].dtype"),
        (("run", "smoke", "--weights", "meta/llama"), 2, "expected random:SEED, path:DIR or hub:OWNER/NAME"),
        (("run", "smoke", "--threads", "two"), 2, "--threads: expected whole numbers, got 'two'"),
        (("run", "smoke", "--engine", "fake", "--meter", "nvlm"), 2, "no meter 'nvlm'"),
        (("run", "smoke", "--engine", "fake", "--broker", "nowhere"), 2, "expected HOST:PORT, got 'nowhere'"),
        (("run", "smoke", "--engine", "fake", "--device", "a b"), 2, "device: expected up to 64 letters"),
        (("run", "smoke", "--engine", "fake", "--model", "qwen2.5-32b", "--batch", "64"), 1, "GB are free"),
        (("run", "smoke", "--config", "absent.toml"), 2, "no file absent.toml"),
        (("export", "/nonexistent/x.jsonl"), 1, "outbox"),
    ],
)
def test_bad_input_is_one_line_and_no_traceback(fleet: Any, arguments: tuple[str, ...], code: int, words: str) -> None:
    """The thing and the remedy, exit code not 0."""
    done = fleet.agent(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_file_errors_name_key_and_value(fleet: Any, tmp_path: Path) -> None:
    """A wrong type in agent.toml."""
    (tmp_path / "agent.toml").write_text("telemetry_interval_s = 'often'\n")
    done = fleet.agent("run", "smoke", *FAKE, "--config", str(tmp_path / "agent.toml"))
    assert done.returncode == 2
    assert 'telemetry_interval_s: expected float, got "often"' in done.stderr


def test_without_torch_the_trial_fails_with_the_remedy(fleet: Any, tmp_path: Path) -> None:
    """An environment that has no torch: one line a cell, exit code 1, and the failed trials are kept."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(blocked), *sys.path])}
    command = [sys.executable, "-m", "agent.app", "run", "smoke", "--state-dir", str(fleet.root / "board")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1
    assert "engine transformers needs torch: pip install 'phasewatt[torch]'" in done.stderr
    assert "2 records wait in the outbox" in done.stderr
    assert "Traceback" not in done.stderr


def _wait_for(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)
