"""Shares of operators as stacked bars, one a phase: groups by colour and by the order in which they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from collector.report.canvas import SMALL_PT, TEXT_PT, WIDTH_IN, canvas, ink, series_colour, short
from collector.report.roofline_words import SHARES, operator_name
from collector.report.svg import COLOURS
from phasewatt.operators import Group
from phasewatt.roofline_points import PhasePoints, Point

_ROW_IN = 0.5
_LETTER_IN = 0.062  # of the small text, a little wider than most letters
_PALE = 0.45
_ORDER = (Group.ATTENTION, Group.FFN, Group.REST)
_HATCHES = {
    Group.ATTENTION: "",
    Group.FFN: "////",
    Group.REST: "---",
}  # told apart without colour; dots would take 250 KB


class Bar(NamedTuple):
    """One phase, by the name that it has in the picture."""

    name: str
    points: PhasePoints


class _Segment(NamedTuple):
    name: str
    share: float
    group: Group | None  # None: no operator was found


def operator_bars(bars: Sequence[Bar]) -> Figure | None:
    """A stacked bar for each phase; None where none has kernels."""
    drawn = [bar for bar in bars if bar.points.shares]
    if not drawn:
        return None
    figure, axes = canvas(_ROW_IN * len(drawn) + 0.45)
    for row, bar in enumerate(drawn):
        axes.text(0, row - 0.42, short(bar.name), fontsize=TEXT_PT, weight="bold", va="center", **ink("--ink"))
        _stack(axes, row, _segments(bar.points))
    axes.set_xlim(0, 1)
    axes.set_ylim(len(drawn) - 0.35, -0.6)
    axes.set_axis_off()
    _legend(figure, drawn)
    return figure


def _segments(points: PhasePoints) -> list[_Segment]:
    """Group by group, the longest operator first; at the end what belongs to none."""
    named = [_Segment(operator_name(each.operator), each.share, each.group or Group.REST) for each in points.operators]
    ordered = [segment for group in _ORDER for segment in named if segment.group is group]
    lost = points.shares.get("unattributed", 0.0)
    return [*ordered, _Segment(SHARES["unattributed"], lost, None)] if lost else ordered


def _stack(axes: Axes, row: int, segments: Sequence[_Segment]) -> None:
    left = 0.0
    for segment in segments:
        axes.barh(
            row, segment.share, left=left, height=0.5, color=_colour(segment.group), alpha=_PALE, linewidth=0,
            hatch=_hatch(segment.group), edgecolor=COLOURS["--ink"],
        )  # fmt: skip
        axes.barh(row, segment.share, left=left, height=0.5, fill=False, edgecolor=COLOURS["--card"], linewidth=1.2)
        _name(axes, row, left, segment)
        left += segment.share


def _name(axes: Axes, row: int, left: float, segment: _Segment) -> None:
    """The name inside its segment, where that is wide enough; the table has all of them."""
    room = segment.share * WIDTH_IN
    for told in (f"{segment.name} {segment.share:.0%}", segment.name):
        if len(told) * _LETTER_IN < room:
            middle = left + segment.share / 2
            box = {"facecolor": COLOURS["--card"], "edgecolor": "none", "pad": 0.6}
            axes.text(middle, row, told, fontsize=SMALL_PT - 1, ha="center", va="center", bbox=box, **ink("--ink"))
            return


def _hatch(group: Group | None) -> str:
    return "xxx" if group is None else _HATCHES[group]


def _colour(group: Group | None) -> str:
    return COLOURS["--muted"] if group is None else series_colour(_ORDER.index(group))


def _legend(figure: Figure, bars: Sequence[Bar]) -> None:
    lost = any(bar.points.shares.get("unattributed") for bar in bars)
    groups: list[Group | None] = [*_ORDER, *([None] if lost else [])]
    patches = [
        Patch(facecolor=_colour(group), alpha=_PALE, hatch=_hatch(group), edgecolor=COLOURS["--ink"], linewidth=0)
        for group in groups
    ]
    names = [SHARES[group.value] if group else SHARES["unattributed"] for group in groups]
    drawn = figure.legend(
        patches, names, loc="outside lower left", frameon=False, fontsize=SMALL_PT, ncols=2,
        handlelength=1.3, columnspacing=0.9, borderpad=0.1,
    )  # fmt: skip
    for text in drawn.get_texts():
        text.set(**ink("--ink"))


def told(bar: Bar) -> str:
    """What a bar shows, for who cannot see it."""
    largest: list[Point] = list(bar.points.operators[:4])
    return f"{bar.name}: " + ", ".join(f"{operator_name(each.operator)} {each.share:.0%}" for each in largest)
