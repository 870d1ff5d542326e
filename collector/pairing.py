"""Which trials may be compared: those of the same work, in at least two groups; the rest is refused, with the reason.

Pure. Same work is the same `work_id`. Asked to look across dtype, weights or engine, it is the same `task_id`, and the
representation of the weights becomes one more setting that tells groups apart.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from collector.conditions import GroupKey, group_of, in_order, labels, printable
from collector.stored import StoredTrial
from phasewatt import identity
from phasewatt.fields import Outcome, Record
from phasewatt.work import Architecture, Weights, Work

_ONLY_ONE = "only one group has this work"


class Across(enum.Enum):
    """What may differ between trials of the same task, when a user asks for it."""

    DTYPE = "dtype"
    WEIGHTS = "weights"
    ENGINE = "engine"


class Refused(Record, frozen=True):
    """Trials of one cell that were not compared, and why."""

    device: str
    suite: str
    cell: str
    reason: str
    record_ids: tuple[str, ...]
    reference: bool


class Group(NamedTuple):
    """Trials of one device under one set of settings, by the name that tells them from the others."""

    key: GroupKey
    label: str


class PairedWork(NamedTuple):
    """One piece of work that at least two groups did; `members` holds the trials of each that did it."""

    work_id: str  # task_id where representations may differ
    work: Work
    members: Mapping[GroupKey, tuple[StoredTrial, ...]]


class Pairing(NamedTuple):
    """What may be compared with what."""

    groups: tuple[Group, ...]
    works: tuple[PairedWork, ...]
    refused: tuple[Refused, ...]


class _Placed(NamedTuple):
    """A trial that can be compared, with the work and group that it belongs to."""

    stored: StoredTrial
    work: Work
    work_id: str
    group: GroupKey


def pair(trials: Sequence[StoredTrial], across: Across | None = None) -> Pairing:
    """The works that at least two groups of `trials` did, and every other trial with the reason for leaving it out.

    A shipped reference takes part where a stored trial did the same work; references to other work are passed over.
    """
    once = [stored for stored in _once(trials) if not stored.trial.ceilings]  # of a machine, and of no work
    placed = [place for stored in once if (place := _place(stored, across)) is not None]
    works = [work for work in _works(placed) if len(work.members) > 1 and _has_stored(work)]
    lonely = _lonely(placed, {work.work_id for work in works}, across)
    failed = [(stored, reason) for stored in once if (reason := _unusable(stored)) is not None]
    keys = in_order({key for work in works for key in work.members})
    named = labels(keys)
    return Pairing(
        groups=tuple(Group(key, named[key]) for key in keys),
        works=tuple(sorted(works, key=lambda work: _order(work.work))),
        refused=_merged([*failed, *lonely]),
    )


def differences(mine: Work, other: Work, across: Across | None = None) -> dict[str, str]:
    """Each part in which two works differ, with both values in words, `mine` first."""
    a, b = mine.task, other.task
    parts = {
        "architecture": _of_architectures(a.architecture, b.architecture),
        "batch": _against(a.batch, b.batch),
        "prompt length": _against(a.prompt_tokens, b.prompt_tokens),
        "prompt": "other token ids" if _same_length(mine, other) and a.prompt_digest != b.prompt_digest else None,
        "output length": _against(a.output_tokens, b.output_tokens),
    }
    if across is None:
        parts |= {
            "weights": _of_weights(mine, other),
            "dtype": _against(mine.dtype, other.dtype),
            "quantization": _against(mine.quantization or "none", other.quantization or "none"),
        }
    return {part: printable(told) for part, told in parts.items() if told}


def weights_differ(mine: Work, other: Work) -> bool:
    """Whether two works use other numbers, not merely the same ones in another representation."""
    a, b = mine.weights, other.weights
    if (mine.dtype, mine.quantization) != (other.dtype, other.quantization):
        return (a.source, a.drawn_on) != (b.source, b.drawn_on)
    return (a.digest or (a.source, a.drawn_on)) != (b.digest or (b.source, b.drawn_on))


def _once(trials: Sequence[StoredTrial]) -> list[StoredTrial]:
    """Each record once, the stored one where it is shipped too; one of ceilings, which did no work, not at all."""
    worked = (stored for stored in trials if not stored.trial.ceilings)
    found = {stored.record_id: stored for stored in sorted(worked, key=lambda stored: stored.origin != "reference")}
    return sorted(found.values(), key=lambda stored: (stored.trial.started_unix_s, stored.record_id))


def _place(stored: StoredTrial, across: Across | None) -> _Placed | None:
    work = stored.trial.work
    if work is None or _unusable(stored) is not None:
        return None
    work_id = identity.work_id(work) if across is None else identity.task_id(work.task)
    return _Placed(stored, work, work_id, group_of(stored, across is not None))


def _unusable(stored: StoredTrial) -> str | None:
    trial = stored.trial
    if trial.outcome is not Outcome.OK:
        return f"{trial.outcome.value}: {trial.reason or 'no reason was recorded'}"
    if trial.imported is not None:
        return f"imported from {trial.imported.tool}: neither its weights nor its prompt are known"
    return "the trial does not say what work it did" if trial.work is None else None


def _works(placed: Sequence[_Placed]) -> list[PairedWork]:
    members: dict[str, dict[GroupKey, list[StoredTrial]]] = {}
    for place in placed:
        members.setdefault(place.work_id, {}).setdefault(place.group, []).append(place.stored)
    first = {place.work_id: place.work for place in reversed(placed)}
    return [
        PairedWork(work_id, first[work_id], {key: tuple(trials) for key, trials in groups.items()})
        for work_id, groups in members.items()
    ]


def _has_stored(work: PairedWork) -> bool:
    return any(not key.reference for key in work.members)


def _lonely(placed: Sequence[_Placed], compared: set[str], across: Across | None) -> list[tuple[StoredTrial, str]]:
    one_of_each = {(place.group, place.work_id): place for place in placed}
    reasons = {
        key: _why_lonely(place, list(one_of_each.values()), across)
        for key, place in one_of_each.items()
        if place.work_id not in compared and not place.group.reference
    }
    alone = [place for place in placed if (place.group, place.work_id) in reasons]
    return [(place.stored, reasons[place.group, place.work_id]) for place in alone]


def _why_lonely(place: _Placed, placed: Sequence[_Placed], across: Across | None) -> str:
    """Why nothing compares with `place`: in which parts the most similar work differs, of another group if there is."""
    stored = [other for other in placed if not other.group.reference]
    elsewhere = [other for other in stored if other.group != place.group]
    others = (
        elsewhere
        or [other for other in stored if other.work_id != place.work_id]
        or [other for other in placed if other.work_id != place.work_id]
    )
    if not others:
        return f"{_ONLY_ONE}, and there is no other"
    nearest = min(others, key=lambda other: len(differences(place.work, other.work, across)))
    parts = differences(place.work, nearest.work, across)
    told = ", ".join(f"{part} ({values})" for part, values in parts.items())
    whose = f"{nearest.group.device}, {nearest.stored.trial.suite}/{nearest.stored.trial.cell}"
    return f"{_ONLY_ONE}; the nearest ({printable(whose)}) differs in {told}{_remedy(set(parts))}"


def _remedy(parts: set[str]) -> str:
    if parts <= {"dtype", "quantization"}:
        return "; --across dtype compares them"
    return "; --across weights compares them" if parts <= {"dtype", "quantization", "weights"} else ""


def _merged(reasons: Sequence[tuple[StoredTrial, str]]) -> tuple[Refused, ...]:
    """One entry for all trials of a device and cell that share a reason."""
    ids: dict[tuple[str, str, str, str, bool], list[str]] = {}
    for stored, reason in reasons:
        trial = stored.trial
        text = (trial.device, printable(trial.suite), printable(trial.cell), printable(reason))
        ids.setdefault((*text, stored.origin == "reference"), []).append(stored.record_id)
    return tuple(
        Refused(device=device, suite=suite, cell=cell, reason=reason, record_ids=tuple(found), reference=reference)
        for (device, suite, cell, reason, reference), found in ids.items()
    )


def _order(work: Work) -> tuple[int, int, int, int, str]:
    task = work.task
    return work.weights.parameters, task.prompt_tokens, task.output_tokens, task.batch, identity.work_id(work)


def _against(mine: object, other: object) -> str | None:
    return None if mine == other else f"{mine} against {other}"


def _same_length(mine: Work, other: Work) -> bool:
    a, b = mine.task, other.task
    return (a.batch, a.prompt_tokens) == (b.batch, b.prompt_tokens)


def _of_architectures(mine: Architecture, other: Architecture) -> str | None:
    """The names of two shapes, or their fields where the names tell nothing; None for one shape by two names."""
    fields = [field for field in mine.__struct_fields__ if getattr(mine, field) != getattr(other, field)]
    if fields == ["name"] or not fields:
        return None
    if "name" in fields:
        return _against(mine.name, other.name)
    return ", ".join(f"{field} {getattr(mine, field)} against {getattr(other, field)}" for field in fields)


def _of_weights(mine: Work, other: Work) -> str | None:
    if not weights_differ(mine, other):
        return None
    a, b = mine.weights, other.weights
    return _against(a.source, b.source) or _against(_known_by(a), _known_by(b))


def _known_by(weights: Weights) -> str:
    return f"digest {weights.digest[:12]}" if weights.digest else f"no digest, drawn on {weights.drawn_on}"
