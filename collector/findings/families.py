"""Trials that may be looked at together: one model, run in one way on one device. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from collector.conditions import GroupKey, group_of, in_order, labels, printable
from collector.findings.machine import Machine, machine_of
from collector.stored import StoredTrial
from phasewatt import roofline
from phasewatt.fields import Outcome
from phasewatt.work import Architecture, Work

# A mixture computes its experts in some way and a dense model does not: it tells models apart, not ways to run them.
_OF_THE_MODEL = frozenset({"experts"})


class Family(NamedTuple):
    """Trials of one model, all conditions and the representation of the weights being equal."""

    device: str
    way: GroupKey  # how it was run, whatever the model
    label: str  # of the way, for people
    shape: Architecture
    dtype: str
    trials: tuple[StoredTrial, ...]
    machine: Machine | None = None  # None: no ceilings and no data sheet are known

    @property
    def parameters(self) -> int:
        """All of them."""
        return roofline.parameter_count(self.shape)

    @property
    def name(self) -> str:
        """Way and model."""
        return f"{self.label}: {printable(self.shape.name)}, {self.dtype}"

    @property
    def accelerator(self) -> str:
        """Kind of the processor that did the work."""
        return self.trials[0].trial.conditions.accelerator

    @property
    def parallelism(self) -> str:
        """How several processors share the model, as its trials say it."""
        return self.trials[0].trial.conditions.parallelism

    @property
    def mode(self) -> str:
        """Eager, graph or compiled."""
        return self.trials[0].trial.conditions.mode


SINGLE = "single"  # the parallelism of a model that one processor runs


class RestsOnTrials(Protocol):
    """What was read off trials."""

    @property
    def trials(self) -> tuple[StoredTrial, ...]:
        """Those trials."""


class _Key(NamedTuple):
    way: GroupKey
    shape: Architecture
    weights: tuple[str, str | None]


def trials_of(several: Iterable[RestsOnTrials]) -> tuple[StoredTrial, ...]:
    """What they rest on, each once."""
    return tuple({stored.record_id: stored for each in several for stored in each.trials}.values())


def counts(stored: StoredTrial) -> bool:
    """Whether a trial may decide anything: it went well, was measured here, and nothing in it was simulated."""
    trial = stored.trial
    return (
        trial.outcome is Outcome.OK
        and trial.work is not None
        and trial.imported is None
        and not trial.conditions.simulated
    )


def families(trials: Iterable[StoredTrial]) -> tuple[Family, ...]:
    """The families in `trials`, the one whose findings come first first.

    That is the largest model, for the study's have 7B parameters and more; of several ways the one with most trials.
    """
    every = list(trials)
    members: defaultdict[_Key, list[StoredTrial]] = defaultdict(list)
    for stored in every:
        if counts(stored) and stored.trial.work is not None:
            weights = stored.trial.work.weights
            key = _Key(
                _way(stored, stored.trial.work), stored.trial.work.task.architecture, (weights.source, weights.digest)
            )
            members[key].append(stored)
    named = labels(in_order({key.way for key in members}))
    found = [_family(key, members[key], named, every) for key in members]
    return tuple(sorted(found, key=lambda family: (-family.parameters, -len(family.trials), family.name)))


def _family(
    key: _Key, trials: Sequence[StoredTrial], named: Mapping[GroupKey, str], every: Sequence[StoredTrial]
) -> Family:
    first = trials[0].trial
    assert first.work is not None
    return Family(
        device=first.device,
        way=key.way,
        label=named[key.way],
        shape=key.shape,
        dtype=first.work.dtype,
        trials=tuple(sorted(trials, key=lambda stored: stored.record_id)),
        machine=machine_of(first, every),
    )


def _way(stored: StoredTrial, work: Work) -> GroupKey:
    key = group_of(stored, across=False)
    settings = [setting for setting in key.settings if setting[0] not in _OF_THE_MODEL]
    settings += [("dtype", work.dtype), ("quantization", work.quantization or "none")]
    return key._replace(settings=tuple(settings))
