"""Being asked to end, by somebody or by the time."""

from __future__ import annotations

import pytest

from agent.stopping import Stop, Until
from phasewatt.errors import Stopped


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_time_sets_it() -> None:
    """Not before; and the other one is left alone, for whoever waits for delivery."""
    clock, other = Clock(), Stop()
    until = Until(other, 10.0, clock)
    assert (until.is_set(), until.is_over, until.left_s) == (False, False, 10.0)
    until.pause(0.0)
    clock.now_s += 10.0
    assert (until.is_set(), until.is_over, until.left_s) == (True, True, 0.0)
    assert until.wait(60.0)
    with pytest.raises(Stopped):
        until.pause(60.0)
    assert not other.is_set()


def test_somebody_sets_it_through_the_other_one() -> None:
    """Then it is no matter of time, even when that has passed too."""
    clock, other = Clock(), Stop()
    until = Until(other, 10.0, clock)
    other.set()
    assert until.is_set() and until.wait(60.0)
    clock.now_s += 20.0
    assert not until.is_over


def test_setting_it_asks_the_other_one() -> None:
    other = Stop()
    Until(other, 10.0).set()
    assert other.is_set()


def test_a_wait_ends_with_the_time() -> None:
    """By the real clock: a minute's wait in a slice of a tenth of a second."""
    assert Until(Stop(), 0.1).wait(60.0)
