"""Hardware counters of both phases in the study's words, with what a counter may be off: by operator. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from collector.findings.bounds import Bounds
from collector.findings.families import Family
from collector.stored import StoredTrial
from phasewatt.fields import Phase
from phasewatt.operators import Operator
from phasewatt.profiles import CounterProfile, OperatorCounters
from phasewatt.stall_words import Word, stall_shares

COUNTER_HALF_WIDTH = 0.05  # relative. A counter is of one replay of each kernel, and shows no spread of its own
Shares = Mapping[Word, Bounds]


class Counted(NamedTuple):
    """The counters of one phase of one trial."""

    stored: StoredTrial
    profile: CounterProfile

    def of(self, operator: Operator) -> OperatorCounters | None:
        """Those of one operator; None: no kernel of it was counted."""
        return next((each for each in self.profile.operators if each.operator == operator.value), None)

    def shares(self, operator: Operator) -> Shares | None:
        """The part of each word in an operator's stalls; None: they were not all counted."""
        found = self.of(operator)
        shares = {} if found is None else stall_shares(self.profile, found).by_word
        return {word: wide(share) for word, share in shares.items()} or None

    def shares_of_all(self) -> Shares | None:
        """The same of all operators, weighted by their time."""
        every = [(each.time_ns, stall_shares(self.profile, each).by_word) for each in self.profile.operators]
        known = [(time_ns, shares) for time_ns, shares in every if shares and time_ns]
        whole = sum(time_ns for time_ns, _ in known)
        if not whole:
            return None
        return {word: wide(sum(time_ns * shares[word] for time_ns, shares in known) / whole) for word in Word}

    def why_not(self, metric: str) -> str:
        """Why a metric, or all stall reasons, have no value."""
        named = [reason for name, reason in self.profile.missing.items() if metric in name]
        stalled = (stall_shares(self.profile, each).reason for each in self.profile.operators)
        return next(iter(named), None) or self.profile.reason or next(filter(None, stalled), "it was not counted")


def workloads(family: Family) -> list[tuple[Counted, Counted]]:
    """Prefill and decode of each workload that was counted in both, batch 1."""
    found = []
    for stored in family.trials:
        phases = {each.phase: Counted(stored, each) for each in stored.trial.counters if each.operators}
        if phases.keys() >= {Phase.PREFILL, Phase.DECODE} and _is_alone(stored):
            found.append((phases[Phase.PREFILL], phases[Phase.DECODE]))
    return found


def percent(counters: OperatorCounters | None, metric: str) -> Bounds | None:
    """A metric in percent, as a share."""
    value = None if counters is None else counters.values.get(metric)
    return None if value is None else wide(value / 100)


def wide(value: float) -> Bounds:
    """A counted value with what it may be off."""
    return Bounds(value, value * (1 - COUNTER_HALF_WIDTH), value * (1 + COUNTER_HALF_WIDTH))


def _is_alone(stored: StoredTrial) -> bool:
    work = stored.trial.work
    return work is not None and work.task.batch == 1
