"""Which measured ceilings a trial is held against: those of its own campaign, else the nearest of its machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collector.conditions import printable, setting_words
from collector.stored import StoredTrial
from phasewatt.ceilings import Peaks, no_peaks, peaks_of
from phasewatt.fields import Outcome
from phasewatt.records import Trial

# Settings of the workload alone, which the trial that measured ceilings has otherwise or not at all.
_OF_THE_WORKLOAD = frozenset(
    {"engine", "mode", "attention", "TF32", "fused weights", "prefill chunk", "experts", "threads", "parallelism"}
    | {"TTFT limit", "TPOT limit", "accelerator", "processor"}
)
_NONE = "the ceilings of {device} were not measured: run `phasewatt-agent run ceilings` there"
_DAY_S = 86_400.0


class Chosen(NamedTuple):
    """The trial whose ceilings count, and how near it is; None: why none does."""

    stored: StoredTrial | None
    told: str


def with_ceilings(trials: Iterable[StoredTrial]) -> list[StoredTrial]:
    """The trials that measured ceilings."""
    return [stored for stored in trials if stored.trial.outcome is Outcome.OK and stored.trial.ceilings]


def peaks_for(trial: Trial, measured: Sequence[StoredTrial]) -> Peaks:
    """What `trial` is held against, out of trials that measured ceilings."""
    chosen = choose(trial, measured)
    if chosen.stored is None:
        return no_peaks(chosen.told)
    if trial.conditions.parallelism != "single":
        return no_peaks(f"the ceilings are of one processor, and {trial.conditions.parallelism} shared the work")
    if trial.work is None:
        return no_peaks("the trial does not say what was computed")
    return peaks_of(chosen.stored.trial.ceilings, trial.work.dtype, trial.conditions, chosen.told)


def choose(trial: Trial, measured: Sequence[StoredTrial]) -> Chosen:
    """The nearest trial of the same device and processor: same campaign, fewest other conditions, nearest in time."""
    own = [stored for stored in measured if stored.trial.device == trial.device]
    if not own:
        return Chosen(None, printable(_NONE.format(device=trial.device)))
    alike = [stored for stored in own if _same_processor(trial, stored.trial)]
    if not alike:
        others = ", ".join(sorted({str(stored.trial.conditions.processor) for stored in own}))
        told = f"the ceilings of {trial.device} are of another processor: {others}, not {trial.conditions.processor}"
        return Chosen(None, printable(told))
    nearest = min(alike, key=lambda stored: _distance(trial, stored.trial))
    return Chosen(nearest, printable(_told(trial, nearest.trial)))


def _same_processor(trial: Trial, other: Trial) -> bool:
    """By name; the other processor of a host, which the trial of its ceilings does not name, by its kind."""
    kind = trial.conditions.accelerator
    if other.conditions.accelerator == kind:
        return other.conditions.processor == trial.conditions.processor
    return any(ceiling.processor == kind for ceiling in other.ceilings)


def _distance(trial: Trial, other: Trial) -> tuple[bool, int, float]:
    apart_s = abs(other.started_unix_s - trial.started_unix_s)
    return other.campaign != trial.campaign, len(_differing(trial, other)), apart_s


def _differing(trial: Trial, other: Trial) -> list[str]:
    """Settings of the machine that are not the same; versions of what both have."""
    mine, theirs = dict(setting_words(trial.conditions)), dict(setting_words(other.conditions))
    names = (name for name in mine if name in theirs and name not in _OF_THE_WORKLOAD)
    return [name for name in names if mine[name] != theirs[name]]


def _told(trial: Trial, other: Trial) -> str:
    if other.campaign == trial.campaign:
        origin = "measured in the same campaign"
    else:
        days = (other.started_unix_s - trial.started_unix_s) / _DAY_S
        origin = f"measured in campaign {other.campaign}, {abs(days):.1f} days {'later' if days > 0 else 'earlier'}"
    differing = _differing(trial, other)
    return origin + (f", with another {', another '.join(differing)}" if differing else "")
