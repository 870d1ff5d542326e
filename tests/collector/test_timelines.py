"""Power over time as it is drawn: a panel a scope, power channels alone, each value at the time that it describes."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from collector.report import timelines
from collector.report.evidence import Evidence
from phasewatt import series
from phasewatt.fields import Reading, Scope
from phasewatt.traces import SensorCard, Trace
from tests.fixtures import records
from tests.fixtures.trials import GPU, MODULE, PACKAGE, WALL, Measured, measured

CARD = SensorCard(
    origin="documented",
    update_period_s=0.1,
    update_jitter_s=None,
    averaging_s=0.2,
    lag_s=0.3,
    resolution=None,
    noise=None,
    read_cost_s=None,
)


def evidence(trial: Measured, traces: tuple[Trace, ...] | None = None) -> Evidence:
    shown = trial.traces if traces is None else traces
    return Evidence("w", "a work", "alpha", 0, trial.stored.trial, shown)


def drawn(trial: Measured, traces: tuple[Trace, ...] | None = None) -> Figure:
    figure = timelines.power(evidence(trial, traces))
    assert figure is not None
    return figure


def curve(axes: Axes, at: int = 0) -> tuple[list[float], list[float]]:
    line = axes.get_lines()[at]
    return list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))  # type: ignore[arg-type]


def test_each_scope_has_a_panel_on_one_axis_of_time() -> None:
    figure = drawn(measured("alpha", sensors=[WALL, PACKAGE, GPU, MODULE]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["gpu-board", "cpu-package", "module", "wall"]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_channels_beside_power_are_no_lines() -> None:
    times_s = [index * 0.1 for index in range(50)]
    clock = records.channel(name="gpu0", unit="Hz", scope=None, source="nvml.sm_clock")
    watts = records.channel(name="gpu0", scope=Scope.GPU_BOARD)
    trace = records.trace(times_s, (watts, lambda at: 100.0 + at), (clock, lambda at: 1.9e9 + at))
    (axes,) = drawn(measured("alpha"), (trace,)).axes
    assert [line.get_label() for line in axes.get_lines()] == ["gpu-board: gpu0"]
    only_clock = records.trace(times_s, (clock, lambda at: 1.9e9 + at))
    assert timelines.power(evidence(measured("alpha"), (only_clock,))) is None


def test_values_stand_where_the_card_says_that_they_were_measured() -> None:
    """Lag 0.3 s after a mean of 0.2 s: the middle of what a value describes is 0.4 s before it shows."""
    as_read, corrected = (
        curve(drawn(measured("alpha", sensors=[GPU._replace(card=card)])).axes[0])[0] for card in (None, CARD)
    )
    middle = len(as_read) // 2
    assert as_read[middle] - corrected[middle] == pytest.approx(0.4, abs=0.06)


def test_a_counter_is_drawn_as_the_power_between_its_readings() -> None:
    counter = records.channel(name="package-0", unit="J", scope=Scope.CPU_PACKAGE, reading=Reading.COUNTER)
    trace = records.trace([index * 0.1 for index in range(50)], (counter, lambda at: 1000.0 + 60.0 * at))
    (axes,) = drawn(measured("alpha"), (trace,)).axes
    assert curve(axes)[1] == pytest.approx([60.0] * len(curve(axes)[1]), rel=0.01)


def test_a_counter_that_was_reset_leaves_no_plunge() -> None:
    counter = records.channel(name="package-0", unit="J", scope=Scope.CPU_PACKAGE, reading=Reading.COUNTER)
    trace = records.trace(
        [index * 0.1 for index in range(50)], (counter, lambda at: 60.0 * (at if at < 2.5 else at - 2.5))
    )
    (axes,) = drawn(measured("alpha"), (trace,)).axes
    assert min(curve(axes)[1]) > 0


def test_what_adds_nothing_to_its_scope_is_dotted_and_last() -> None:
    average = GPU._replace(name="gpu0-mean", reading=Reading.AVERAGE)
    (axes,) = drawn(measured("alpha", sensors=[average, GPU])).axes
    assert [(line.get_label(), line.get_linestyle()) for line in axes.get_lines()] == [
        ("gpu-board: gpu0", "-"),
        ("gpu-board: gpu0-mean, averaged", ":"),
    ]


def test_many_readings_of_a_scope_are_cut_and_counted() -> None:
    sensors = [GPU._replace(name=f"gpu{index}") for index in range(8)]
    (axes,) = drawn(measured("alpha", sensors=sensors)).axes
    assert axes.get_title(loc="left") == "gpu-board, 6 of 8 readings"
    assert len(axes.get_lines()) == 6


def test_quantised_rails_below_zero_stay_in_sight() -> None:
    rail = records.channel(name="VDD_CPU_CV", scope=Scope.MODULE)
    steps = itertools.cycle([-0.398, 0.0, 0.399])
    trace = records.trace([index * 0.1 for index in range(50)], (rail, lambda at: next(steps)))
    (axes,) = drawn(measured("alpha"), (trace,)).axes
    assert axes.get_ylim()[0] == pytest.approx(-0.398)


def test_a_trace_of_times_alone_draws_nothing() -> None:
    empty = Trace(
        device="alpha",
        boot_id="boot-1",
        meter="none",
        part=0,
        parts=1,
        simulated=False,
        time=series.pack_times([]),
        channels=(records.channel(),),
        values=(series.pack("VDD_IN", "W", 1e-3, []),),
    )
    assert timelines.power(evidence(measured("alpha"), (empty,))) is None
