"""The agent on Debian arm64 under emulation: it installs, reads a simulated board, and its trials reach a collector.

Emulation shows that wheels and code work there; it says nothing of speed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.machine import kits, roots
from tests.machine.emulated import Emulated, register

pytestmark = [pytest.mark.arm64, pytest.mark.timeout(1200)]

DEVICE = "arm-1"
STATE = "/var/lib/phasewatt-agent"
AGENT = "/usr/local/bin/phasewatt-agent"
_PATIENCE_S = 180.0
_PROGRAMS = ("debootstrap", "qemu-aarch64-static", "unshare", "nsenter")
SUITE = """
about = "two cells"
[measure]
repetitions = 3
window_s = 1.0
limit_s = 3
warmup_limit_s = 1
idle_s = 1.0
gate_s = 0.1
decode_steps = 4
longest_window_s = 2.0
[[cells]]
engine = "fake"
prompt_tokens = [16, 32]
output_tokens = 6
"""

ONNX_SUITE = """
about = "a model that was exported elsewhere"
[measure]
repetitions = 3
unmetered_window_s = 0.5
limit_s = 20
warmup_limit_s = 2
gate_s = 0.1
decode_steps = 4
[[cells]]
engine = "onnxruntime"
model = "stories15m"
prompt_tokens = 16
output_tokens = 6
"""


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit for it."""
    roots.need(*_PROGRAMS)
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: it exports what is carried over")
    kit = kits.make(tmp_path_factory.mktemp("kits") / "arm64", machine="aarch64")
    kits.add_onnx(kit, "aarch64", ONNX_SUITE)
    return kit


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory, carried: Path) -> Iterator[Emulated]:
    register()
    base = roots.debian("arm64")
    disk = tmp_path_factory.mktemp("arm64") / "disk"
    made = Emulated(base, disk, carried)
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(fleet: Any) -> str:
    """Of the broker of a collector on this host."""
    return str(fleet.collector()[1])


@pytest.fixture(scope="module")
def installed(emulated: Emulated, address: str, figure: Callable[[str], None]) -> Emulated:
    """The root after the installer has been there."""
    began_s = time.monotonic()
    said = emulated.run(
        *("sh", "/kit/deploy/install-agent.sh", "--no-service", "--broker", address, "--device", DEVICE)
    )
    assert "start it, and start it again when it ends" in said and "aarch64" in said
    figure(f"arm64 under emulation: installed in {time.monotonic() - began_s:.0f} s")
    return emulated


@pytest.fixture(scope="module")
def daemon(installed: Emulated) -> Iterator[Emulated]:
    """The root with a played AGX Orin and a daemon that reads it."""
    installed.start(AGENT, "simulate", "agx-orin", "/board")
    wait_for(lambda: " /board" in installed.run("sh", "-c", "ls -d /board/sys/class/hwmon 2>&1 | sed 's/^/ /'"))
    process = installed.start(AGENT, "serve", "--state-dir", STATE, "--root", "/board")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("agent ready"), line
    return installed


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.5)


def rows(fleet: Any, query: str) -> list[Any]:
    with closing(sqlite3.connect(fleet.db.removeprefix("sqlite:///"))) as db:
        return db.execute(query).fetchall()


def test_the_wheels_are_of_this_architecture(installed: Emulated) -> None:
    asks = "import platform, msgspec, psutil; print(platform.machine(), msgspec._core.__file__)"
    said = installed.run("/opt/phasewatt/current/bin/python", "-c", asks)
    assert said.startswith("aarch64 ") and "aarch64-linux-gnu.so" in said


def test_the_boards_rails_are_read(daemon: Emulated) -> None:
    """By the kernel's files."""
    asked = (AGENT, "meters", "--root", "/board", "--meter", "ina3221", "--state-dir", "/tmp/other", "--json")
    said = daemon.run(*asked)
    (found,) = json.loads(said[said.index("{") :])["meters"]
    watts = {channel["name"]: channel["value"] for channel in found["channels"] if channel["unit"] == "W"}
    assert watts["VDD_GPU_SOC"] > 0


def test_the_lines_of_tegrastats_are_read(daemon: Emulated) -> None:
    """The board's program runs there too; how fast it begins is not asked, under emulation."""
    said = daemon.run(
        "sh", "-c", f"timeout 120 /board/usr/bin/tegrastats | head -n 2 | {AGENT} meters decode tegrastats -"
    )
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert len(lines) == 2 and all("VDD_GPU_SOC" in str(line) for line in lines)


def test_telemetry_of_the_board_reaches_the_collector(daemon: Emulated, fleet: Any) -> None:
    wait_for(lambda: bool(rows(fleet, "SELECT 1 FROM telemetry")))
    (device,) = json.loads(fleet.collect("devices", "--json").stdout)["devices"]
    assert device["device"] == DEVICE
    (facts,) = rows(fleet, "SELECT facts FROM device")[0]
    assert b'"architecture":"aarch64"' in facts


def test_trials_reach_the_collector(daemon: Emulated, fleet: Any, figure: Callable[[str], None]) -> None:
    """Handed to the daemon; the engine only waits, the sampler reads the board."""
    began_s = time.monotonic()
    daemon.run("sh", "-c", f"cat >/suite.toml <<'END'\n{SUITE}END")
    daemon.run(AGENT, "run", "/suite.toml", "--state-dir", STATE)
    wait_for(lambda: len(fleet.trials()) == 2)
    assert {(trial["device"], trial["outcome"], trial["simulated"]) for trial in fleet.trials()} == {
        (DEVICE, "ok", True)
    }
    figure(f"arm64 under emulation: 2 cells of the fake engine in {time.monotonic() - began_s:.0f} s")


def test_a_real_model_runs_by_onnxruntime(
    daemon: Emulated, carried: Path, fleet: Any, figure: Callable[[str], None]
) -> None:
    """There is no PyTorch: the model was exported on this host, carried over, and is the same work as here."""
    began_s = time.monotonic()
    install = ("-m", "pip", "install", "--quiet", "--no-index", "--find-links", "/kit/onnx", "onnxruntime", "onnx")
    daemon.run("/opt/phasewatt/current/bin/python", *install)
    daemon.run("cp", "-r", "/kit/exports", STATE)
    daemon.run("sh", "-c", f"cat >/onnx.toml <<'END'\n{ONNX_SUITE}END")
    daemon.run(AGENT, "run", "/onnx.toml", "--state-dir", STATE)
    wait_for(lambda: DEVICE in by_onnxruntime(fleet))
    figure(f"arm64 under emulation: stories15m by onnxruntime in {time.monotonic() - began_s:.0f} s")
    fleet.collect("import", str(carried / kits.TRIALS))
    found = by_onnxruntime(fleet)
    assert (found[DEVICE]["outcome"], found[DEVICE]["reason"]) == ("ok", None)
    assert found[DEVICE]["work_id"] == found[kits.HOST]["work_id"]


def by_onnxruntime(fleet: Any) -> dict[str, Any]:
    """The newest trial of that engine of each device."""
    return {each["device"]: each for each in reversed(fleet.trials()) if "onnxruntime" in each["cell"]}
