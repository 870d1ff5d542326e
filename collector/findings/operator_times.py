"""Where the device-busy time of one sequence's phase went, by length, from the profiles of a family's trials. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from collector.findings.bounds import LEAST_HALF_WIDTH, Bounds
from collector.findings.families import Family
from collector.stored import StoredTrial
from phasewatt.fields import Phase
from phasewatt.operators import Group, Operator, group_of, named
from phasewatt.profiles import OperatorProfile

_ENDS = (Operator.EMBEDDING, Operator.LM_HEAD, Operator.SAMPLING)  # once a pass, not once a layer


class Split(NamedTuple):
    """Seconds of a prefill, or of one decode step, by operator."""

    kv_start: int
    kv_end: int
    seconds: Mapping[Operator, float]
    unattributed_s: float  # of kernels that no operator was found for: they may belong to any
    trials: tuple[StoredTrial, ...]

    def of(self, *operators: Operator) -> Bounds:
        """The time of some operators; above it, as much as was not attributed to any."""
        found = sum(self.seconds.get(operator, 0.0) for operator in operators)
        return Bounds(found, found * (1 - LEAST_HALF_WIDTH), (found + self.unattributed_s) * (1 + LEAST_HALF_WIDTH))

    def group(self, group: Group) -> Bounds:
        """The time of a group of operators."""
        return self.of(*(operator for operator in Operator if group_of(operator) is group))

    @property
    def layers(self) -> float:
        """The time of what is in the layers, as the study's list of operators has it: no embedding, no head."""
        return sum(self.seconds[operator] for operator in self.seconds if operator not in _ENDS) + self.unattributed_s

    @property
    def whole(self) -> float:
        """All of it."""
        return sum(self.seconds.values()) + self.unattributed_s


def splits(family: Family, phase: Phase) -> list[Split]:
    """The splits of whole profiles of batch 1, those of one length together, shortest first."""
    found: defaultdict[tuple[int, int], list[tuple[StoredTrial, OperatorProfile]]] = defaultdict(list)
    for stored in family.trials:
        work = stored.trial.work
        for profile in stored.trial.profiles:
            if profile.phase is phase and _is_whole(profile) and work is not None and work.task.batch == 1:
                found[profile.kv_start, profile.kv_end].append((stored, profile))
    every = [_split(length, phase, found[length]) for length in sorted(found)]
    return [each for each in every if each.group(Group.FFN).value and each.group(Group.ATTENTION).value]


def _is_whole(profile: OperatorProfile) -> bool:
    return bool(profile.repetitions and profile.operators) and not profile.is_truncated


def _split(length: tuple[int, int], phase: Phase, several: list[tuple[StoredTrial, OperatorProfile]]) -> Split:
    kv_start, kv_end = length
    passes = phase.steps(kv_start, kv_end) * sum(profile.repetitions for _, profile in several)
    summed: Counter[Operator] = Counter()
    for _, profile in several:
        for each in profile.operators:
            summed[named(each.operator) or Operator.OTHER] += each.device_ns
    return Split(
        kv_start=kv_start,
        kv_end=kv_end,
        seconds={operator: ns * 1e-9 / passes for operator, ns in summed.items()},
        unattributed_s=sum(profile.unattributed_ns for _, profile in several) * 1e-9 / passes,
        trials=tuple(stored for stored, _ in several),
    )
