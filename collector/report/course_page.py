"""How a trial went over time as one HTML file: a picture for each phase, a panel for each quantity that was read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from collector.conditions import printable
from collector.report.canvas import TEXT_PT, WIDTH_IN, ink, plain_axes, series_colour
from collector.report.page import page
from collector.report.picture import Picture, picture
from phasewatt.course import Stretch

_PANEL_IN = 1.25
_HEADROOM = 1.15


class Panel(NamedTuple):
    """One quantity over time."""

    title: str
    unit: str
    value: Callable[[Stretch], float | None]


_PANELS = (
    Panel("tokens", "token/s", lambda stretch: stretch.tokens_per_s),
    Panel("power", "W", lambda stretch: stretch.power_w),
    Panel("temperature", "°C", lambda stretch: stretch.temperature_c),
    Panel("clock", "GHz", lambda stretch: None if stretch.clock_hz is None else stretch.clock_hz * 1e-9),
)


def render(
    title: str, phases: Sequence[tuple[str, Sequence[Stretch]]], summary: Sequence[str], written_unix_s: float
) -> str:
    """The page; `phases` are names with their stretches. Everything that came from a board is escaped."""
    return page(
        "course.html.j2",
        written_unix_s,
        title=printable(title),
        pictures=[_drawn(index, name, stretches) for index, (name, stretches) in enumerate(phases) if stretches],
        summary=[printable(line) for line in summary],
    )


def figure_of(stretches: Sequence[Stretch]) -> Figure:
    """A panel for each quantity that any stretch has."""
    panels = [panel for panel in _PANELS if any(panel.value(stretch) is not None for stretch in stretches)]
    figure = Figure(figsize=(WIDTH_IN, _PANEL_IN * len(panels) + 0.3), layout="constrained")
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(len(panels), 1, number)
        for stretch in stretches:
            if (value := panel.value(stretch)) is not None:
                times_s = [stretch.start_s, stretch.end_s]
                axes.plot(times_s, [value, value], color=series_colour(number - 1), linewidth=1.8)
        values = [value for stretch in stretches if (value := panel.value(stretch)) is not None]
        axes.set_xlim(0.0, stretches[-1].end_s)
        axes.set_ylim(0.0, _HEADROOM * max(values) or 1.0)
        plain_axes(axes, "seconds since the window began" if number == len(panels) else "", panel.unit)
        axes.tick_params(labelbottom=number == len(panels))
        axes.set_title(panel.title, fontsize=TEXT_PT, weight="bold", loc="left", **ink("--ink"))
    return figure


def _drawn(index: int, name: str, stretches: Sequence[Stretch]) -> Picture:
    scopes = dict.fromkeys(stretch.scope.value for stretch in stretches if stretch.scope is not None)
    held = sum(bool(stretch.throttled) for stretch in stretches)
    told = "this host does not tell of throttling" if all(s.throttled is None for s in stretches) else ""
    told = told or f"held back in {held} of {len(stretches)} stretches"
    caption = f"{len(stretches)} stretches; {told}" + (f"; power on {', '.join(scopes)}" if scopes else "")
    return picture(figure_of(stretches), f"course-{index}", name, caption)
