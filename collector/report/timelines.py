"""Power over the time of one trial: a panel for each scope, with the phases shaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from collector.conditions import printable
from collector.power_points import power_points
from collector.report.canvas import SMALL_PT, TEXT_PT, WIDTH_IN, ink, legend, plain_axes, series_colour, short
from collector.report.evidence import Evidence
from collector.report.svg import COLOURS
from phasewatt.fields import Phase, Reading, Scope
from phasewatt.records import PhaseRun
from phasewatt.traces import Channel, Trace

_READINGS = {Reading.INSTANT: "", Reading.AVERAGE: ", averaged", Reading.COUNTER: ", from its counter"}
BANDS = {None: "load", Phase.IDLE: "idle", Phase.PREFILL: "prefill", Phase.DECODE: "decode", Phase.REQUEST: "request"}
_MOST_POINTS = 1500  # a line; more would only make the file larger
_MOST_LINES = 6  # a panel; those that count first
_HEADROOM = 1.25  # above the highest value, for the names of the phases
_LETTERS_ACROSS = 40  # as many fit beside each other along the time axis


class _Line(NamedTuple):
    """One power channel of a trace, in seconds since the trial began and watts."""

    name: str
    times_s: list[float]
    powers_w: list[float]
    counts: bool  # towards the energy of its scope


def power(evidence: Evidence) -> Figure | None:
    """Watts over the time of one trial with its phases shaded; None where the trial has no power samples."""
    panels = _panels(evidence.traces, evidence.trial.started_ns)
    if not panels:
        return None
    lines = [line for of_scope in panels.values() for line in of_scope[:_MOST_LINES]]
    height_in = (2.0 if len(panels) == 1 else 1.45 * len(panels)) + 0.3 + 0.16 * len(lines)
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    ends_s = [end for line in lines for end in (line.times_s[0], line.times_s[-1])]
    for number, (scope, of_scope) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(len(panels), 1, number)
        axes.set_xlim(min(ends_s), max(ends_s))
        _draw(axes, of_scope[:_MOST_LINES], first_colour=lines.index(of_scope[0]))
        _shade(axes, evidence.trial.runs, evidence.trial.started_ns)
        plain_axes(axes, "seconds since the trial began" if number == len(panels) else "", "W")
        axes.tick_params(labelbottom=number == len(panels))
        axes.set_title(_title(scope, len(of_scope)), fontsize=TEXT_PT, weight="bold", loc="left", **ink("--ink"))
    legend(figure, *figure.axes)
    return figure


def _panels(traces: Sequence[Trace], start_ns: int) -> Mapping[Scope, list[_Line]]:
    """The lines of each scope, those first that count towards its energy."""
    found: dict[Scope, list[_Line]] = {}
    for index, channel in enumerate(traces[0].channels if traces else ()):
        line = _line(traces, index, channel, start_ns) if channel.scope is not None else None
        if line is not None and channel.scope is not None and len(line.times_s) > 1:
            found.setdefault(channel.scope, []).append(line)
    return {scope: sorted(found[scope], key=lambda line: not line.counts) for scope in Scope if scope in found}


def _line(traces: Sequence[Trace], index: int, channel: Channel, start_ns: int) -> _Line:
    points = list(power_points(traces, index))
    points = points[:: max(1, len(points) // _MOST_POINTS)]
    scope = channel.scope.value if channel.scope else ""
    return _Line(
        name=printable(f"{scope}: {channel.name}{_READINGS[channel.reading]}"),
        times_s=[(at - start_ns) * 1e-9 for at, _ in points],
        powers_w=[watts for _, watts in points],
        counts=channel.parts_of_total and channel.reading is not Reading.AVERAGE and channel.scope is not Scope.UNKNOWN,
    )


def _title(scope: Scope, lines: int) -> str:
    return scope.value + (f", {_MOST_LINES} of {lines} readings" if lines > _MOST_LINES else "")


def _draw(axes: Axes, lines: Sequence[_Line], first_colour: int) -> None:
    """The lines from 0 W up; below it only where a sensor's steps reach there."""
    powers_w = [watts for line in lines for watts in line.powers_w]
    axes.set_ylim(min(0.0, *powers_w), _HEADROOM * max(powers_w) or 1.0)
    for index, line in enumerate(lines, first_colour):
        style = "-" if line.counts else ":"
        axes.plot(line.times_s, line.powers_w, style, color=series_colour(index), linewidth=1.1, label=short(line.name))


def _shade(axes: Axes, runs: Sequence[PhaseRun], start_ns: int) -> None:
    """Each phase as a band, its warm-up hatched; and the load before the first."""
    ordered = sorted((run for run in runs if run.starts_ns), key=lambda run: run.starts_ns[0])
    if ordered:
        _band(axes, 0.0, (ordered[0].starts_ns[0] - start_ns) * 1e-9, None)
    for run in ordered:
        window = run.window
        begin_s, end_s = ((at - start_ns) * 1e-9 for at in (run.starts_ns[0], run.starts_ns[-1] + run.durations_ns[-1]))
        steady_s = end_s if window is None else (window.start_ns - start_ns) * 1e-9
        _band(axes, begin_s, end_s, run.phase)
        if steady_s > begin_s:
            axes.axvspan(begin_s, steady_s, facecolor="none", edgecolor=COLOURS["--muted"], hatch="///", linewidth=0)


def _band(axes: Axes, begin_s: float, end_s: float, phase: Phase | None) -> None:
    """A shaded stretch of time, named where its name fits in."""
    name, (left_s, right_s) = BANDS[phase], axes.get_xlim()
    axes.axvspan(begin_s, end_s, color=COLOURS[f"--{name}"], linewidth=0, zorder=0)
    if (min(end_s, right_s) - max(begin_s, left_s)) / (right_s - left_s) * _LETTERS_ACROSS > len(name):
        style: dict[str, Any] = {"fontsize": SMALL_PT, "ha": "center", "va": "top"}
        middle_s = (max(begin_s, left_s) + min(end_s, right_s)) / 2
        axes.text(middle_s, axes.get_ylim()[1] * 0.97, name, **style, **ink("--ink"))
