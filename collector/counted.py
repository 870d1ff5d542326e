"""The study's tables of counters from trials: a prefill beside its decode, a short prompt beside a long one. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from collector.stored import StoredTrial
from phasewatt import counter_tables
from phasewatt.counter_tables import Change, Row
from phasewatt.fields import Phase
from phasewatt.profiles import CounterProfile
from phasewatt.records import PhaseReading, Trial

WHOLE_PHASE = "gpm"  # in the names of NVML's own counters, which are of a whole phase
_PHASES = (Phase.PREFILL, Phase.DECODE)


class CountedPhase(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of one trial, by operator."""

    phase: Phase
    tool: str
    tool_version: str | None
    compute_capability: str | None
    kv_start: int
    kv_end: int
    rows: tuple[Row, ...]
    missing: dict[str, str]
    reason: str | None


class CountedTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One trial's counters; where there are none, what the GPU says of whole phases instead."""

    record_id: str
    device: str
    cell: str
    model: str | None
    dtype: str | None
    batch: int | None
    prompt_tokens: int | None
    processor: str | None
    simulated: bool
    origin: str
    phases: tuple[CountedPhase, ...]
    changes: tuple[Change, ...]  # from prefill to decode
    whole_phases: tuple[PhaseReading, ...] = ()  # NVML's GPM: averages over phases, of no operator
    whole_phases_reason: str | None = None  # why these are shown


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """A short prompt beside a long one of the same model on the same device, phase by phase."""

    device: str
    model: str
    dtype: str
    short_tokens: int
    long_tokens: int
    phase: Phase
    changes: tuple[Change, ...]


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """All tables."""

    trials: tuple[CountedTrial, ...]
    lengths: tuple[Lengths, ...]


def counted(stored: Iterable[StoredTrial]) -> Counted:
    """The tables of those trials that have counters, or readings of whole phases instead."""
    chosen = [each for each in stored if each.trial.counters or _whole_phases(each.trial)]
    return Counted(trials=tuple(map(_trial, chosen)), lengths=tuple(_lengths(chosen)))


def _trial(stored: StoredTrial) -> CountedTrial:
    trial, work = stored.trial, stored.trial.work
    phases = tuple(map(_phase, trial.counters))
    by_phase = {phase.phase: phase.rows for phase in phases}
    has_any = any(phase.rows for phase in phases)
    return CountedTrial(
        record_id=stored.record_id,
        device=trial.device,
        cell=trial.cell,
        model=work.task.architecture.name if work else None,
        dtype=work.dtype if work else None,
        batch=work.task.batch if work else None,
        prompt_tokens=work.task.prompt_tokens if work else None,
        processor=trial.conditions.processor,
        simulated=trial.conditions.simulated,
        origin=stored.origin,
        phases=phases,
        changes=counter_tables.changes(by_phase.get(Phase.PREFILL, ()), by_phase.get(Phase.DECODE, ())),
        whole_phases=() if has_any else _whole_phases(trial),
        whole_phases_reason=None if has_any else _why_whole(trial),
    )


def _phase(profile: CounterProfile) -> CountedPhase:
    return CountedPhase(
        phase=profile.phase,
        tool=profile.tool,
        tool_version=profile.tool_version,
        compute_capability=profile.compute_capability,
        kv_start=profile.kv_start,
        kv_end=profile.kv_end,
        rows=counter_tables.rows(profile),
        missing=profile.missing,
        reason=profile.reason,
    )


def _whole_phases(trial: Trial) -> tuple[PhaseReading, ...]:
    return tuple(each for each in trial.readings if f".{WHOLE_PHASE}." in each.source and each.phase in _PHASES)


def _why_whole(trial: Trial) -> str:
    why = next((profile.reason for profile in trial.counters if profile.reason), "no counters were asked for")
    return f"no counters by operator ({why}): NVML's averages over whole phases are shown instead"


def _lengths(chosen: Sequence[StoredTrial]) -> list[Lengths]:
    """The newest trial of the shortest and of the longest prompt, of each device, model and dtype."""
    alike: dict[tuple[str, str, str, int, str], dict[int, Trial]] = defaultdict(dict)
    for each in chosen:
        trial, work = each.trial, each.trial.work
        if work is not None and any(profile.operators for profile in trial.counters):
            task = work.task
            key = (trial.device, task.architecture.name, work.dtype, task.batch, trial.conditions.processor or "")
            alike[key].setdefault(task.prompt_tokens, trial)
    found = []
    for (device, model, dtype, _, _), by_tokens in alike.items():
        if len(by_tokens) > 1:
            short, long = min(by_tokens), max(by_tokens)
            found += [
                Lengths(
                    device=device,
                    model=model,
                    dtype=dtype,
                    short_tokens=short,
                    long_tokens=long,
                    phase=phase,
                    changes=counter_tables.changes(_rows(by_tokens[short], phase), _rows(by_tokens[long], phase)),
                )
                for phase in _PHASES
            ]
    return found


def _rows(trial: Trial, phase: Phase) -> tuple[Row, ...]:
    profile = next((each for each in trial.counters if each.phase is phase), None)
    return () if profile is None else counter_tables.rows(profile)
