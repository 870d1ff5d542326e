"""How trials were run, in words: the settings that make a group, its label, and what was observed meanwhile. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from collector.stored import StoredTrial
from collector.surroundings import locked_clocks, span, surroundings
from phasewatt.conditions import Conditions
from phasewatt.records import Trial
from phasewatt.work import Work

Setting = tuple[str, str | None]

_CHOSEN = frozenset({"engine", "mode", "parallelism", "dtype", "quantization", "weights"})
_LOCKED = "locked clocks"
_TUNED = ("TF32", "fused weights", "prefill chunk", "experts")
_LIMITS = ("TTFT limit", "TPOT limit")
_NAMED = frozenset({*_TUNED, *_LIMITS, "power mode", _LOCKED, "power limit", "ECC", "persistence mode", "MIG"})
NO_MARKS = "none"
_DIGEST = "weights digest"
_VERSION = " version"
_LONG = 80  # letters of a reason; beyond them its details stand elsewhere


class GroupKey(NamedTuple):
    """What trials must share to be one group: a device and its settings."""

    device: str
    reference: bool
    settings: tuple[Setting, ...]

    @property
    def simulated(self) -> bool:
        """Whether a fake engine or a replayed meter had a part in it."""
        return ("simulated", "yes") in self.settings


def printable(text: str) -> str:
    """`text` with every control and direction character replaced: a label from a board must not steer a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def brief(reason: str) -> str:
    """A long `reason` without the details in brackets that it ends with."""
    if len(reason) <= _LONG or not reason.endswith(")"):
        return reason
    depth = 0
    for place in range(len(reason) - 1, 0, -1):
        depth += {")": 1, "(": -1}.get(reason[place], 0)
        if depth == 0:
            return reason[:place].rstrip()
    return reason


def group_of(stored: StoredTrial, across: bool) -> GroupKey:
    """The group that a trial belongs to; `across` makes the representation of the weights a setting."""
    trial = stored.trial
    settings = [*_settings(trial.conditions), *(_representation(trial.work) if across and trial.work else ())]
    shown = tuple((printable(name), None if value is None else printable(value)) for name, value in settings)
    return GroupKey(trial.device, stored.origin == "reference", shown)


def in_order(keys: Iterable[GroupKey]) -> list[GroupKey]:
    """Stored before reference, measured before simulated, then by device and settings, numbers by their size."""
    return sorted(keys, key=lambda key: (key.reference, key.simulated, natural(key.device), _by_size(key.settings)))


def natural(text: str) -> list[tuple[bool, int, str]]:
    """A sort key that puts "2 threads" before "10 threads"."""
    parts = re.split(r"([0-9]+)", text)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def labels(keys: Sequence[GroupKey]) -> dict[GroupKey, str]:
    """A name for each group: its device, and what tells it from the others.

    What a user chose (engine, mode, dtype, ...) is named when it differs anywhere; what a machine brings with it
    (processor, versions, governor, ...) only when it differs between groups of the same device.
    """
    named = {key: _label(key, _telling(key, keys, frozenset({_DIGEST}))) for key in keys}
    repeated = [key for key in keys if list(named.values()).count(named[key]) > 1]
    return named | {key: _label(key, _telling(key, keys, frozenset())) for key in repeated}


def observed(trials: Sequence[Trial]) -> dict[str, str]:
    """What was seen while `trials` ran, each as a range or a set over all of them."""
    conditions = [trial.conditions for trial in trials]
    return {name: printable(describe(conditions)) for name, describe in _OBSERVED.items()} | {
        **{printable(name): printable(told) for name, told in surroundings(conditions).items()},
        "steady state": printable(_steadiness(trials)),
        "agent version": printable(_set_of(trial.agent_version for trial in trials)),
        "measured": _dates(trial.started_unix_s for trial in trials),
    }


def unsteady(trials: Iterable[Trial]) -> dict[str, str]:
    """Phases that never settled, with the reason of the first trial that says so."""
    reasons: dict[str, str] = {}
    for run in (run for trial in trials for run in trial.runs if not run.steady):
        reasons.setdefault(run.phase.value, run.steady_reason)
    return reasons


def setting_words(conditions: Conditions) -> list[Setting]:
    """How a trial was set to run, by name."""
    return _settings(conditions)


def _settings(conditions: Conditions) -> list[Setting]:
    limit_w = conditions.power_limit_w
    return [
        ("engine", conditions.engine),
        ("mode", conditions.mode),
        ("accelerator", conditions.accelerator),
        ("processor", conditions.processor),
        ("attention", conditions.attention),
        ("TF32", _switch(conditions.tf32)),
        ("fused weights", "on" if conditions.fused_weights else "off"),
        ("prefill chunk", str(conditions.prefill_chunk or "off")),
        ("experts", conditions.experts_by),
        ("threads", None if conditions.threads is None else str(conditions.threads)),
        ("parallelism", conditions.parallelism),
        ("power mode", _power_mode(conditions)),
        (_LOCKED, locked_clocks(conditions)),
        ("power limit", None if limit_w is None else f"{limit_w:g} W"),
        ("governor", conditions.governor),
        ("ECC", _switch(conditions.ecc)),
        ("persistence mode", _switch(conditions.persistence)),
        ("MIG", _switch(conditions.mig)),
        (_LIMITS[0], None if conditions.ttft_limit_s is None else f"{conditions.ttft_limit_s:g} s"),
        (_LIMITS[1], None if conditions.tpot_limit_s is None else f"{conditions.tpot_limit_s:g} s"),
        ("simulated", "yes" if conditions.simulated else "no"),
        *((f"{name}{_VERSION}", version) for name, version in sorted(conditions.versions.items())),
    ]


def _power_mode(conditions: Conditions) -> str | None:
    """Name and id: modules number and name them otherwise."""
    number = conditions.power_mode_id
    if conditions.power_mode is None:
        return None if number is None else str(number)
    return conditions.power_mode + ("" if number is None else f" (mode {number})")


def _switch(state: bool | None) -> str | None:
    return None if state is None else ("on" if state else "off")


def _representation(work: Work) -> list[Setting]:
    drawn_on = work.weights.drawn_on
    return [
        ("dtype", work.dtype),
        ("quantization", work.quantization or "none"),
        ("weights", work.weights.source),
        (_DIGEST, work.weights.digest or (f"unknown, drawn on {drawn_on}" if drawn_on else None)),
    ]


def _by_size(settings: Iterable[Setting]) -> list[list[tuple[bool, int, str]]]:
    return [natural(f"{name} {value or ''}") for name, value in settings]


def _telling(key: GroupKey, keys: Sequence[GroupKey], hidden: frozenset[str]) -> list[Setting]:
    """The settings of `key` that its label must name to tell it from the other `keys`."""
    same_device = [dict(other.settings) for other in keys if other.device == key.device]
    everywhere = [dict(other.settings) for other in keys]
    names = [name for settings in same_device for name in settings]
    mine = dict(key.settings)
    return [
        (name, mine.get(name))
        for name in dict.fromkeys(names)
        if name not in hidden | {"simulated"}
        and len({settings.get(name) for settings in (everywhere if name in _CHOSEN else same_device)}) > 1
    ]


def _label(key: GroupKey, telling: Sequence[Setting]) -> str:
    """A limit that was not set is not missing, nor a version of another engine's libraries where the engine is told."""
    engine_is_told = any(name == "engine" for name, _ in telling)
    said = [
        (name, value)
        for name, value in telling
        if value or not (name in _LIMITS or (engine_is_told and name.endswith(_VERSION)))
    ]
    parts = [key.device, *(_worded(name, value) for name, value in said)]
    if key.simulated:
        parts.append("simulated")
    return ", ".join(parts) + (" (reference)" if key.reference else "")


def _worded(name: str, value: str | None) -> str:
    if value is None:
        return "no locked clocks" if name == _LOCKED else f"{name} not stated"
    if name == "threads":
        return "1 thread" if value == "1" else f"{value} threads"
    if name == "quantization":
        return "not quantized" if value == "none" else value
    if name == _DIGEST:
        return f"weights {value.partition(',')[0][:8]}"
    if name in _NAMED or name.endswith(_VERSION):
        return f"{name.removesuffix(_VERSION)} {value}"
    return value


def _clock(conditions: Sequence[Conditions]) -> str:
    return _span([hz and hz * 1e-9 for c in conditions for hz in c.clock_hz], "GHz", ".2f")


def _temperature(conditions: Sequence[Conditions]) -> str:
    return _span([celsius for c in conditions for celsius in c.temperature_c], "°C", ".0f")


def _cpu_load(conditions: Sequence[Conditions]) -> str:
    return _span([c.other_cpu_load for c in conditions], "cores", ".1f")


def _gpu_processes(conditions: Sequence[Conditions]) -> str:
    return _span([c.other_gpu_processes for c in conditions], "processes", "d")


def _throttled(conditions: Sequence[Conditions]) -> str:
    told = [c.throttled for c in conditions if c.throttled is not None]
    return _set_of(itertools.chain.from_iterable(told)) or "no" if told else "this host does not tell"


def _marks(conditions: Sequence[Conditions]) -> str:
    return _set_of(mark for c in conditions for mark in c.marks) or NO_MARKS


_OBSERVED: Mapping[str, Callable[[Sequence[Conditions]], str]] = {
    "clock": _clock,
    "temperature": _temperature,
    "other CPU load": _cpu_load,
    "other GPU processes": _gpu_processes,
    "throttled": _throttled,
    "marks": _marks,
}


def _steadiness(trials: Sequence[Trial]) -> str:
    never = unsteady(trials)
    return "; ".join(f"{phase} never settled: {reason}" for phase, reason in never.items()) or "reached in every phase"


def _span(values: Iterable[float | None], unit: str, form: str) -> str:
    return span(values, unit, form) or "not read"


def _set_of(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


def _dates(unix_s: Iterable[float]) -> str:
    days = sorted(map(_day, unix_s))
    return " to ".join(dict.fromkeys((days[0], days[-1]))) + " UTC"


def _day(unix_s: float) -> str:
    try:
        return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):  # a board may send any number
        return f"{unix_s:g} s"
