"""A drawing as a page holds it."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from collector.report.svg import inline


class Picture(NamedTuple):
    """A drawing and what is said of it."""

    svg: Markup
    title: str
    caption: str


def picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """`figure` under a name that is its own on the page."""
    return Picture(Markup(inline(figure, name, f"{title}. {caption}")), title, caption)  # noqa: S704 (ElementTree escaped it)
