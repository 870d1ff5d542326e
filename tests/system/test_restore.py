"""A store put back from a copy gets again, from the boards, what came after the copy was made."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

FAKE = ("--engine", "fake", "--fresh", "--device", "board-1")
ARRIVED = "all records are in the collector's store"


def _measure(fleet: Any, address: str) -> None:
    done = fleet.agent("run", "smoke", *FAKE, "--broker", address)
    assert ARRIVED in done.stderr, done.stderr


def _put_back(fleet: Any, copy: Path, by_hand: bool) -> None:
    store = fleet.root / "collector.db"
    if not by_hand:
        assert fleet.collect("db", "restore", str(copy)).returncode == 0
        return
    for path in fleet.root.glob("collector.db*"):
        path.unlink()
    shutil.copy(copy, store)


@pytest.mark.broker
@pytest.mark.parametrize("by_hand", [False, True], ids=["db restore", "copied by hand"])
@pytest.mark.parametrize("more", [True, False], ids=["something new to send", "nothing new to send"])
def test_restored_collector_gets_the_rest_again(fleet: Any, mosquitto: Any, by_hand: bool, more: bool) -> None:
    """The board holds everything receipted; a generation that it does not know makes it send that again."""
    address = f"{mosquitto.host}:{mosquitto.port}"
    collector, _ = fleet.collector(address)
    _measure(fleet, address)
    copy = fleet.root / "copy.db"
    assert fleet.collect("db", "backup", str(copy)).returncode == 0  # while the collector serves
    _measure(fleet, address)
    before = {trial["record_id"] for trial in fleet.trials()}
    assert len(before) == 4
    assert collector.end() == 0
    _put_back(fleet, copy, by_hand)
    assert len(fleet.trials()) == 2
    fleet.collector(address)
    if more:
        _measure(fleet, address)
    else:
        daemon = fleet.daemon("board", "--broker", address, "--device", "board-1")
        _wait_for(lambda: len(fleet.trials()) >= 4)
        daemon.end()
    trials = [trial["record_id"] for trial in fleet.trials()]
    assert len(trials) == len(set(trials)) == (6 if more else 4)
    assert before <= set(trials)
    assert fleet.collect("db", "check").returncode == 0


def _wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)
