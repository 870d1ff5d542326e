"""The study's tables from counters: prefill against decode by operator, a short prompt against a long one. Pure.

Shares and rates are 0 to 1; a figure that is None says why in `reasons`, under the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from msgspec import Struct

from phasewatt import counter_metrics
from phasewatt.fields import Phase
from phasewatt.profiles import CounterProfile, OperatorCounters
from phasewatt.stall_words import Word, stall_shares

_PERCENT = 1e-2


class Column(NamedTuple):
    """A figure of the tables."""

    name: str
    title: str
    metric: str
    factor: float = 1.0


COLUMNS = (
    Column("dram", "DRAM", counter_metrics.DRAM_BUSY, _PERCENT),
    Column("sm", "SM", counter_metrics.SM_BUSY, _PERCENT),
    Column("l2_hit", "L2 hit", counter_metrics.L2_HITS, _PERCENT),
    Column("l1_hit", "L1 hit", counter_metrics.L1_HITS, _PERCENT),
    Column("issue", "Issue", counter_metrics.ISSUE_BUSY, _PERCENT),
    Column("tensor", "Tensor", counter_metrics.TENSOR_BUSY, _PERCENT),
    Column("occupancy", "Warps", counter_metrics.OCCUPANCY, _PERCENT),
    Column("occupancy_limit", "Of most", counter_metrics.OCCUPANCY_LIMIT, _PERCENT),
    Column("registers", "Registers", counter_metrics.REGISTERS),
)
STALL_WORDS = (
    Word.MEMORY_DEPENDENCY,
    Word.EXECUTION_DEPENDENCY,
    Word.SYNCHRONISATION,
    Word.PIPE_BUSY,
)


class Row(Struct, frozen=True, kw_only=True):
    """One operator in one phase."""

    phase: Phase
    operator: str | None  # None: kernels of no operator
    kernels: int
    time_s: float
    time_share: float  # of the phase's counted kernels
    figures: Mapping[str, float | None]  # by the names of `COLUMNS`
    stalls: Mapping[str, float]  # shares of all stall cycles, by the study's words; empty: see reasons
    explained: float | None  # part of all waiting that these cycles account for; None: no shares, or it was not counted
    reasons: Mapping[str, str]


class Change(Struct, frozen=True, kw_only=True):
    """One figure of one operator under two circumstances."""

    operator: str | None
    figure: str
    before: float
    after: float


def rows(profile: CounterProfile) -> tuple[Row, ...]:
    """The rows of one profile, in the order of the operators."""
    total_ns = sum(operator.time_ns for operator in profile.operators) or 1
    return tuple(_row(profile, operator, total_ns) for operator in profile.operators)


def changes(before: Iterable[Row], after: Iterable[Row]) -> tuple[Change, ...]:
    """Every figure that both have, by operator: of a prefill and a decode, or of one workload and another."""
    later = {row.operator: _flat(row) for row in after}
    found = []
    for row in before:
        theirs = later.get(row.operator, {})
        mine = _flat(row)
        found += [
            Change(operator=row.operator, figure=name, before=value, after=theirs[name])
            for name, value in mine.items()
            if name in theirs
        ]
    return tuple(found)


def overall(profile: CounterProfile) -> Mapping[str, float | None]:
    """Each figure of the whole phase: means over its operators by their time."""
    counted = rows(profile)
    return {column.name: _mean(counted, column.name) for column in COLUMNS}


def explained(counted: Iterable[Row]) -> str | None:
    """How much of all waiting the reasons of stalls account for, in words; None: there are no shares of stalls.

    Counted in passes of their own, so that above 100 % is possible, and the more so the shorter an operator is.
    """
    shown = [row for row in counted if row.stalls]
    known = [(row.explained, row) for row in shown if row.explained is not None]
    if not known:
        return "how much of all waiting the stall reasons cover was not counted" if shown else None
    mean = sum(part * row.time_s for part, row in known) / (sum(row.time_s for _, row in known) or 1)
    (lowest, low), (highest, high) = (choose(known, key=itemgetter(0)) for choose in (min, max))
    lacking = f"; of {len(shown) - len(known)} operators it was not counted" if len(known) < len(shown) else ""
    return (
        f"the stall reasons cover {mean:.1%} of all waiting, from {lowest:.1%} in {low.operator or 'none'} "
        f"to {highest:.1%} in {high.operator or 'none'}{lacking}"
    )


def _row(profile: CounterProfile, operator: OperatorCounters, total_ns: int) -> Row:
    values = {column.name: _scaled(operator.values.get(column.metric), column.factor) for column in COLUMNS}
    reasons = {
        column.name: profile.missing.get(column.metric, "no kernel of this operator has a value")
        for column in COLUMNS
        if values[column.name] is None
    }
    shares = stall_shares(profile, operator)
    if shares.reason is not None:
        reasons["stalls"] = shares.reason
    return Row(
        phase=profile.phase,
        operator=operator.operator,
        kernels=operator.kernels,
        time_s=operator.time_ns * 1e-9,
        time_share=operator.time_ns / total_ns,
        figures=values,
        stalls={word.value: share for word, share in shares.by_word.items()},
        explained=shares.explained,
        reasons=reasons,
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _flat(row: Row) -> dict[str, float]:
    figures = {name: value for name, value in row.figures.items() if value is not None}
    return {**figures, **row.stalls, "time_share": row.time_share}


def _mean(counted: Sequence[Row], name: str) -> float | None:
    weighed = [(row.time_s, value) for row in counted if (value := row.figures[name]) is not None]
    total_s = sum(time_s for time_s, _ in weighed)
    return sum(time_s * value for time_s, value in weighed) / total_s if total_s else None
