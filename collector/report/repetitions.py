"""How long each repetition of a phase took, group beside group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from collector.report.canvas import TEXT_PT, WIDTH_IN, ink, legend, plain_axes, series_colour, short
from collector.report.evidence import Evidence
from collector.report.svg import COLOURS
from phasewatt.fields import Phase
from phasewatt.records import PhaseRun

_MARKERS = "osD^vPX"
_MOST_POINTS = 1500  # a group; more would only make the file larger
_LOGARITHMIC_FROM = 20  # largest over smallest: from here on small ones are flat on a linear axis


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
