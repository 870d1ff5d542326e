"""The way of docs/enrolment.md, as its own processes: set up, serve, enroll, join, run, revoke."""

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

from tests.fixtures.broker import find_mosquitto, free_port

pytestmark = pytest.mark.broker
FAKE = ("--engine", "fake", "--prompt-tokens", "8", "--output-tokens", "8", "--meter", "none")


def test_from_nothing_to_a_delivered_trial_and_out_again(fleet: Any, tmp_path: Path, monkeypatch: Any) -> None:
    find_mosquitto()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    ports = ("--port", str(free_port()), "--centre-port", str(free_port()))
    _ok(fleet, "broker-config", "--host", "localhost", "--bind", "127.0.0.1", *ports)
    collector = fleet.started("collector.app", "serve", "--db", fleet.db, "--broker", "managed")
    assert "boards reach it at localhost:" in collector.line
    assert collector.process.stdout.readline().startswith("collector ready: broker 127.0.0.1:")
    bundle = tmp_path / "orin-1.bundle"
    _ok(fleet, "enroll", "orin-1", "--out", str(bundle))
    joined = fleet.agent("join", str(bundle))
    assert joined.returncode == 0, joined.stderr
    done = fleet.agent("run", "smoke", *FAKE)
    assert done.returncode == 0, done.stderr
    assert "all records are in the collector's store" in done.stderr
    assert {trial["device"] for trial in fleet.trials()} == {"orin-1"}

    doctor = {each["question"]: each for each in json.loads(fleet.agent("doctor", "--json").stdout)["findings"]}
    assert doctor["identity"]["ok"] and doctor["broker"]["ok"]
    pid = int((tmp_path / "state" / "phasewatt" / "broker" / "mosquitto.pid").read_text())
    os.kill(pid, signal.SIGKILL)  # the collector starts another one
    assert _until(lambda: _living_broker(tmp_path) not in {None, pid})

    _ok(fleet, "enroll", "orin-1", "--revoke")
    late = fleet.agent("run", "smoke", *FAKE, "--fresh", "--wait-s", "2")
    assert late.returncode == 1
    assert "the broker refuses this board's certificate: it was revoked" in late.stderr or "hung up" in late.stderr
    assert collector.end() == 0
    assert _living_broker(tmp_path) is None


def test_a_collector_without_mosquitto_says_what_to_install(tmp_path: Path) -> None:
    """Nothing of it is found where a PATH of nothing is all there is."""
    asks = (
        "import collector.managed as m; m._PLACES = '/nonexistent'; import collector.app as a, sys; sys.exit(a.main())"
    )
    environment = {**os.environ, "PATH": "/nonexistent", "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", asks, "serve", "--broker", "managed"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 2
    assert "mosquitto is not installed: apt-get install mosquitto" in done.stderr
    assert "Traceback" not in done.stderr


def _ok(fleet: Any, command: str, *arguments: str) -> None:
    done = fleet.collect(command, *arguments)
    assert done.returncode == 0, done.stderr


def _living_broker(tmp_path: Path) -> int | None:
    """Its process, by its own word and the kernel's."""
    try:
        pid = int((tmp_path / "state" / "phasewatt" / "broker" / "mosquitto.pid").read_text())
        return pid if b"mosquitto" in Path(f"/proc/{pid}/cmdline").read_bytes() else None
    except (OSError, ValueError):
        return None


def _until(condition: Any, seconds: float = 30.0) -> bool:
    deadline_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True
