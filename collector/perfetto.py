"""A trial as a timeline for ui.perfetto.dev: phases and repetitions as slices, power and clocks as counters. Pure.

Times are those of the board's monotonic clock, moved so that the first of them is 0. The operator profile has no times:
it is a process of its own, whose slices are as long as an operator took and stand one after another, longest first.

Source: "Trace Event Format", the JSON form that Chrome, Perfetto and Catapult read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from collector.operator_slices import operator_events
from collector.power_points import power_points
from collector.stored import StoredTrial
from collector.trace_events import Event, complete, counter, named_process, named_thread
from phasewatt import series
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Phase, Reading
from phasewatt.records import PhaseEnergy, PhaseRun, Trial
from phasewatt.traces import Channel, Trace

_TRIAL = 1  # process ids of the timeline
_PHASES = 1  # thread ids; repetitions that overlap take further ones
_REPETITIONS = 2
_TOUCHING_NS = 1000  # by which one may begin before the last has ended and still be the next one: clocks are read twice
_READINGS = {Reading.INSTANT: "", Reading.AVERAGE: ", averaged", Reading.COUNTER: ", from its counter"}


def trace_of(stored: StoredTrial, traces: Sequence[Trace]) -> dict[str, Any]:
    """The whole document, ready to be written as JSON; power is left out where `traces` are not at hand.

    Raises:
        ConfigInvalid: the trial ran nothing, so that there is no time to show.
    """
    trial = stored.trial
    if not any(run.starts_ns for run in trial.runs):
        raise ConfigInvalid(f"perfetto: trial {stored.record_id[:12]} has no repetitions: {_why(trial)}")
    timed = [*_phases(trial), *_repetitions(trial), *_power(traces), *_beside(traces), *_course(trial)]
    base_ns = min([trial.started_ns, *(event.at_ns for event in timed)])
    whose = f"{trial.device}: {trial.suite}/{trial.cell}{' (simulated)' if trial.conditions.simulated else ''}"
    events = [
        *named_process(_TRIAL, whose, 0),
        *named_thread(_TRIAL, _PHASES, "Phases"),
        *_names(timed),
        *(event.as_json(base_ns) for event in sorted(timed, key=lambda event: (event.at_ns, -event.long_ns))),
        *operator_events(trial),
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": _about(stored, base_ns)}


def _why(trial: Trial) -> str:
    if trial.imported is not None:
        return f"imported from {trial.imported.tool}"
    return f"{trial.outcome.value}: {trial.reason or 'no reason was recorded'}"


def _about(stored: StoredTrial, base_ns: int) -> dict[str, Any]:
    """What the trial was, and where 0 is; a reader of the file finds it under "Info and stats"."""
    trial = stored.trial
    return {
        "record_id": stored.record_id,
        "device": trial.device,
        "campaign": trial.campaign,
        "suite": trial.suite,
        "cell": trial.cell,
        "started_unix_s": trial.started_unix_s,
        "zero_monotonic_ns": base_ns,
        "boot_id": trial.boot_id,
        "conditions": msgspec.to_builtins(trial.conditions),
        "energy_reason": trial.energy_reason,
    }


def _names(events: Sequence[Event]) -> Iterator[dict[str, Any]]:
    lanes = sorted({event.thread for event in events if event.thread is not None and event.thread >= _REPETITIONS})
    for number, lane in enumerate(lanes, 1):
        yield from named_thread(_TRIAL, lane, "Repetitions" if number == 1 else f"Repetitions, in flight {number}")


def _phases(trial: Trial) -> Iterator[Event]:
    """Each phase from its first repetition to its last, with its warm-up and its window in it."""
    for run in trial.runs:
        if not run.starts_ns:
            continue
        begin_ns = run.starts_ns[0]
        end_ns = max(start + took for start, took in zip(run.starts_ns, run.durations_ns, strict=True))
        yield complete(_TRIAL, _PHASES, run.phase.value, begin_ns, end_ns, _of_phase(trial, run))
        window = run.window
        if run.warmup and (window is None or window.start_ns > begin_ns):
            yield complete(_TRIAL, _PHASES, "warm-up", begin_ns, end_ns if window is None else window.start_ns)
        if window is not None and run.phase is not Phase.IDLE:
            yield complete(_TRIAL, _PHASES, "window", window.start_ns, window.end_ns)


def _of_phase(trial: Trial, run: PhaseRun) -> dict[str, Any]:
    told: dict[str, Any] = {
        "repetitions": len(run.starts_ns),
        "warm-up repetitions": run.warmup,
        "tokens a repetition": run.tokens,
        "KV cache": f"{run.kv_start} to {run.kv_end} tokens",
        "steady": f"{'yes' if run.steady else 'no'}: {run.steady_reason}",
    }
    energies = [energy for energy in trial.energy if energy.phase is run.phase]
    return told | {f"energy of the window, {energy.scope.value}": _joules(energy) for energy in energies}


def _joules(energy: PhaseEnergy) -> str:
    if energy.energy_j is None:
        return f"none: {energy.reason}"
    unsure = energy.temporal_uncertainty_j
    return f"{energy.energy_j:.6g} J" + ("" if unsure is None else f" ± {unsure:.2g} J (when the sensor looked)")


def _repetitions(trial: Trial) -> Iterator[Event]:
    """Every repetition; those that overlap in lanes of their own, since slices of one thread must nest."""
    free_ns: list[int] = []  # when each lane is free again
    columns = [
        (start_ns, took_ns, run, index)
        for run in trial.runs
        for index, (start_ns, took_ns) in enumerate(zip(run.starts_ns, run.durations_ns, strict=True))
    ]
    for start_ns, took_ns, run, index in sorted(columns, key=lambda column: column[:2]):
        lane = next((at for at, until_ns in enumerate(free_ns) if until_ns <= start_ns + _TOUCHING_NS), len(free_ns))
        begin_ns = max(start_ns, free_ns[lane]) if lane < len(free_ns) else start_ns
        free_ns[lane : lane + 1] = [max(begin_ns, start_ns + took_ns)]
        yield from _repetition(run, index, _REPETITIONS + lane, begin_ns)


def _repetition(run: PhaseRun, index: int, lane: int, start_ns: int) -> Iterator[Event]:
    end_ns = max(start_ns, run.starts_ns[index] + run.durations_ns[index])
    counts = index >= run.warmup
    name = run.phase.value if counts else f"{run.phase.value}, warm-up"
    told = {
        "repetition": index,
        "took, ms": (end_ns - start_ns) * 1e-6,
        "counts as evidence": "yes" if counts else "no",
    }
    yield complete(_TRIAL, lane, name, start_ns, end_ns, told)
    if run.first_token_ns is not None and index < len(run.first_token_ns):
        first_ns = min(max(start_ns, run.starts_ns[index] + run.first_token_ns[index]), end_ns)
        yield complete(_TRIAL, lane, "to the first token", start_ns, first_ns)
        if first_ns < end_ns:
            yield complete(_TRIAL, lane, "the other tokens", first_ns, end_ns)


def _power(traces: Sequence[Trace]) -> Iterator[Event]:
    for index, channel in _channels(traces):
        if channel.scope is not None:
            for point in power_points(traces, index):
                yield counter(_TRIAL, _title(channel), "W", point.time_ns, point.value)


def _title(channel: Channel) -> str:
    scope = channel.scope.value if channel.scope else ""
    return f"power, {scope}: {channel.name}{_READINGS[channel.reading]} ({channel.source})"


def _beside(traces: Sequence[Trace]) -> Iterator[Event]:
    """What channels beside power showed, as they were read."""
    for index, channel in _channels(traces):
        if channel.scope is None:
            for part in traces:
                values = zip(series.unpack_times(part.time), series.unpack(part.values[index]), strict=True)
                read = ((at_ns, value) for at_ns, value in values if value is not None)
                for at_ns, value in read:
                    yield counter(_TRIAL, f"{channel.source}: {channel.name}", channel.unit, at_ns, value)


def _channels(traces: Sequence[Trace]) -> list[tuple[int, Channel]]:
    return list(enumerate(traces[0].channels)) if traces else []


def _course(trial: Trial) -> Iterator[Event]:
    """Looks at clock, temperature and throttling; what a look did not get has no point."""
    course = trial.course
    if course is None:
        return
    columns = zip(course.at_ns, course.clock_hz, course.temperature_c, course.throttled, strict=False)
    for at_ns, clock_hz, celsius, held in columns:
        for name, unit, value in (
            ("processor clock", "MHz", None if clock_hz is None else clock_hz * 1e-6),
            ("processor temperature", "°C", celsius),
            ("held back", "1: yes", None if held is None else float(held)),
        ):
            if value is not None:
                yield counter(_TRIAL, name, unit, at_ns, value)
