"""One metric as bars: every piece of work, every group, with intervals."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from collector import numbers
from collector.comparison import Cell, ComparedWork, Comparison
from collector.report.canvas import SMALL_PT, TEXT_PT, canvas, ink, series_colour, short
from collector.report.svg import COLOURS
from phasewatt.fields import Scope
from phasewatt.metrics import METRICS

_SHARE_OF_BARS = 0.52  # of the width; the rest is for the values
_Block = tuple[ComparedWork, list[tuple[int, Cell]]]  # a work, and its cells that have a value, by group number


def bars(comparison: Comparison, metric: str, scope: Scope | None = None, beside: Scope | None = None) -> Figure | None:
    """A bar with its interval for each work and group; None where no group has a value."""
    blocks = [(work, cells) for work in comparison.works if (cells := _cells(work, metric, (scope, beside)))]
    if not blocks:
        return None
    figure, axes = canvas(sum(0.26 + 0.36 * len(cells) for _, cells in blocks) + 0.05)
    widest = max(max(cell.high or 0.0, cell.value or 0.0) for _, cells in blocks for _, cell in cells)
    axes.set_xlim(min(_lows(blocks)), widest / _SHARE_OF_BARS)
    top = 0.0
    for work, cells in blocks:
        axes.text(0, top + 0.4, _brief(work), fontsize=TEXT_PT, weight="bold", va="center", **ink("--ink"))
        for place, (index, cell) in enumerate(cells):
            scoped = f" ({cell.scope.value})" if beside and cell.scope else ""
            _bar(axes, cell, index, top + 0.75 + place, METRICS[metric].unit, scoped)
        top += 0.75 + len(cells)
    axes.set_ylim(top, 0)
    axes.set_axis_off()
    return figure


def _cells(work: ComparedWork, metric: str, scopes: tuple[Scope | None, Scope | None]) -> list[tuple[int, Cell]]:
    rows = [row for row in work.rows if row.metric == metric and (row.scope, row.beside) == scopes]
    return [(index, cell) for row in rows for index, cell in enumerate(row.cells) if cell.value is not None]


def _lows(blocks: list[_Block]) -> list[float]:
    return [0.0, *(cell.low for _, cells in blocks for _, cell in cells if cell.low is not None)]


def _bar(axes: Axes, cell: Cell, index: int, top: float, unit: str, scoped: str) -> None:
    """A group's name in one line, and below it its bar and its value."""
    assert cell.value is not None
    told = " ".join(part for part in (numbers.quantity(cell.value, unit), numbers.interval(cell, unit)) if part)
    axes.text(0, top + 0.24, short(cell.group + scoped), fontsize=SMALL_PT, va="center", **ink("--ink"))
    axes.text(axes.get_xlim()[1], top + 0.63, told, fontsize=SMALL_PT, va="center", ha="right", **ink("--ink"))
    axes.barh(top + 0.62, cell.value, height=0.3, color=series_colour(index), linewidth=0)
    if cell.low is not None and cell.high is not None:
        ends = ([max(0.0, cell.value - cell.low)], [max(0.0, cell.high - cell.value)])
        style: dict[str, Any] = {"color": COLOURS["--ink"], "elinewidth": 1.1, "capsize": 2.5, "capthick": 1.1}
        axes.errorbar(cell.value, top + 0.62, xerr=ends, fmt="none", **style)


def _brief(work: ComparedWork) -> str:
    task = work.work.task
    return short(f"{task.architecture.name}, {task.batch} × {task.prompt_tokens} in, {task.output_tokens} out")
