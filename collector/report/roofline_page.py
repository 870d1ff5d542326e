"""Operators and rooflines as one HTML file, and as a section of the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from collector.report import roofline_words
from collector.report.operator_bars import Bar, operator_bars
from collector.report.operator_bars import told as bar_told
from collector.report.page import page
from collector.report.picture import Picture, picture
from collector.report.roofline_plot import roofline_plot
from collector.report.roofline_plot import told as plot_told
from collector.report.sheets import Part
from collector.rooflines import Rooflines, TrialRoofline


class Shown(NamedTuple):
    """One trial as a page holds it."""

    part: Part
    pictures: tuple[Picture, ...]


def shown(found: Rooflines, most_drawn: int | None = None) -> list[Shown]:
    """Every profiled trial with its tables, and with pictures up to `most_drawn`."""
    drawn = len(found.trials) if most_drawn is None else most_drawn
    return [
        Shown(roofline_words.part(each), tuple(_pictures(index, each)) if index < drawn else ())
        for index, each in enumerate(found.trials)
    ]


def render(found: Rooflines, written_unix_s: float) -> str:
    """The page; everything that came from a board is escaped."""
    return page(
        "roofline.html.j2",
        written_unix_s,
        trials=shown(found),
        absent=roofline_words.absent(found),
    )


def _pictures(index: int, each: TrialRoofline) -> Iterator[Picture]:
    bars = [Bar(points.phase.value, points) for points in each.phases if points.reason is None]
    stacked = operator_bars(bars)
    if stacked is not None:
        caption = f"{'; '.join(map(bar_told, bars))}. What has no name here is in the table."
        yield picture(stacked, f"operators-{index}", "Shares of the kernels' time", caption)
    plot = roofline_plot(each)
    if plot is not None:
        caption = f"{plot_told(each)}. Operators that multiply no matrices have no place here."
        yield picture(plot, f"roofline-{index}", "Roofline", caption)
