"""How a long phase went over time: tokens a second, power, temperature and clock, stretch by stretch. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import msgspec

from phasewatt import energy
from phasewatt.conditions import Course
from phasewatt.fields import Phase, Record, Scope
from phasewatt.records import PhaseRun, Trial
from phasewatt.scopes import own_scope
from phasewatt.traces import Trace


class Stretch(Record, frozen=True):
    """A part of a phase's window. What was not read is None."""

    start_s: float  # since the window began
    end_s: float
    tokens_per_s: float
    power_w: float | None  # mean, on `scope`
    scope: Scope | None
    temperature_c: float | None  # highest
    clock_hz: float | None  # mean
    throttled: bool | None  # at any look; None: this host does not tell


def course_of(trial: Trial, phase: Phase, traces: Sequence[Trace] = (), parts: int = 10) -> tuple[Stretch, ...]:
    """The window of `phase` in at most `parts` stretches of equal numbers of repetitions; none without a window."""
    run = trial.run_of(phase)
    if run is None or run.window is None:
        return ()
    count = len(run.starts_ns) - run.warmup
    size = -(-count // min(parts, count))
    pieces = [_piece(run, run.warmup + first, min(run.warmup + first + size, len(run.starts_ns)))
              for first in range(0, count, size)]  # fmt: skip
    scope = _scope(trial, phase)
    return tuple(_stretch(piece, run.window.start_ns, trial.course, traces, scope) for piece in pieces)


def in_words(trial: Trial, traces: Sequence[Trace] = ()) -> Iterator[str]:
    """A line for each phase of a trial whose course was watched: how it began and how it ended."""
    if trial.course is None:
        return
    for run in trial.runs:
        stretches = course_of(trial, run.phase, traces) if run.phase is not Phase.IDLE else ()
        if len(stretches) > 1:
            yield f"{run.phase.value} over {stretches[-1].end_s:.0f} s: {_change(stretches[0], stretches[-1])}"


def _change(first: Stretch, last: Stretch) -> str:
    share = last.tokens_per_s / first.tokens_per_s - 1
    parts = [f"{first.tokens_per_s:.4g} -> {last.tokens_per_s:.4g} token/s ({share:+.1%})"]
    parts += _ends(first.power_w, last.power_w, "W", 1.0, ".1f")
    parts += _ends(first.temperature_c, last.temperature_c, "°C", 1.0, ".0f")
    parts += _ends(first.clock_hz, last.clock_hz, "GHz", 1e-9, ".2f")
    return ", ".join(parts) + (", held back at the end" if last.throttled else "")


def _ends(first: float | None, last: float | None, unit: str, scale: float, form: str) -> list[str]:
    if first is None or last is None:
        return []
    return [f"{format(first * scale, form)} -> {format(last * scale, form)} {unit}"]


def _piece(run: PhaseRun, first: int, last: int) -> PhaseRun:
    """Repetitions `first` to `last` of a run, as a run of their own."""
    return msgspec.structs.replace(
        run,
        starts_ns=run.starts_ns[first:last],
        durations_ns=run.durations_ns[first:last],
        warmup=0,
        first_token_ns=None,
        gaps_ns=None,
    )


def _stretch(
    piece: PhaseRun, began_ns: int, course: Course | None, traces: Sequence[Trace], scope: Scope | None
) -> Stretch:
    window = piece.window
    assert window is not None  # a piece has repetitions
    seen = _looks(course or Course(), window.start_ns, window.end_ns)
    temperatures = [celsius for celsius, _, _ in seen if celsius is not None]
    clocks = [hz for _, hz, _ in seen if hz is not None]
    held = [throttled for _, _, throttled in seen if throttled is not None]
    found = [each for each in energy.phase_energies(traces, [piece]) if each.scope is scope] if traces else []
    return Stretch(
        start_s=(window.start_ns - began_ns) * 1e-9,
        end_s=(window.end_ns - began_ns) * 1e-9,
        tokens_per_s=window.tokens / window.duration_s,
        power_w=found[0].mean_power_w if found else None,
        scope=scope if found and found[0].mean_power_w is not None else None,
        temperature_c=max(temperatures, default=None),
        clock_hz=statistics.fmean(clocks) if clocks else None,
        throttled=any(held) if held else None,
    )


def _looks(course: Course, start_ns: int, end_ns: int) -> list[tuple[float | None, int | None, bool | None]]:
    columns = zip(course.at_ns, course.temperature_c, course.clock_hz, course.throttled, strict=True)
    return [(celsius, hz, held) for at, celsius, hz, held in columns if start_ns <= at <= end_ns]


def _scope(trial: Trial, phase: Phase) -> Scope | None:
    """The scope whose power is shown: the narrowest around the processor that has a figure."""
    known = {each.scope for each in trial.energy if each.phase is phase and each.energy_j is not None}
    return own_scope(trial.conditions.accelerator, known)
