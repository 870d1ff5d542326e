"""A step that is taken again and again, in a thread of its own."""

from __future__ import annotations

import queue
import threading

from collector.periodic import Periodic

PATIENCE_S = 30.0


def test_a_step_that_fails_is_told_and_the_next_one_comes():
    told: queue.Queue[Exception] = queue.Queue()
    taken: queue.Queue[None] = queue.Queue()

    def step() -> None:
        taken.put(None)
        raise ValueError("no")

    steps = Periodic(step, told.put, name="steps", period_s=0.001, patience_s=PATIENCE_S)
    steps.start()
    for _ in range(2):
        taken.get(timeout=PATIENCE_S)
        assert str(told.get(timeout=PATIENCE_S)) == "no"
    steps.stop()


def test_the_first_comes_after_the_period_unless_it_is_wanted_at_once():
    for at_once in (True, False):
        came = threading.Event()
        steps = Periodic(
            came.set, lambda error: None, name="steps", period_s=1e6, patience_s=PATIENCE_S, at_once=at_once
        )
        steps.start()
        assert came.wait(PATIENCE_S if at_once else 0.05) is at_once
        steps.stop()


def test_a_long_step_hears_that_it_is_to_end():
    begun, ended = threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        if steps.pause(PATIENCE_S):
            ended.set()

    steps = Periodic(step, lambda error: None, name="steps", period_s=1e6, patience_s=PATIENCE_S, at_once=True)
    steps.start()
    assert begun.wait(PATIENCE_S)
    steps.stop()
    assert ended.is_set()


def test_what_never_began_has_ended():
    Periodic(lambda: None, lambda error: None, name="steps", period_s=1.0, patience_s=PATIENCE_S).stop()
