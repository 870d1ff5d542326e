"""The watchdog is fed by progress alone: one part that hangs is enough."""

from __future__ import annotations

import logging
import threading

import pytest

from agent.service_manager import ServiceManager
from agent.stopping import Stop
from agent.watchdog import Progress, Watchdog


class Heard(ServiceManager):
    """A manager that remembers."""

    def __init__(self) -> None:
        super().__init__(watchdog_s=0.02)
        self.messages: list[str] = []
        self.came = threading.Event()

    def _send(self, message: str) -> None:
        self.messages.append(message)
        self.came.set()


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_all_parts_must_get_on(clock):
    progress = Progress(clock)
    telemetry, delivery = progress.part("telemetry", 10), progress.part("delivery", 100)
    clock.now_s += 9
    assert progress.stalled() is None
    delivery()
    clock.now_s += 2
    assert progress.stalled() == "telemetry: no progress for 11 s, expected within 10 s"
    telemetry()
    assert progress.stalled() is None


def test_a_part_that_has_ended_is_not_waited_for(clock):
    progress = Progress(clock)
    with progress.during("suite", 10):
        clock.now_s += 11
        assert progress.stalled() is not None
    assert progress.stalled() is None


def test_what_hangs_is_said_once_and_not_fed(clock, caplog):
    progress, manager = Progress(clock), Heard()
    beat = progress.part("telemetry", 10)
    watchdog = Watchdog(manager, progress)
    watchdog.feed()
    clock.now_s += 11
    with caplog.at_level(logging.ERROR):
        watchdog.feed()
        watchdog.feed()
    stalled = "telemetry: no progress for 11 s, expected within 10 s"
    assert manager.messages == ["WATCHDOG=1", f"STATUS={stalled}"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{stalled}; the service manager will start this agent again"
    ]
    beat()
    watchdog.feed()
    assert manager.messages[-1] == "WATCHDOG=1"


def test_the_thread_feeds_until_it_is_stopped():
    manager = Heard()
    watchdog = Watchdog(manager, Progress())
    watchdog.start()
    assert manager.came.wait(60)
    watchdog.stop()


def test_a_suite_gets_on_at_each_pause(clock):
    progress, stop = Progress(clock), Stop()
    with progress.during("suite", 10) as stop.paused:
        clock.now_s += 11
        assert progress.stalled() is not None
        stop.pause(0)
        assert progress.stalled() is None
