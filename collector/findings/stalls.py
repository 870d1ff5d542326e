"""Hardware counters of one phase in the study's words: stall reasons, hit rates, throughputs, by operator. Pure.

The study's words are those of an older profiler. Source of what they are today: the table "Metric Comparison" in
NVIDIA's Nsight Compute CLI documentation (nvprof transition guide), compute capability 7.0 and later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from collector.findings.bounds import Bounds
from collector.findings.families import Family
from collector.stored import StoredTrial
from phasewatt.fields import Phase
from phasewatt.operators import Operator
from phasewatt.profiles import CounterProfile, OperatorCounters

WORDS: Mapping[str, tuple[str, ...]] = {
    "memory dependency": ("long_scoreboard",),
    "execution dependency": ("wait", "short_scoreboard"),
    "synchronisation": ("barrier", "membar"),
    "pipe busy": ("math_pipe_throttle", "mio_throttle", "gmma"),  # gmma: the tensor pipe of warp groups, since 9.0
    "memory throttle": ("drain", "lg_throttle"),
    "constant memory dependency": ("imc_miss",),
    "instruction fetch": ("no_instruction", "branch_resolve"),
    "not selected": ("not_selected",),
    "texture": ("tex_throttle",),
    "other": ("sleeping", "dispatch_stall", "misc"),
}
_NEEDED = frozenset(
    {"long_scoreboard", "wait", "barrier", "math_pipe_throttle"}
)  # one of each word: without it, no share
_STALL = re.compile(r"issue_stalled_([a-z_]+?)_(?:per_issue_active|per_warp_active|warp_active|issue_active)\b")
_NO_STALL = frozenset({"selected"})
L2_HIT = "lts__t_sector_hit_rate.pct"
DRAM = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
COUNTER_HALF_WIDTH = 0.05  # relative. A counter is of one replay of each kernel, and shows no spread of its own


class Counted(NamedTuple):
    """The counters of one phase of one trial."""

    stored: StoredTrial
    profile: CounterProfile

    def of(self, operator: Operator) -> OperatorCounters | None:
        """Those of one operator; None: no kernel of it was counted."""
        return next((each for each in self.profile.operators if each.operator == operator.value), None)

    def why_not(self, metric: str) -> str:
        """Why a metric has no value."""
        named = [reason for name, reason in self.profile.missing.items() if metric in name]
        return named[0] if named else self.profile.reason or "it was not counted"


def counted(family: Family) -> list[tuple[Counted, Counted]]:
    """Prefill and decode of each workload that was counted in both, batch 1."""
    found = []
    for stored in family.trials:
        phases = {each.phase: Counted(stored, each) for each in stored.trial.counters if each.operators}
        if phases.keys() >= {Phase.PREFILL, Phase.DECODE} and _is_alone(stored):
            found.append((phases[Phase.PREFILL], phases[Phase.DECODE]))
    return found


def shares(counters: OperatorCounters | None) -> Mapping[str, Bounds] | None:
    """The part of each of the study's words in all stalls of an operator; None: reasons are missing."""
    reasons = {} if counters is None else _reasons(counters.values)
    whole = sum(reasons.values())
    if not reasons.keys() >= _NEEDED or whole <= 0:
        return None
    return {word: _wide(sum(reasons.get(each, 0.0) for each in mine) / whole) for word, mine in WORDS.items()}


def together(several: Iterable[OperatorCounters]) -> Mapping[str, Bounds] | None:
    """The same over all operators, weighted by their time."""
    every = [(each.time_ns, found) for each in several if (found := shares(each)) is not None]
    whole = sum(time for time, _ in every)
    if not whole:
        return None
    return {word: _wide(sum(time * found[word].value for time, found in every) / whole) for word in WORDS}


def percent(counters: OperatorCounters | None, metric: str) -> Bounds | None:
    """A metric in percent, as a share."""
    value = None if counters is None else counters.values.get(metric)
    return None if value is None else _wide(value / 100)


def _wide(value: float) -> Bounds:
    return Bounds(value, value * (1 - COUNTER_HALF_WIDTH), value * (1 + COUNTER_HALF_WIDTH))


def _reasons(values: Mapping[str, float]) -> dict[str, float]:
    found = {match[1]: value for name, value in values.items() if (match := _STALL.search(name))}
    return {reason: value for reason, value in found.items() if reason not in _NO_STALL}


def _is_alone(stored: StoredTrial) -> bool:
    work = stored.trial.work
    return work is not None and work.task.batch == 1
