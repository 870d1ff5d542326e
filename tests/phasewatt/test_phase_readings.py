"""Clocks, temperature and utilisation, phase by phase."""

from __future__ import annotations

import pytest

from phasewatt.fields import Phase, Reading
from phasewatt.phase_readings import phase_readings
from tests.fixtures.records import changed, channel, phase_run, trace
from tests.fixtures.waveforms import every, ramp

PREFILL = phase_run(Phase.PREFILL, [1.0, 1.0])  # seconds 1 to 3
DECODE = changed(phase_run(Phase.DECODE, [1.0]), starts_ns=(5_000_000_000,))
CLOCK = channel(name="gpu0", source="nvml.sm_clock", unit="Hz", scope=None)
POWER, MASK = channel(), channel(name="gpu0", source="nvml.clock_event_reasons", unit="bits", scope=None)


def test_mean_lowest_and_highest_of_every_phase():
    times_s = every(0.5, 8)
    found = phase_readings([trace(times_s, (POWER, ramp), (CLOCK, lambda at_s: 100.0 * at_s))], [PREFILL, DECODE])
    assert [(each.phase, each.name, each.source, each.unit) for each in found] == [
        (Phase.PREFILL, "gpu0", "nvml.sm_clock", "Hz"),
        (Phase.DECODE, "gpu0", "nvml.sm_clock", "Hz"),
    ]
    assert [(each.lowest, each.mean, each.highest, each.readings) for each in found] == [
        (100.0, 200.0, 300.0, 5),
        (500.0, 550.0, 600.0, 3),
    ]


def test_a_part_that_was_read_oftener_weighs_no_more():
    """As it is read near the edges of a window."""
    times_s = [*every(0.01, 2.0), *every(0.1, 4, 2.0)]
    (found,) = phase_readings([trace(times_s, (CLOCK, lambda at_s: 900.0 if at_s < 2.0 else 1500.0))], [PREFILL])
    assert found.mean == pytest.approx(1200.0, rel=0.02)


def test_power_and_masks_are_no_readings():
    """Watts become joules, and a mask has no mean."""
    counter = channel(reading=Reading.COUNTER, unit="J")
    columns = [(POWER, ramp), (counter, ramp), (MASK, ramp)]
    assert phase_readings([trace(every(0.5, 8), *columns)], [PREFILL]) == ()


def test_missing_values_do_not_count_as_zero():
    clock = (CLOCK, lambda at_s: None if at_s < 2.0 else 900.0)
    (found,) = phase_readings([trace(every(0.5, 8), clock)], [PREFILL])
    assert (found.lowest, found.mean, found.readings) == (900.0, 900.0, 3)


def test_a_phase_that_nothing_was_read_in_has_no_reading():
    """None at all, rather than one of 0."""
    assert phase_readings([trace([0.0, 9.0], (CLOCK, ramp))], [PREFILL]) == ()
    assert phase_readings([trace(every(0.5, 8), (CLOCK, lambda _: None))], [PREFILL]) == ()
    assert phase_readings([trace(every(0.5, 8), (CLOCK, ramp))], [changed(PREFILL, warmup=2)]) == ()
    assert phase_readings([], [PREFILL]) == ()


def test_parts_of_a_trace_are_one():
    parts = [trace(every(0.5, 8, 2.5), (CLOCK, ramp)), trace(every(0.5, 2), (CLOCK, ramp))]
    whole = trace(every(0.5, 8), (CLOCK, ramp))
    assert phase_readings(parts, [PREFILL]) == phase_readings([whole], [PREFILL])
