"""The temperature gate: how long it waits, and what it says when it did not open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent import cooling
from agent.cooling import cool
from phasewatt.conditions import Cooling
from phasewatt.errors import Stopped


class Oven:
    """A processor that cools by a degree a second while one pauses."""

    def __init__(self, at_c: float | None) -> None:
        self.at_c = at_c
        self.now_s = 0.0
        self.told: list[str] = []

    def read_c(self) -> float | None:
        return self.at_c

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        if self.at_c is not None:
            self.at_c -= seconds

    def cool(self, limit_c: float, patience_s: float) -> Cooling:
        return cool(limit_c, patience_s, self.read_c, self.pause, self.told.append, lambda: self.now_s)


def test_a_cool_processor_does_not_wait() -> None:
    assert Oven(40.0).cool(60.0, 120.0) == Cooling(limit_c=60.0, temperature_c=40.0, waited_s=0.0)


def test_a_hot_one_waits_until_it_is_cool() -> None:
    """No longer, and says so meanwhile."""
    oven = Oven(72.0)
    found = oven.cool(60.0, 120.0)
    assert (found.temperature_c, found.waited_s) == (60.0, 12.0)
    assert oven.told[0] == "cooling: 72 °C, waiting for 60 °C"
    assert cooling.mark(found) is None


def test_patience_ends_and_marks_the_trial() -> None:
    found = Oven(90.0).cool(60.0, 10.0)
    assert found.waited_s == pytest.approx(10.0)
    assert cooling.mark(found) == "began at 80 °C, above 60 °C, after 10 s of waiting for it to cool"


def test_a_host_without_a_sensor_does_not_wait_and_is_not_called_cool() -> None:
    """Missing is None, and no mark says what nobody knows."""
    found = Oven(None).cool(60.0, 120.0)
    assert found == Cooling(limit_c=60.0, temperature_c=None, waited_s=0.0)
    assert cooling.mark(found) is None


def test_a_sensor_that_goes_silent_ends_the_wait() -> None:
    readings: Iterator[float | None] = iter([80.0, None])
    assert cool(60.0, 120.0, lambda: next(readings), lambda s: None, lambda t: None).temperature_c is None


def test_being_stopped_ends_it() -> None:
    def pause(seconds: float) -> None:
        raise Stopped("asked to")

    with pytest.raises(Stopped):
        cool(60.0, 120.0, lambda: 90.0, pause, lambda t: None)
