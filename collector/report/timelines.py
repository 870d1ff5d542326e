"""Pictures over time: watts with the phases shaded, and how long each repetition took."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from collector.conditions import printable
from collector.report.canvas import SMALL_PT, TEXT_PT, WIDTH_IN, canvas, ink, legend, plain_axes, series_colour, short
from collector.report.evidence import Evidence
from collector.report.svg import COLOURS
from phasewatt import energy
from phasewatt.records import Channel, Phase, PhaseRun, Reading, Trace

_MARKERS = "osD^vPX"
_READINGS = {Reading.INSTANT: "", Reading.AVERAGE: ", averaged", Reading.COUNTER: ", from its counter"}
BANDS = {None: "load", Phase.IDLE: "idle", Phase.PREFILL: "prefill", Phase.DECODE: "decode", Phase.REQUEST: "request"}
_MOST_POINTS = 1500  # a line; more would only make the file larger
_HEADROOM = 1.25  # above the highest value, for the names of the phases
_LETTERS_ACROSS = 40  # as many fit beside each other along the time axis
_LOGARITHMIC_FROM = 20  # largest over smallest: from here on small ones are flat on a linear axis


def power(evidence: Evidence) -> Figure | None:
    """Watts over the time of one trial with its phases shaded; None where the trial has no power samples."""
    lines = [line for line in _lines(evidence.traces, evidence.trial.started_ns) if len(line.times_s) > 1]
    if not lines:
        return None
    figure, axes = canvas(2.25 + 0.16 * len(lines))
    top_w = _HEADROOM * max(itertools.chain.from_iterable(line.powers_w for line in lines))
    for index, line in enumerate(lines):
        style = "-" if line.counts else ":"
        axes.plot(line.times_s, line.powers_w, style, color=series_colour(index), linewidth=1.1, label=short(line.name))
    ends_s = [end for line in lines for end in (line.times_s[0], line.times_s[-1])]
    axes.set(xlim=(min(ends_s), max(ends_s)), ylim=(0, top_w))
    _shade(axes, evidence.trial.runs, evidence.trial.started_ns)
    plain_axes(axes, "seconds since the trial began", "W")
    legend(figure, axes)
    return figure


def repetitions(evidences: Sequence[Evidence]) -> Figure | None:
    """How long each repetition took, for all groups of one work; hollow while it warmed up. None without any."""
    phases = [phase for phase in Phase if any(_repeated(each, phase) for each in evidences)]
    if not phases:
        return None
    figure = Figure(figsize=(WIDTH_IN, 1.3 * len(phases) + 0.3 + 0.16 * len(evidences)), layout="constrained")
    for panel, phase in enumerate(phases, 1):
        axes = figure.add_subplot(len(phases), 1, panel)
        runs = [(each, run) for each in evidences if (run := _repeated(each, phase)) is not None]
        for each, run in runs:
            _dots(axes, each, run)
        axes.set_title(phase.value, fontsize=TEXT_PT, weight="bold", loc="left", **ink("--ink"))
        plain_axes(axes, "repetition" if panel == len(phases) else "", "ms")
        _durations_axis(axes, [run for _, run in runs])
    legend(figure, figure.axes[0])
    return figure


class _Line(NamedTuple):
    """One channel of a trace, in seconds since the trial began and watts."""

    name: str
    times_s: list[float]
    powers_w: list[float]
    counts: bool  # towards the energy of its scope


def _lines(traces: Sequence[Trace], start_ns: int) -> Iterator[_Line]:
    for index, channel in enumerate(traces[0].channels if traces else ()):
        points = _points(channel, energy.updates_of(energy.samples_of(traces, index)))
        points = points[:: max(1, len(points) // _MOST_POINTS)]
        averaged = channel.reading is Reading.AVERAGE
        yield _Line(
            name=printable(f"{channel.scope.value}: {channel.name}{_READINGS[channel.reading]}"),
            times_s=[(at - start_ns) * 1e-9 for at, _ in points],
            powers_w=[watts for _, watts in points],
            counts=channel.parts_of_total and not averaged,
        )


def _points(channel: Channel, updates: Sequence[energy.Sample]) -> list[energy.Sample]:
    """Watts at moments; of a joule counter the mean between two of its updates, in the middle between them."""
    if channel.reading is not Reading.COUNTER:
        return list(updates)
    return [
        energy.Sample((a.time_ns + b.time_ns) // 2, (b.value - a.value) / ((b.time_ns - a.time_ns) * 1e-9))
        for a, b in itertools.pairwise(updates)
    ]


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


def _repeated(evidence: Evidence, phase: Phase) -> PhaseRun | None:
    run = evidence.trial.run_of(phase)
    return run if run is not None and len(run.durations_ns) > 1 else None


def _dots(axes: Axes, evidence: Evidence, run: PhaseRun) -> None:
    durations_ms = [duration * 1e-6 for duration in run.durations_ns]
    numbers = range(1, len(durations_ms) + 1)
    colour, marker, warm = series_colour(evidence.place), _MARKERS[evidence.place % len(_MARKERS)], run.warmup
    step = max(1, len(durations_ms) // _MOST_POINTS)
    axes.plot(numbers[::step], durations_ms[::step], color=colour, linewidth=0.6)
    hollow: dict[str, Any] = {"markerfacecolor": COLOURS["--card"], "markersize": 3.6, "linewidth": 0}
    axes.plot(numbers[:warm], durations_ms[:warm], marker=marker, color=colour, **hollow)
    steady = (numbers[warm::step], durations_ms[warm::step])
    axes.plot(*steady, marker=marker, color=colour, markersize=2.8, linewidth=0, label=short(evidence.group))


def _durations_axis(axes: Axes, runs: Sequence[PhaseRun]) -> None:
    """From zero, so that a spread looks as large as it is; logarithmic where groups are far apart."""
    durations_ns = [duration for run in runs for duration in run.durations_ns]
    if max(durations_ns) <= _LOGARITHMIC_FROM * min(durations_ns):
        axes.set_ylim(0, max(durations_ns) * 1.12e-6)
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
