"""What a reader must know beside a figure, and when there is nothing to know."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from phasewatt import doubts, throttling
from phasewatt.fields import Phase
from phasewatt.traces import Channel
from tests.fixtures.records import changed, channel, phase_run, trace
from tests.fixtures.waveforms import every

RUN = phase_run(Phase.DECODE, [1.0] * 4)  # seconds 1 to 5
TIMES_S = every(0.1, 10)
CLOCK = channel(name="gpu0", source=throttling.CLOCK_SOURCE, unit="Hz", scope=None)
EVENTS = channel(name="gpu0", source=throttling.EVENTS_SOURCE, unit="bits", scope=None)


def beside(asked: Channel, values: Callable[[float], float | None]) -> tuple[str, ...]:
    """The doubts of a window in which one channel showed these values."""
    return doubts.of_window([trace(TIMES_S, (channel(), lambda _: 50.0), (asked, values))], RUN)


def test_a_quiet_window_leaves_no_doubt():
    assert doubts.of_window([trace(TIMES_S, (channel(), lambda _: 50.0))], RUN) == ()
    assert doubts.of_window([], RUN) == ()


def test_other_processes_on_the_cpu_are_told_above_half_a_core():
    busy, quiet = changed(RUN, other_cpu_cores=1.34), changed(RUN, other_cpu_cores=doubts.ALONE_CORES)
    assert doubts.of_window([], busy) == ("not_alone: others kept 1.3 cores busy",)
    assert doubts.of_window([], quiet) == ()


def test_other_processes_on_the_gpu_are_told():
    assert doubts.of_window([], changed(RUN, other_gpu_processes=2)) == ("not_alone: 2 other processes on the GPUs",)
    assert doubts.of_window([], changed(RUN, other_gpu_processes=0)) == ()


def test_throttling_is_told_with_its_causes_and_its_share_of_the_window():
    (told,) = beside(EVENTS, lambda at_s: 0x24 if 1.95 < at_s < 3.95 else 0x1)
    assert told == "throttled: software power cap, software thermal in 50% of the window"


@pytest.mark.parametrize("bits", [0x0, 0x1, 0x2, 0x10, 0x100])
def test_idling_and_clocks_set_by_a_user_are_no_throttling(bits):
    assert beside(EVENTS, lambda _: float(bits)) == ()


def test_throttling_outside_the_window_is_no_matter():
    assert beside(EVENTS, lambda at_s: 0x4 if at_s < 0.95 or at_s > 5.05 else 0) == ()


def test_clocks_that_moved_are_told():
    assert beside(CLOCK, lambda at_s: 1.98e9 if at_s < 3 else 1.4e9) == ("clocks_moved: 1400 to 1980 MHz",)


@pytest.mark.parametrize("source", ["tegrastats.gpu_clock", "devfreq.gpu_clock"])
def test_the_clock_of_a_jetson_counts_as_much(source):
    clock = channel(name="gpu", source=source, unit="Hz", scope=None)
    assert beside(clock, lambda at_s: 1.3e9 if at_s < 3 else 0.612e9) == ("clocks_moved: 612 to 1300 MHz",)
    memory = channel(name="emc", source="tegrastats.emc_clock", unit="Hz", scope=None)
    assert beside(memory, lambda at_s: 3.2e9 if at_s < 3 else 2.1e9) == ()


@pytest.mark.parametrize("wave", [lambda at_s: 1.98e9 if at_s < 3 else 1.92e9, lambda at_s: 1e9 * (at_s > 5.05)])
def test_clocks_that_hardly_moved_or_moved_elsewhere_are_no_matter(wave):
    assert beside(CLOCK, wave) == ()


def test_a_clock_that_was_not_read_is_no_matter():
    assert beside(CLOCK, lambda _: None) == ()


def test_a_gpu_that_has_no_part_in_the_total_is_no_matter():
    assert beside(changed(CLOCK, parts_of_total=False), lambda at_s: 1e9 * at_s) == ()


def test_a_window_without_evidence_has_no_doubts():
    warm = changed(RUN, warmup=4)
    assert doubts.of_window([trace(TIMES_S, (CLOCK, lambda at_s: 1e9 * at_s))], warm) == ()


@pytest.mark.parametrize(
    ("energy_j", "half_width_j", "told"),
    [(100.0, 2.0, ()), (100.0, 2.1, ("wide: +-2.1% by when the sensor looked",)), (1000.0, 0.0, ())],
)
def test_a_figure_is_wide_above_two_percent(energy_j, half_width_j, told):
    assert doubts.of_width(energy_j, half_width_j) == told


@pytest.mark.parametrize("energy_j", [0.0, -0.4])
def test_a_figure_that_is_not_above_zero_is_wide(energy_j):
    """Of an idle rail: no share of it says how sure it is."""
    (told,) = doubts.of_width(energy_j, 0.1)
    assert told.startswith("wide")
