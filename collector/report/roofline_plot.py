"""The roofline of one trial's machine with its operators: prefill as circles, decode as triangles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from collector.report.canvas import SMALL_PT, canvas, ink, legend, plain_axes, series_colour
from collector.report.roofline_words import operator_name
from collector.report.svg import COLOURS
from collector.rooflines import TrialRoofline
from phasewatt.ceilings import Peaks
from phasewatt.fields import Phase
from phasewatt.roofline_points import PhasePoints, Point

_MARKERS = {Phase.PREFILL: "o", Phase.DECODE: "^"}
_COLOURS = {Phase.PREFILL: 0, Phase.DECODE: 1}
_HEIGHT_IN = 3.2
_ROOM = 3.0  # factor that axes go beyond what is drawn
_LABELLED = 6  # operators of a phase, the longest; the table has all
_APART = 0.055  # of the height, between two labels beside each other
_TOGETHER = 0.04  # of either side, within which points are one place
_NAMED = 2  # operators of one place
_BESIDE = 0.4  # of the width, within which labels meet


class _Placed(NamedTuple):
    point: Point
    phase: Phase
    x: float
    y: float


def roofline_plot(roofline: TrialRoofline) -> Figure | None:
    """Intensity against achieved rate, both logarithmic; None where no operator has both."""
    placed = [each for points in roofline.phases for each in _placed(points)]
    if not placed:
        return None
    figure, axes = canvas(_HEIGHT_IN)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _limits(axes, placed, roofline.peaks)
    _roofs(axes, roofline.peaks)
    for phase in _MARKERS:
        _dots(axes, [each for each in placed if each.phase is phase], phase)
    _labels(axes, placed)
    plain_axes(axes, "FLOP/byte", "FLOP/s")
    axes.minorticks_off()
    axes.grid(axis="x", color=COLOURS["--line"], linewidth=0.6)
    legend(figure, axes)
    return figure


def _placed(points: PhasePoints) -> Iterable[_Placed]:
    """The operators that multiply matrices, and all of them together."""
    every = [*([points.whole] if points.whole else []), *points.operators]
    for point in every:
        if points.phase in _MARKERS and point.intensity and point.flop_per_s:
            yield _Placed(point, points.phase, point.intensity, point.flop_per_s)


def _limits(axes: Axes, placed: Sequence[_Placed], peaks: Peaks) -> None:
    tops = [value for value in (peaks.matmul.value, peaks.matmul.sheet) if value]
    ridges = [peaks.matmul.value / peaks.read.value] if peaks.matmul.value and peaks.read.value else []
    xs, ys = [each.x for each in placed] + ridges, [each.y for each in placed] + tops
    axes.set_xlim(min(xs) / _ROOM, max(xs) * _ROOM)
    axes.set_ylim(min(ys) / _ROOM, max(ys) * _ROOM)


def _roofs(axes: Axes, peaks: Peaks) -> None:
    """Measured in a whole line, the data sheet's in a broken one."""
    for name, flop_per_s, byte_per_s, style, ends in (
        ("measured ceilings", peaks.matmul.value, peaks.read.value, "-", "--ink"),
        ("data sheet", peaks.matmul.sheet, peaks.read.sheet, "--", "--muted"),
    ):
        if flop_per_s and byte_per_s:
            low, high = axes.get_xlim()
            ridge = flop_per_s / byte_per_s
            xs = sorted({low, min(max(ridge, low), high), high})
            ys = [min(flop_per_s, byte_per_s * x) for x in xs]
            axes.plot(xs, ys, linestyle=style, color=COLOURS[ends], linewidth=1.1, label=name)


def _dots(axes: Axes, placed: Sequence[_Placed], phase: Phase) -> None:
    """Operators filled, the whole phase hollow and larger."""
    colour = series_colour(_COLOURS[phase])
    for whole in (False, True):
        chosen = [each for each in placed if (each.point.operator == "all") is whole]
        if chosen:
            axes.plot(
                [each.x for each in chosen], [each.y for each in chosen], marker=_MARKERS[phase], linestyle="none",
                color=colour, markersize=9 if whole else 4.5, markerfacecolor="none" if whole else colour,
                markeredgewidth=1.4, zorder=3, label=f"{phase.value}, all together" if whole else phase.value,
            )  # fmt: skip


def _labels(axes: Axes, placed: Sequence[_Placed]) -> None:
    """Names beside the longest operators; those that stand in one place share a label."""
    taken: list[tuple[float, float]] = []
    for x, y, names in _clusters(axes, placed):
        height = y
        while any(abs(height - other) < _APART and abs(x - beside) < _BESIDE for beside, other in taken):
            height -= _APART / 4
        taken.append((x, height))
        more = f" +{len(names) - _NAMED}" if len(names) > _NAMED else ""
        mirrored = x > 1 - _BESIDE
        axes.text(
            x + (-0.03 if mirrored else 0.03), height, ", ".join(names[:_NAMED]) + more, transform=axes.transAxes,
            fontsize=SMALL_PT - 1, va="center", ha="right" if mirrored else "left",
            bbox={"facecolor": COLOURS["--card"], "edgecolor": "none", "pad": 0.3}, zorder=2.4, **ink("--ink"),
        )  # fmt: skip


def _clusters(axes: Axes, placed: Sequence[_Placed]) -> list[tuple[float, float, list[str]]]:
    """Places as shares of the axes, from the top, with the names of the operators that stand there."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    found: dict[Phase, list[tuple[float, float, list[str]]]] = {phase: [] for phase in _MARKERS}
    for each in _longest(placed):
        x = math.log(each.x / left) / math.log(right / left)
        y = math.log(each.y / bottom) / math.log(top / bottom)
        mine = found[each.phase]
        near = [names for a, b, names in mine if abs(a - x) < _TOGETHER and abs(b - y) < _TOGETHER]
        if near:
            near[0].append(operator_name(each.point.operator))
        else:
            mine.append((x, y, [operator_name(each.point.operator)]))
    return sorted((place for mine in found.values() for place in mine), key=lambda place: -place[1])


def _longest(placed: Sequence[_Placed]) -> list[_Placed]:
    chosen: list[_Placed] = []
    for phase in _MARKERS:
        mine = [each for each in placed if each.phase is phase and each.point.operator != "all"]
        chosen += sorted(mine, key=lambda each: -each.point.device_s)[:_LABELLED]
    return chosen


def told(roofline: TrialRoofline) -> str:
    """What the picture shows, in words."""
    wholes = [(points.phase.value, points.whole) for points in roofline.phases if points.whole is not None]
    bounds = [f"{phase} {whole.bound.value}" for phase, whole in wholes if whole.bound is not None]
    return ", ".join(bounds) or "no bound is known"
