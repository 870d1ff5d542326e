"""The pictures of docs/energy.md, drawn again from recordings of an H200 and from the simulated sensors.

    python -m benchmarks.energy_pictures [--cases 1000] [--folder docs/pictures]

`--cases` is of the picture of errors, which takes about a minute with a thousand; 0 leaves that picture as it is.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.energy_coverage import WINDOWS_S, Row, row
from benchmarks.other_rules import RULES
from phasewatt import calibration
from phasewatt.fields import Reading, Scope
from phasewatt.square_wave import Wave
from phasewatt.traces import Channel
from phasewatt.updates import Sample, Update, samples_of, timing, updates_of
from tests.fixtures import h200_trace
from tests.fixtures.simulated_power import SENSORS, WORKS
from tests.fixtures.square_waves import h200

INK, MUTED, LINE, LOAD = "#1a2027", "#56606b", "#d9dee3", "#eceaf3"
BLUE, ORANGE, GREEN, PURPLE, OCHRE = "#0b62a8", "#c24e00", "#087a60", "#8a3c9e", "#7a6000"
SMALL_PT, TEXT_PT = 8.0, 9.0
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # the same data give the same bytes
_READINGS = (Reading.INSTANT, Reading.AVERAGE, Reading.COUNTER)
_NAMES = {Reading.INSTANT: "instant power", Reading.AVERAGE: "average power", Reading.COUNTER: "energy counter"}
_STRETCHES_S = {
    "on and off for 3 s": (91.5, 98.5),
    "for 0.5 s": (113.2, 116.2),
    "for 0.1 s": (123.3, 124.5),
}
_STEPS = 500  # of a model's line
_ENDING, _BEFORE_S, _AFTER_S = "prefill", 1.2, 2.4  # the edge where this stretch ends, and what is shown of it
_PURE = 0.99  # share of the load in what an update describes, from which it shows the load alone
_OURS = "phasewatt"
_DRAWN = {
    _OURS: (BLUE, "o"),
    "mean x duration": (ORANGE, "s"),
    "last - first": (GREEN, "^"),
    "rectangles": (PURPLE, "D"),
    "averages": (OCHRE, "v"),
}


class Shown(NamedTuple):
    """What a channel showed: the watts of each update, and when they showed, in s."""

    reading: Reading
    times_s: list[float]
    watts: list[float]


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("docs/pictures"))
    args = parser.parse_args()
    _save(square_wave(), args.folder / "h200-square-wave.svg")
    _save(window_edge(), args.folder / "h200-window-edge.svg")
    if args.cases:
        _save(errors_by_rule(args.cases), args.folder / "error-by-rule.svg")


def square_wave() -> Figure:
    """What an H200 showed of a load switched on and off, with the model that its cards fit."""
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    panels = figure.subplots(len(_READINGS), len(_STRETCHES_S), sharey="row", sharex="col", width_ratios=(7, 5, 4))
    recorded = h200()
    wave = Wave([(start * 1e-9, end * 1e-9) for start, end in recorded.loads])
    columns = dict(zip(_READINGS, (recorded.instant, recorded.average, recorded.counter), strict=True))
    for line, (reading, column) in zip(panels, columns.items(), strict=True):
        channel = _channel(reading, column, recorded.loads)
        shown = _shown(channel, [Sample(at, value) for at, value in column if value is not None])
        model = _model(channel, shown, wave)
        for axes, (start_s, end_s) in zip(line, _STRETCHES_S.values(), strict=True):
            _draw_stretch(axes, shown, model, wave, start_s, end_s)
        line[0].set_ylabel(f"{_NAMES[reading]}, W", fontsize=TEXT_PT, color=INK)
        line[0].set_title(_in_words(channel), loc="left", fontsize=TEXT_PT, color=INK)
        line[0].set_ylim(0, None)
    for axes, name in zip(panels[-1], _STRETCHES_S, strict=True):
        axes.set_xlabel(f"time, s; {name}", fontsize=SMALL_PT, color=MUTED)
    drawn = [
        Line2D([], [], color=BLUE, marker="o", linestyle="", markersize=3.5, label="updates that the sensor showed"),
        Line2D([], [], color=ORANGE, label="the model of its card"),
        Line2D([], [], color=LOAD, linewidth=8, label="load on"),
    ]
    _legend(figure, drawn)
    return figure


def window_edge() -> Figure:
    """Where one phase ended and another began, by the three readings of one GPU."""
    trace = h200_trace.trace()
    edge_s = h200_trace.stretches()[_ENDING][1] * 1e-9
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-_BEFORE_S, 0, color=LOAD, linewidth=0)
    for index, channel in enumerate(trace.channels):
        _draw_edge(axes, _shown(channel, samples_of([trace], index)), edge_s)
    axes.axvline(0, color=INK, linewidth=1.0)
    for at_s, side, words in ((-0.04, "right", "prefill"), (0.04, "left", "decode")):
        axes.annotate(words, (at_s, 0.97), xycoords=axes.get_xaxis_transform(), ha=side, va="top", fontsize=TEXT_PT)
    axes.set_xlim(-_BEFORE_S, _AFTER_S)
    axes.set_ylim(0, None)
    _plain(axes)
    axes.set_xlabel("time at which a value showed, from the edge of the window, s", fontsize=SMALL_PT, color=MUTED)
    axes.set_ylabel("power, W", fontsize=TEXT_PT, color=INK)
    _legend(figure, axes.get_legend_handles_labels()[0])
    return figure


def _draw_edge(axes: Axes, shown: Shown, edge_s: float) -> None:
    pairs = zip(shown.times_s, shown.watts, strict=True)
    near = [(at_s - edge_s, power_w) for at_s, power_w in pairs if -_BEFORE_S <= at_s - edge_s <= _AFTER_S]
    summed = shown.reading is Reading.COUNTER
    axes.plot(
        *zip(*near, strict=True),
        color={Reading.INSTANT: BLUE, Reading.AVERAGE: OCHRE, Reading.COUNTER: GREEN}[shown.reading],
        marker="" if summed else "o",
        markersize=3.5,
        linewidth=1.2,
        drawstyle="steps-pre" if summed else "default",
        label=_NAMES[shown.reading] + (", from step to step" if summed else ""),
    )


def errors_by_rule(cases: int) -> Figure:
    """The 95th percentile of the error by rule and window: a panel a sensor, a line from the best to the worst work."""
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for axes, sensor in zip(panels, SENSORS, strict=True):
        rows = {window_s: [row(sensor, work, window_s, cases) for work in WORKS] for window_s in WINDOWS_S}
        axes.set_title(sensor, loc="left", fontsize=TEXT_PT, weight="bold", color=INK)
        _draw_errors(axes, rows)
    drawn = [
        Line2D([], [], color=colour, marker=marker, linewidth=2, markersize=5, label=name)
        for name, (colour, marker) in _DRAWN.items()
    ]
    _legend(figure, drawn)
    return figure


def _draw_errors(axes: Axes, rows: dict[float, list[Row]]) -> None:
    for place, found in enumerate(rows.values()):
        by_rule = {_OURS: [each.error for each in found]} | {
            rule: [each.others[rule] for each in found] for rule in RULES
        }
        for line, (rule, told) in enumerate(by_rule.items()):
            errors = [100 * error for error in told if error is not None]
            height = place + 0.3 - 0.15 * line
            if errors:
                _draw_range(axes, errors, height, rule)
            elif rule == _OURS:
                why = ", ".join(dict.fromkeys(code for each in found for code in each.refused))
                axes.annotate(f"no figure: {why}", (0.12, height), va="center", fontsize=SMALL_PT, color=BLUE)
    axes.set_xscale("log")
    axes.set_xlim(0.1, 100)
    axes.set_ylim(-0.5, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [f"{window_s:g} s" for window_s in rows])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda percent, _: f"{percent:g} %"))
    axes.xaxis.set_minor_locator(NullLocator())
    _plain(axes, grid="x")
    for between in range(len(rows) - 1):
        axes.axhline(between + 0.5, color=LINE, linewidth=0.6)
    axes.set_ylabel("window", fontsize=SMALL_PT, color=MUTED)
    axes.set_xlabel("error that 95 % of cases stay below", fontsize=SMALL_PT, color=MUTED)


def _draw_range(axes: Axes, errors: Sequence[float], height: float, rule: str) -> None:
    colour, marker = _DRAWN[rule]
    axes.plot((min(errors), max(errors)), (height, height), color=colour, linewidth=2, solid_capstyle="round")
    axes.plot(statistics.median(errors), height, color=colour, marker=marker, markersize=5, linestyle="")


def _channel(reading: Reading, column: Sequence[tuple[int, float | None]], loads: Sequence[tuple[int, int]]) -> Channel:
    """A channel with the card that calibration finds in the recording."""
    unit = "J" if reading is Reading.COUNTER else "W"
    card = calibration.card(column, loads, reading)
    return Channel(name="gpu0", source="recorded", reading=reading, unit=unit, scope=Scope.GPU_BOARD, card=card)


def _shown(channel: Channel, samples: Sequence[Sample]) -> Shown:
    """The updates of a channel in watts; of a counter, from each step to the next."""
    when = timing(samples, channel)
    updates = updates_of(samples, when)
    if channel.reading is Reading.COUNTER and when.period_ns:
        updates = [_power(before, after, when.period_ns) for before, after in itertools.pairwise(updates)]
    return Shown(channel.reading, [each.time_ns * 1e-9 for each in updates], [each.value for each in updates])


def _power(before: Update, after: Update, period_ns: int) -> Update:
    """Mean power between two steps of a counter, by its own even period: a reader's clock is coarser."""
    periods = max(1, round((after.time_ns - before.time_ns) / period_ns))
    return after._replace(value=(after.value - before.value) / (periods * period_ns * 1e-9))


def _model(channel: Channel, shown: Shown, wave: Wave) -> Callable[[float], float]:
    """What a sensor of that lag and averaging shows at a time, between the usual levels without and with the load."""
    card = channel.card
    assert card is not None and card.lag_s is not None and card.averaging_s is not None
    lag_s, stretch_s = card.lag_s, max(card.averaging_s, 1e-4)

    def share(at_s: float) -> float:
        return wave.share(at_s - lag_s - stretch_s, at_s - lag_s)

    seen = [(share(at_s), power_w) for at_s, power_w in zip(shown.times_s, shown.watts, strict=True)]
    off_w = statistics.median(power_w for part, power_w in seen if part < 1 - _PURE)
    on_w = statistics.median(power_w for part, power_w in seen if part > _PURE)
    return lambda at_s: off_w + (on_w - off_w) * share(at_s)


def _draw_stretch(
    axes: Axes, shown: Shown, model: Callable[[float], float], wave: Wave, start_s: float, end_s: float
) -> None:
    for on_s, off_s in wave.loads:
        if on_s < end_s and off_s > start_s:
            axes.axvspan(max(on_s - start_s, 0), min(off_s, end_s) - start_s, color=LOAD, linewidth=0)
    length_s = end_s - start_s
    steps_s = [length_s * step / _STEPS for step in range(_STEPS + 1)]
    axes.plot(steps_s, [model(start_s + at_s) for at_s in steps_s], color=ORANGE, linewidth=1.2)
    pairs = zip(shown.times_s, shown.watts, strict=True)
    seen = [(at_s - start_s, power_w) for at_s, power_w in pairs if start_s <= at_s <= end_s]
    axes.plot(*zip(*seen, strict=True), color=BLUE, marker="o", markersize=3, linestyle="")
    axes.set_xlim(0, length_s)
    _plain(axes)


def _in_words(channel: Channel) -> str:
    card = channel.card
    assert card is not None and card.update_period_s and card.averaging_s is not None and card.lag_s is not None
    stretch = "sum over" if channel.reading is Reading.COUNTER else "mean of"
    figures_ms = [1e3 * each for each in (card.update_period_s, card.averaging_s, card.lag_s)]
    return "every {:.0f} ms, {stretch} {:.0f} ms, {:.0f} ms late".format(*figures_ms, stretch=stretch)


def _plain(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    axes.tick_params(which="both", labelsize=SMALL_PT, color=LINE, labelcolor=MUTED, length=2)
    axes.grid(axis=grid, color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)


def _legend(figure: Figure, drawn: Sequence[Any]) -> None:
    figure.legend(handles=drawn, loc="outside lower left", frameon=False, fontsize=SMALL_PT, ncols=len(drawn))


def _save(figure: Figure, path: Path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(path, facecolor="white", metadata=_METADATA)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
