"""How a long phase went over time."""

from __future__ import annotations

import pytest

from phasewatt import course, series
from phasewatt.conditions import Course
from phasewatt.fields import Phase, Reading, Scope
from phasewatt.records import Trial
from phasewatt.traces import Channel, Trace
from tests.fixtures import records
from tests.fixtures.records import SECOND_NS, changed

_SLOW_FROM = 60  # repetition


def throttling() -> Trial:
    """100 repetitions of a second, from the 60th on a quarter longer; it gets hotter and its clock falls."""
    durations_s = [1.0 if index < _SLOW_FROM else 1.25 for index in range(100)]
    run = records.phase_run(Phase.DECODE, durations_s, tokens=10, kv_start=4, kv_end=14)
    at_ns = tuple(SECOND_NS * second for second in range(1, 111, 5))
    hot = tuple(second // SECOND_NS > _SLOW_FROM + 1 for second in at_ns)
    watched = Course(
        at_ns=at_ns,
        clock_hz=tuple(1_500_000_000 if each else 1_980_000_000 for each in hot),
        temperature_c=tuple(40.0 + at / SECOND_NS / 2 for at in at_ns),
        throttled=hot,
    )
    return records.trial(runs=(run,), course=watched)


def test_stretches_hold_the_window_in_order() -> None:
    """Equal numbers of repetitions, tokens a second of each, the highest temperature, whether it was held back."""
    found = course.course_of(throttling(), Phase.DECODE, parts=10)
    assert len(found) == 10
    assert found[0].start_s == 0.0
    assert [s.start_s for s in found[1:]] == pytest.approx([s.end_s for s in found[:-1]])
    assert [s.tokens_per_s for s in found] == pytest.approx([10.0] * 6 + [8.0] * 4)
    assert [s.throttled for s in found] == [False] * 6 + [True] * 4
    assert found[-1].temperature_c == max(s.temperature_c or 0 for s in found)
    assert (found[0].clock_hz, found[-1].clock_hz) == (1.98e9, 1.5e9)
    assert {s.power_w for s in found} == {None}


def test_its_words_say_how_it_began_and_ended() -> None:
    (line,) = course.in_words(throttling())
    assert line == ("decode over 110 s: 10 -> 8 token/s (-20.0%), 46 -> 93 °C, 1.98 -> 1.50 GHz, held back at the end")


def test_power_of_each_stretch_comes_from_the_traces() -> None:
    """A sensor that shows 100 W and then 80 W, on the scope of which the trial has energy."""
    times_ns = [SECOND_NS * tenth // 10 for tenth in range(0, 1200)]
    watts = [100.0 + (tenth % 2) * 0.1 if tenth < 600 else 80.0 + (tenth % 2) * 0.1 for tenth in range(0, 1200)]
    channel = Channel(name="VDD_IN", source="constructed", reading=Reading.INSTANT, unit="W", scope=Scope.MODULE)
    trace = Trace(
        device="d",
        boot_id="b",
        meter="m",
        part=0,
        parts=1,
        simulated=False,
        time=series.pack_times(times_ns),
        channels=(channel,),
        values=(series.pack("VDD_IN", "W", 1e-3, watts),),
    )
    trial = changed(throttling(), energy=(records.phase_energy(Phase.DECODE, 9000.0),))
    found = course.course_of(trial, Phase.DECODE, [trace], parts=10)
    assert found[0].power_w == pytest.approx(100.0, rel=0.01)
    assert found[-1].power_w == pytest.approx(80.0, rel=0.01)
    assert found[0].scope is Scope.MODULE


def test_what_was_not_watched_has_no_words_and_what_was_not_run_no_course() -> None:
    trial = changed(throttling(), course=None)
    assert list(course.in_words(trial)) == []
    assert course.course_of(trial, Phase.PREFILL) == ()
    assert {s.temperature_c for s in course.course_of(trial, Phase.DECODE)} == {None}


def test_fewer_repetitions_than_parts_are_a_stretch_each() -> None:
    run = records.phase_run(Phase.PREFILL, [1.0, 1.0, 1.0], warmup=1)
    assert len(course.course_of(records.trial(runs=(run,)), Phase.PREFILL)) == 2
