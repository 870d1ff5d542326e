"""Watching as a user does it: a real broker, a real agent, the command until Ctrl-C."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from phasewatt import topics
from tests.fixtures.sensors import recording

pytestmark = pytest.mark.broker

_PATIENCE_S = 30.0


class Watch:
    """A running `watch --json`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE_S)
        assert ready, "no line in time"
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def interrupt(self, *told: str) -> int:
        """Ctrl-C; its exit code. On standard error it said what was `told`, and nothing else."""
        self._process.send_signal(signal.SIGINT)
        _, errors = self._process.communicate(timeout=_PATIENCE_S)
        assert errors.splitlines() == [f"phasewatt-collector: {words}" for words in told]
        return self._process.returncode


@contextmanager
def watching(*arguments: str) -> Iterator[Watch]:
    command = [sys.executable, "-m", "collector.app", "watch", "--json", "--db", "sqlite://", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        try:
            yield Watch(process)
        finally:
            process.kill()


def test_what_a_board_samples_is_seen_as_it_happens(fleet: Any, mosquitto: Any, tmp_path: Path) -> None:
    """About once a second, power by scope; garbage in between is passed over; Ctrl-C ends it with exit code 0."""
    address = f"{mosquitto.host}:{mosquitto.port}"
    recording(tmp_path / "r", [10.0] * 2000)
    fleet.daemon("board", "--device", "board-7", "--broker", address, "--meter", f"replay:{tmp_path / 'r'}")
    with watching("--broker", address) as watch:
        lines = [watch.line()]
        hostile = paho.Client(CallbackAPIVersion.VERSION2)
        hostile.connect(mosquitto.host, mosquitto.port)
        hostile.publish(topics.live("board-7"), b"\x1b[2J{")
        hostile.publish(topics.watch("board-7"), b"garbage")
        hostile.loop()
        started_s = time.monotonic()
        lines += [watch.line() for _ in range(3)]
        assert 1.5 < time.monotonic() - started_s < 10
        hostile.disconnect()
        assert watch.interrupt() == 0
    assert {line["device"] for line in lines} == {"board-7"}
    assert {line["power_w"]["module"] for line in lines} == {10.0}
    assert all(0 <= line["values"]["cpu_busy"]["value"] <= 1 for line in lines)


def test_a_board_that_does_not_answer_is_shown_with_how_long(mosquitto: Any) -> None:
    with watching("board-9", "--broker", f"{mosquitto.host}:{mosquitto.port}") as watch:
        line = watch.line()
        assert watch.interrupt() == 0
    assert (line["device"], line["values"]) == ("board-9", {})
    assert line["silent_s"] >= 5
    assert line["reason"].startswith("no answer")


def test_a_broker_that_goes_and_comes_back_costs_the_time_between(fleet: Any, mosquitto: Any) -> None:
    address = f"{mosquitto.host}:{mosquitto.port}"
    fleet.daemon("board", "--device", "board-7", "--broker", address, "--meter", "none")
    with watching("board-7", "--broker", address) as watch:
        assert watch.line()["silent_s"] is None
        mosquitto.kill()
        assert _next_but(watch, None)["reason"] == "the connection to the broker is lost; trying again"
        mosquitto.start()
        while watch.line()["silent_s"] is not None:
            pass
        lost, again = "the connection to the broker is lost; trying again", "connected to the broker again"
        assert watch.interrupt(lost, again) == 0


def _next_but(watch: Watch, silent_s: float | None) -> dict[str, Any]:
    while (line := watch.line())["silent_s"] == silent_s:
        pass
    return line
