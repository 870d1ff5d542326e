"""Looks at the host while phases run."""

from __future__ import annotations

import threading

from agent.course import Watch
from agent.host import Observation


def test_looks_are_kept_in_columns_until_it_is_left() -> None:
    """What does not answer is None; the thread ends with the block."""
    seen = threading.Event()
    answers = [Observation(1_000, 40.0, frozenset()), Observation(None, None, None), Observation(900, 81.0, {"hot"})]  # type: ignore[arg-type]
    looks: list[Observation] = []
    threads: set[threading.Thread] = set()

    def look() -> Observation:
        threads.add(threading.current_thread())
        looks.append(answers[min(len(looks), 2)])
        if len(looks) >= 3:
            seen.set()
        return looks[-1]

    with Watch(look, every_s=0.001) as watch:
        assert seen.wait(30)
    (thread,) = threads
    assert thread is not threading.current_thread() and not thread.is_alive()
    course = watch.course
    assert course is not None
    assert course.clock_hz[:3] == (1_000, None, 900)
    assert course.temperature_c[:3] == (40.0, None, 81.0)
    assert course.throttled[:3] == (False, None, True)
    assert list(course.at_ns) == sorted(course.at_ns)


def test_a_suite_that_does_not_ask_is_not_watched() -> None:
    """No thread, no columns."""

    def never() -> Observation:
        raise AssertionError("nobody asked")

    with Watch(never, every_s=0.0) as watch:
        pass
    assert watch.course is None
