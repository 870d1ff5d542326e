"""The way of docs/enrolment.md, as its own processes: set up, serve, enroll, join, serve there, revoke."""

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


def test_from_nothing_to_a_board_that_is_in_and_out_again(fleet: Any, tmp_path: Path, monkeypatch: Any) -> None:
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
    daemon = fleet.daemon("board", "--meter", "none")
    assert _until(lambda: _presence(fleet) == {"orin-1": "online"})

    seen_unix_s = _last_seen_unix_s(fleet)
    pid = int((tmp_path / "state" / "phasewatt" / "broker" / "mosquitto.pid").read_text())
    os.kill(pid, signal.SIGKILL)  # the collector starts another one
    assert _until(lambda: _living_broker(tmp_path) not in {None, pid})
    assert _until(lambda: _last_seen_unix_s(fleet) > seen_unix_s)  # the board is back

    _ok(fleet, "enroll", "orin-1", "--revoke")
    assert _until(lambda: _presence(fleet) == {"orin-1": "offline"})
    assert daemon.end() == 0
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


def _presence(fleet: Any) -> dict[str, str]:
    done = fleet.collect("devices", "--json")
    return {device["device"]: device["presence"] for device in json.loads(done.stdout)["devices"]}


def _last_seen_unix_s(fleet: Any) -> float:
    (device,) = json.loads(fleet.collect("devices", "--json").stdout)["devices"]
    return float(device["last_seen_unix_s"])


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
