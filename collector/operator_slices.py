"""Operator profiles as slices: how long each operator took in one repetition, longest first. No timeline. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from collector.trace_events import Event, Json, complete, named_process, named_thread
from phasewatt.profiles import OperatorProfile
from phasewatt.records import Trial

_PROCESS = 2
_TITLE = "Operators, mean of a profiled repetition: laid end to end, not in the order of time"


def operator_events(trial: Trial) -> Iterator[Json]:
    """A thread for each phase that was profiled, beginning at 0; nothing where none was."""
    profiles = [profile for profile in trial.profiles if profile.repetitions]
    if not profiles:
        return
    yield from named_process(_PROCESS, _TITLE, 1)
    for thread, profile in enumerate(profiles, 1):
        yield from named_thread(_PROCESS, thread, f"{profile.phase.value}, on {profile.processor}")
        for event in _slices(trial, profile, thread):
            yield event.as_json(0)


def _slices(trial: Trial, profile: OperatorProfile, thread: int) -> list[Event]:
    """The phase as one slice with its operators in it, and the gaps between kernels at the end."""
    times = [(each.operator, each.device_ns, each.launches) for each in profile.operators]
    ordered = sorted(times, key=lambda time: -time[1])
    parts = [(name, took_ns, _of_operator(trial, profile, name, took_ns, count)) for name, took_ns, count in ordered]
    parts += [("no operator found", profile.unattributed_ns, _kernels(profile))] if profile.unattributed_ns else []
    gaps_ns = max(0, profile.elapsed_ns - profile.busy_ns)
    parts += [("gaps between kernels", gaps_ns, {})] if gaps_ns else []
    slices, at_ns = [], 0
    for name, took_ns, args in parts:
        end_ns = at_ns + took_ns // profile.repetitions
        slices.append(complete(_PROCESS, thread, name, at_ns, end_ns, args))
        at_ns = end_ns
    return [complete(_PROCESS, thread, profile.phase.value, 0, at_ns, _of_profile(profile)), *slices]


def _of_profile(profile: OperatorProfile) -> dict[str, Any]:
    return {
        "profiled repetitions": profile.repetitions,
        "busy, ms a repetition": profile.busy_ns / profile.repetitions * 1e-6,
        "tool": f"{profile.tool} {profile.tool_version or ''}".strip(),
        "KV cache": f"{profile.kv_start} to {profile.kv_end} tokens",
        **({"mind": profile.reason} if profile.reason else {}),
    }


def _of_operator(trial: Trial, profile: OperatorProfile, name: str, took_ns: int, launches: int) -> dict[str, Any]:
    counters = [each for each in trial.counters if each.phase is profile.phase]
    values = {key: value for each in counters for of in each.operators if of.operator == name
              for key, value in of.values.items()}  # fmt: skip
    share = took_ns / profile.busy_ns if profile.busy_ns else None
    return {
        "took, ms a repetition": took_ns / profile.repetitions * 1e-6,
        "launches a repetition": launches / profile.repetitions,
        **({} if share is None else {"share of the busy time, %": round(100 * share, 2)}),
        **values,
    }


def _kernels(profile: OperatorProfile) -> dict[str, Any]:
    return {kernel.name: f"{kernel.device_ns / profile.repetitions * 1e-6:.4g} ms" for kernel in profile.unattributed}
