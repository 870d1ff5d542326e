"""What all pictures share: their width, their axes, and text in the stand-in colours of `svg`.

All are narrow: a phone shows one at full width, a desk several beside each other.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from collector.report.svg import COLOURS, SERIES

WIDTH_IN = 3.1
SMALL_PT, TEXT_PT = 8.0, 9.0
_LONGEST_LABEL = 40


def canvas(height_in: float) -> tuple[Figure, Axes]:
    """A figure with one set of axes."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.add_subplot()


def plain_axes(axes: Axes, along: str, up: str) -> None:
    """Axes with names, horizontal grid lines, and little else."""
    axes.set_xlabel(along, fontsize=SMALL_PT, **ink("--muted"))
    axes.set_ylabel(up, fontsize=SMALL_PT, **ink("--muted"))
    axes.tick_params(which="both", labelsize=SMALL_PT, color=COLOURS["--line"], labelcolor=COLOURS["--muted"], length=2)
    axes.grid(axis="y", color=COLOURS["--line"], linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(COLOURS["--line"])


def legend(figure: Figure, *panels: Axes) -> None:
    """The labelled lines of `panels`, below the picture."""
    named = [pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    drawn = figure.legend(
        [line for line, _ in named],
        [name for _, name in named],
        loc="outside lower left",
        frameon=False,
        fontsize=SMALL_PT,
        handlelength=1.4,
        borderpad=0.1,
    )
    for text in drawn.get_texts():
        text.set(**ink("--ink"))


def ink(colour: str) -> dict[str, Any]:
    """How text is drawn: in a colour of the theme, and never as mathematics, for it may come from a board."""
    return {"color": COLOURS[colour], "parse_math": False}


def series_colour(index: int) -> str:
    """The colour of the group or line with this number."""
    return COLOURS[f"--series{index % SERIES}"]


def short(text: str) -> str:
    """`text`, cut to what fits into a narrow picture."""
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
