"""The pictures of findings: something over something, or bars, with what they are held against."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from collector.conditions import printable
from collector.findings.pictures import Bar, Bars, Line, Lines, Picture
from collector.numbers import significant
from collector.report.canvas import SMALL_PT, canvas, ink, legend, plain_axes, series_colour, short
from collector.report.svg import COLOURS

_HEIGHT_IN = 2.3
_LEGEND_IN = 0.16  # a line of it
_BAR_IN = 0.36
_SHARE_OF_BARS = 0.6  # of the width; the rest is for the values
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DECADES = 100.0  # highest over lowest value; with less, ticks at 2 and 5 as well
_ROOM = 1.25  # around what is drawn, on a logarithmic scale


def draw(picture: Picture) -> Figure:
    """The picture as a figure, in the colours of the page's theme."""
    return _lines(picture) if isinstance(picture, Lines) else _bars(picture)


def in_words(picture: Picture) -> str:
    """What the picture shows, for who cannot see it."""
    if isinstance(picture, Bars):
        return "; ".join(f"{bar.label}: {significant(bar.value)} {picture.unit}" for bar in picture.bars)
    return "; ".join(
        f"{line.label}: " + ", ".join(f"{significant(point.y)} {picture.up} at {point.x:,.0f}" for point in line.points)
        for line in picture.lines
    )


def _lines(picture: Lines) -> Figure:
    named = len(picture.lines) + sum(each is not None for each in (picture.level, picture.mark))
    figure, axes = canvas(_HEIGHT_IN + _LEGEND_IN * named)
    for index, line in enumerate(picture.lines):
        _line(axes, line, index)
    for each, across, style in ((picture.level, axes.axhline, "--"), (picture.mark, axes.axvline, ":")):
        if each is not None:
            across(each[1], linestyle=style, color=COLOURS["--ink"], linewidth=1.1, label=short(_marked(each)))
    _scales(axes, picture)
    plain_axes(axes, picture.along, picture.up)
    legend(figure, axes)
    return figure


def _marked(each: tuple[str, float]) -> str:
    return f"{each[0]}: {significant(each[1])}"


def _line(axes: Axes, line: Line, index: int) -> None:
    """Told apart by marks as well as by colours."""
    style: dict[str, Any] = {"color": series_colour(index), "linewidth": 1.6, "markersize": 4.5}
    style |= {"marker": _MARKERS[index % len(_MARKERS)], "linestyle": "-" if line.joined else "none"}
    xs, ys = [point.x for point in line.points], [point.y for point in line.points]
    axes.plot(xs, ys, label=short(printable(line.label)), **style)
    ends = [(p.x, p.y, p.low, p.high) for p in line.points if p.low is not None and p.high is not None]
    for x, y, low, high in ends:
        error = ([max(0.0, y - low)], [max(0.0, high - y)])
        axes.errorbar(x, y, yerr=error, fmt="none", color=series_colour(index), elinewidth=1.0, capsize=2.0)


def _scales(axes: Axes, picture: Lines) -> None:
    ys = [point.y for line in picture.lines for point in line.points] + ([picture.level[1]] if picture.level else [])
    if picture.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if picture.log_y and min(ys) > 0:
        axes.set_yscale("log")
        axes.set_ylim(min(ys) / _ROOM, max(ys) * _ROOM)
        subs = (1.0,) if max(ys) / min(ys) > _DECADES else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    else:
        axes.set_ylim(min(0.0, *ys), max(ys) * 1.05)


def _tick(value: float, place: int | None = None) -> str:
    return f"{value / 1024:g}K" if value >= 1024 and value % 1024 == 0 else f"{value:,.10g}"


def _bars(picture: Bars) -> Figure:
    figure, axes = canvas(0.3 + _BAR_IN * len(picture.bars) + (_LEGEND_IN if picture.level else 0.0))
    ends = [bar.value if bar.high is None else max(bar.value, bar.high) for bar in picture.bars]
    widest = max([*ends, picture.level[1] if picture.level else 0.0]) or 1.0
    axes.set_xlim(0, widest / _SHARE_OF_BARS)
    for place, bar in enumerate(picture.bars):
        _bar(axes, bar, place, picture.unit)
    axes.set_ylim(len(picture.bars), 0)
    axes.set_axis_off()
    if picture.level is not None:
        label = short(_marked(picture.level) + f" {picture.unit}")
        style: dict[str, Any] = {"linestyle": "--", "color": COLOURS["--ink"], "linewidth": 1.1}
        for place in range(len(picture.bars)):  # across the bars alone: names are not crossed out
            across = (place + 0.4, place + 0.84)
            axes.plot((picture.level[1],) * 2, across, label=None if place else label, **style)
        legend(figure, axes)
    return figure


def _bar(axes: Axes, bar: Bar, place: int, unit: str) -> None:
    """A name in one line, and below it the bar and its value."""
    told = f"{significant(bar.value)} {unit}"
    if bar.low is not None and bar.high is not None:
        told += f" [{significant(bar.low)}, {significant(bar.high)}]"
    axes.text(0, place + 0.24, short(printable(bar.label)), fontsize=SMALL_PT, va="center", **ink("--ink"))
    axes.text(axes.get_xlim()[1], place + 0.63, told, fontsize=SMALL_PT, va="center", ha="right", **ink("--ink"))
    axes.barh(place + 0.62, bar.value, height=0.3, color=series_colour(0), linewidth=0)
    if bar.low is not None and bar.high is not None:
        error = ([max(0.0, bar.value - bar.low)], [max(0.0, bar.high - bar.value)])
        style: dict[str, Any] = {"color": COLOURS["--ink"], "elinewidth": 1.1, "capsize": 2.5, "capthick": 1.1}
        axes.errorbar(bar.value, place + 0.62, xerr=error, fmt="none", **style)
