"""The result of a comparison: frozen records that every way of showing it reads, JSON included (docs/json.md)."""

from __future__ import annotations

import enum

from collector.pairing import Across, Refused
from phasewatt.fields import Phase, Reading, Record, Scope
from phasewatt.metrics import Better
from phasewatt.work import Work


class Verdict(enum.Enum):
    """How a group does beside the baseline, where the metric has a better direction."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "unclear"  # the interval of the ratio holds 1, there is none, or a phase never settled
    UNLIKE = "unlike"  # the two figures are of unlike scopes, and no ratio of them says which is better


class Cell(Record, frozen=True):
    """One metric of one piece of work on one group: a value, or None with the reason."""

    group: str
    value: float | None  # median over trials
    reason: str | None
    scope: Scope | None = None  # what a power figure covers
    low: float | None = None  # interval; None where a single value states no uncertainty
    high: float | None = None
    quartiles: tuple[float, float] | None = None  # of all repetitions
    percentiles: dict[str, float] | None = None  # of metrics that are a distribution
    spread: float | None = None  # of all repetitions: interquartile range over the median
    trials: int = 0
    repetitions: int = 0
    gain_uncertainty: float | None = None  # relative, of the power sensor; not in the interval
    ratio: float | None = None  # to the baseline
    ratio_low: float | None = None
    ratio_high: float | None = None
    ratio_reason: str | None = None
    ratio_gain_uncertainty: float | None = None  # relative, not in its interval; 0: one sensor, so that it cancels
    verdict: Verdict | None = None
    settled: bool = True  # False: the phase never reached steady state, so that its repetitions are no fair sample
    note: str | None = None  # what weakens this value
    doubts: tuple[str, ...] = ()  # of its energy: it stands, and a reader must know


class Row(Record, frozen=True):
    """One metric with a cell for each group in order, of one power scope where it has scopes.

    A row with `beside` sets the baseline on `scope` beside others on another scope, because a user asked for it.
    """

    metric: str
    unit: str
    better: Better
    formula: str
    phase: Phase | None
    scope: Scope | None
    cells: tuple[Cell, ...]
    beside: Scope | None = None


class Unavailable(Record, frozen=True):
    """A metric that no group has for this work, with the reasons."""

    metric: str
    scope: Scope | None
    reasons: tuple[str, ...]


class UnlikeScopes(Record, frozen=True):
    """A group that was metered on no scope of the baseline."""

    group: str
    baseline_scopes: tuple[Scope, ...]
    scopes: tuple[Scope, ...]
    compared: tuple[Scope, Scope] | None  # the nearest, the baseline's first, where a user asked for it
    told: str  # all of this in words


class Metering(Record, frozen=True):
    """What the energy of one phase and scope in one group rests on: the worst of its trials in each respect."""

    group: str
    phase: Phase
    scope: Scope
    trials: int
    reading: Reading
    sources: tuple[str, ...]
    rails: tuple[str, ...]
    shortest_window_s: float
    fewest_updates: int
    longest_gap_s: float | None
    temporal_uncertainty: float | None  # relative half-width
    gain_uncertainty: float | None  # relative half-width
    calibrated: bool  # in every trial
    check_reading: Reading | None  # of the same scope and window; None: there was no other
    check_sources: tuple[str, ...]
    check_ratio: tuple[float, float] | None  # its energy over the one shown: lowest, highest
    check_reasons: tuple[str, ...]  # why a cross-check gave no energy
    doubts: tuple[str, ...]
    reasons: tuple[str, ...]  # why trials have no energy here
    window_reasons: tuple[str, ...]  # why windows are longer than asked for


class ComparedWork(Record, frozen=True):
    """One piece of work that at least two groups did."""

    work_id: str  # task_id in a comparison across dtype, weights or engine
    title: str
    work: Work  # of the first trial, where representations may differ
    cells: tuple[str, ...]  # suite/cell names under which it was run
    trials: dict[str, tuple[str, ...]]  # group label -> record ids, oldest first
    rows: tuple[Row, ...]
    not_available: tuple[Unavailable, ...]
    unlike_scopes: tuple[UnlikeScopes, ...]
    metering: tuple[Metering, ...]


class ComparedGroup(Record, frozen=True):
    """Trials of one device under one set of settings."""

    label: str
    device: str
    reference: bool
    simulated: bool
    settings: dict[str, str | None]
    trials: int
    differs_in: tuple[str, ...]  # names of conditions that are not the baseline's


class Condition(Record, frozen=True):
    """One condition over all groups: a setting, or what was observed, as a range over a group's trials."""

    name: str
    observed: bool
    differs: bool
    values: tuple[str | None, ...]  # one a group, in order; None: not stated


class Fact(Record, frozen=True):
    """How a group does beside the baseline in one respect, over all works."""

    subject: str  # "prefill"
    result: str  # "1.80 times as fast [1.78, 1.83]"
    verdict: Verdict | None


class Headline(Record, frozen=True):
    """The result for one group in a sentence, and the facts that it is made of."""

    group: str
    sentence: str
    facts: tuple[Fact, ...]
    remark: str | None  # what could not be compared


class Comparison(Record, frozen=True, kw_only=True):
    """Everything that is said about a set of trials. Groups, cells and condition values share one order."""

    schema: str = "compare/1"  # of the JSON form, see docs/json.md
    heading: str
    headline: tuple[Headline, ...]
    across: Across | None
    unlike_scopes: bool  # whether the nearest of unlike scopes are compared too
    baseline: str | None  # label; None: nothing could be compared
    baseline_rule: str  # why this group
    groups: tuple[ComparedGroup, ...]
    conditions: tuple[Condition, ...]
    works: tuple[ComparedWork, ...]
    refused: tuple[Refused, ...]
    method: str
