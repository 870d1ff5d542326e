"""The records that come of a report: counters by phase and operator, with what they lack. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agent.counters.report import Kernel, Report
from phasewatt import counter_metrics
from phasewatt.counter_metrics import METRICS, TIME
from phasewatt.fields import Phase
from phasewatt.operators import Operator
from phasewatt.profiles import CounterProfile, OperatorCounters
from phasewatt.stall_words import NO_SUCH

TOOL = "ncu"
_LONGEST = 4096  # of a reason
_LONGEST_LABEL = 256
_OPERATORS = {operator.value: operator for operator in Operator}
_PHASES = {phase.value: phase for phase in (Phase.PREFILL, Phase.DECODE)}


class Depths(NamedTuple):
    """Tokens in the cache of a sequence when a phase starts and when it ends."""

    start: int
    end: int


class Circumstances(NamedTuple):
    """What is known of a pass beside its report."""

    tool_version: str | None
    capability: str | None  # None: as the report says
    asked: tuple[str, ...]  # counters
    depths: Mapping[Phase, Depths]
    lacking: Mapping[str, str] = {}  # counters that were not asked for, and why
    notes: tuple[str, ...] = ()  # what a reader of the figures must know


def depths_of(prompt_tokens: int) -> Mapping[Phase, Depths]:
    """The depths of a pass: a prefill of the prompt, then one decode step."""
    return {Phase.PREFILL: Depths(0, prompt_tokens), Phase.DECODE: Depths(prompt_tokens, prompt_tokens + 1)}


def profiles(report: Report, known: Circumstances) -> tuple[CounterProfile, ...]:
    """One profile a phase, also where there is nothing to show but the reason."""
    by_phase: dict[Phase | None, list[Kernel]] = defaultdict(list)
    for kernel in report.kernels:
        by_phase[phase_of(kernel)].append(kernel)
    outside = len(by_phase.get(None, ()))
    said = (*known.notes, *report.problems, *([f"{outside} kernels were in no phase"] if outside else []))
    return tuple(_profile(phase, by_phase.get(phase, []), report, known._replace(notes=said)) for phase in known.depths)


def without(phases: Iterable[Phase], known: Circumstances, reason: str) -> tuple[CounterProfile, ...]:
    """Profiles that say why there is nothing."""
    return tuple(_empty(phase, known, reason) for phase in phases)


def phase_of(kernel: Kernel) -> Phase | None:
    """The phase whose range a kernel ran in."""
    names = (name.partition(".")[0] for name in kernel.ranges)
    return next((_PHASES[name] for name in names if name in _PHASES), None)


def operator_of(kernel: Kernel) -> Operator | None:
    """The operator whose range was innermost; None: the report does not tell, or of a name that is not ours."""
    named = [name.partition(".") for name in kernel.ranges]
    return next((_OPERATORS.get(tail) for head, dot, tail in reversed(named) if dot and head in _PHASES), None)


def _profile(phase: Phase, kernels: Sequence[Kernel], report: Report, known: Circumstances) -> CounterProfile:
    timed = [kernel for kernel in kernels if kernel.values.get(TIME)]
    if not timed:
        why = f"no kernel of {phase.value} is in the report" if not kernels else f"no kernel has its time ({TIME})"
        return _empty(phase, known, "; ".join([why, *known.notes]))
    by_operator: dict[Operator | None, list[Kernel]] = defaultdict(list)
    for kernel in timed:
        by_operator[operator_of(kernel)].append(kernel)
    places = [*Operator, None]
    found = [(place, by_operator[place]) for place in places if place in by_operator]
    notes = list(known.notes)
    if len(timed) < len(kernels):
        notes.append(f"{len(kernels) - len(timed)} of {len(kernels)} kernels have no time, and were left out")
    notes += _impossible(timed)
    if set(by_operator) == {None}:
        notes.append("no operator is marked in the report")
    return CounterProfile(
        phase=phase,
        tool=TOOL,
        tool_version=known.tool_version,
        compute_capability=known.capability or next((each.capability for each in timed if each.capability), None),
        kv_start=known.depths[phase].start,
        kv_end=known.depths[phase].end,
        repetitions=1,
        operators=tuple(_operator(place, several) for place, several in found),
        units={name[:_LONGEST_LABEL]: unit[:_LONGEST_LABEL] for name, unit in report.units.items() if name in METRICS},
        missing=_missing(timed, report, known),
        reason="; ".join(dict.fromkeys(notes))[:_LONGEST] or None,
    )


def _empty(phase: Phase, known: Circumstances, reason: str) -> CounterProfile:
    return CounterProfile(
        phase=phase,
        tool=TOOL,
        tool_version=known.tool_version,
        compute_capability=known.capability,
        kv_start=known.depths[phase].start,
        kv_end=known.depths[phase].end,
        repetitions=0,
        reason=reason[:_LONGEST],
    )


def _operator(operator: Operator | None, kernels: Sequence[Kernel]) -> OperatorCounters:
    named = {name: mean_or_total(name, kernels) for name in METRICS}
    return OperatorCounters(
        operator=None if operator is None else operator.value,
        kernels=len(kernels),
        time_ns=round(math.fsum(kernel.values[TIME] for kernel in kernels)),
        values={name: value for name, value in named.items() if value is not None},
    )


def mean_or_total(name: str, kernels: Sequence[Kernel]) -> float | None:
    """A counter over several kernels: summed, or the mean weighted by what the counter is a ratio of.

    Weighted by time where that was not counted. None: no kernel has a value that can be, or none of any weight.
    """
    metric = METRICS[name]
    valued = [kernel for kernel in kernels if name in kernel.values and is_possible(name, kernel.values[name])]
    if not valued:
        return None
    if metric.total:
        return math.fsum(kernel.values[name] for kernel in valued) if len(valued) == len(kernels) else None
    weight = metric.weight if any(metric.weight in kernel.values for kernel in valued) else TIME
    weighed = [(kernel.values.get(weight, 0.0), kernel.values[name]) for kernel in valued]
    total = math.fsum(share for share, _ in weighed)
    return math.fsum(share * value for share, value in weighed) / total if total > 0 else None


def is_possible(name: str, value: float) -> bool:
    """Whether a counter can have that value: of the lookups in a cache no more than all can hit.

    ncu counts hits and lookups in passes of their own, and of a kernel that hardly asks they need not agree: an H200
    gave up to 233 % for kernels of 2 us.
    """
    return "hit_rate" not in name or value <= 100


def _impossible(kernels: Sequence[Kernel]) -> list[str]:
    total_ns = math.fsum(kernel.values[TIME] for kernel in kernels)
    said = []
    for name in METRICS:
        odd = [kernel for kernel in kernels if name in kernel.values and not is_possible(name, kernel.values[name])]
        if odd:
            share = math.fsum(kernel.values[TIME] for kernel in odd) / total_ns
            said.append(
                f"{name}: above 100 % in {len(odd)} of {len(kernels)} kernels ({share:.1%} of their time), left out"
            )
    return said


def _missing(kernels: Sequence[Kernel], report: Report, known: Circumstances) -> dict[str, str]:
    """Every counter that has no value, and why."""
    present = {name for kernel in kernels for name in kernel.values}
    absent = {name for kernel in kernels for name in kernel.absent}
    reasons: dict[str, str] = dict(known.lacking)
    for name in known.asked:
        if name in present:
            continue
        if name in report.unknown or counter_metrics.base_of(name) in report.unknown:
            reasons[name] = NO_SUCH
        elif name in absent:
            reasons[name] = f"no value (n/a) in any of {len(kernels)} kernels"
        else:
            reasons[name] = "not in the report"
    return reasons
