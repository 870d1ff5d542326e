"""A suite, cell by cell: each finished cell is committed with its traces before the next one begins."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from agent import ceilings
from agent.attempt import Finished, Plan
from agent.campaigns import Campaigns
from agent.cells import Suite
from agent.counters import beside
from agent.outbox import OutboxFull
from agent.pace import Pace, in_words
from agent.runner import Runner
from agent.sequence import Turn, sequence
from agent.stopping import Until
from phasewatt import course, optimum
from phasewatt.errors import RecordRejected, Stopped
from phasewatt.fields import Outcome, Scope
from phasewatt.metrics import METRICS, Context
from phasewatt.profiles import Ceiling
from phasewatt.records import Trial
from phasewatt.scopes import own_scope

_FULL_DISK_S = 10.0  # between attempts
_FIGURES = ("ttft", "tpot", "prefill_rate", "decode_rate", "decode_token_energy", "request_token_energy")


class Report(Struct, frozen=True, tag=True, kw_only=True):
    """Base of what is told while a suite runs."""


class Begun(Report, frozen=True):
    """A campaign began, or goes on with its missing cells."""

    campaign: str
    cells: int
    done_before: int
    seed: int | None = None  # of the order
    left_s: float | None = None  # expected; None: not estimated


class Stage(Report, frozen=True):
    """What is being done now."""

    text: str


class CellBegun(Report, frozen=True):
    """A cell is next."""

    label: str
    repeat: int = 1
    left_s: float | None = None  # expected of all that is left, this one included


class CellDone(Report, frozen=True):
    """A cell is finished and committed."""

    label: str
    outcome: Outcome
    reason: str | None
    simulated: bool
    scope: Scope | None  # of the energy figure
    figures: dict[str, float | None]  # medians of a few metrics, for a first look
    energy_reason: str | None
    marks: tuple[str, ...]
    repeat: int = 1
    took_s: float | None = None  # without loading the model
    notes: tuple[str, ...] = ()  # how it went over time, where it was watched; what could not be counted


class CeilingsDone(Report, frozen=True):
    """The ceilings of this host are measured and committed, or could not be had."""

    outcome: Outcome
    reason: str | None
    processor: str | None
    simulated: bool
    ceilings: tuple[Ceiling, ...]
    asked: bool  # for themselves, by a suite without cells: without them nothing was measured


class Ended(Report, frozen=True):
    """All cells are done."""

    campaign: str
    optima: tuple[str, ...] = ()  # of what was swept, in words


class OutOfTime(Report, frozen=True):
    """The slice is over, or nothing that is left fits into it; the next run goes on with the rest."""

    campaign: str
    left: int  # cells
    left_s: float  # expected
    message: str


class Broken(Report, frozen=True):
    """The suite could not go on."""

    message: str
    exit_code: int


AnyReport = Begun | Stage | CellBegun | CellDone | CeilingsDone | Ended | OutOfTime | Broken
Tell = Callable[[AnyReport], None]


class Means(NamedTuple):
    """What a suite is run by."""

    runner: Runner
    campaigns: Campaigns
    pace: Pace
    tell: Tell
    pause: Callable[[float], None]
    until: Until | None = None  # None: as long as it takes


def run_suite(suite: Suite, fresh: bool, means: Means) -> None:
    """Measure every turn of `suite` that its open campaign lacks; `fresh` begins a new campaign.

    With `until`, no cell begins that would not end in time, and one that is not done by then is dropped.

    Raises:
        Stopped: asked to end; what was finished is committed, and the next run goes on from there.
    """
    campaigns = means.campaigns
    campaign = None if fresh else campaigns.open_campaign(suite.digest)
    campaign = campaign or campaigns.start_campaign(suite.digest)
    turns = sequence(suite)
    done = campaigns.cells_done(campaign)
    missing = [turn for turn in turns if turn.name not in done]
    due_s = ceilings.seconds(suite) if ceilings.CELL not in done else 0.0
    left_s = due_s + means.pace.left_s(missing, ())
    means.tell(
        Begun(campaign=campaign, cells=len(turns), done_before=len(done), seed=suite.seed, left_s=round(left_s, 1))
    )
    if suite.measure.ceilings and ceilings.CELL not in done:
        _run_ceilings(suite, Plan(campaign, suite.name, suite.measure), means)
    if not _run_turns(missing, Plan(campaign, suite.name, suite.measure, seed=suite.seed), means):
        return
    campaigns.close_campaign(campaign)
    means.tell(Ended(campaign=campaign, optima=_optima(suite, campaigns, campaign)))


def _run_ceilings(suite: Suite, plan: Plan, means: Means) -> None:
    """Measure and commit them; what has no time for them goes without.

    Raises:
        Stopped: asked to end.
    """
    if means.until is not None and means.until.left_s < ceilings.seconds(suite):
        return
    cell = suite.alone or ceilings.basis(suite.cells)
    try:
        finished = means.runner.ceilings(cell, plan, whole=not suite.cells)
        trial = _committed(finished, ceilings.CELL, means).trial
    except Stopped:
        if means.until is None or not means.until.is_over:
            raise
        return
    means.tell(
        CeilingsDone(
            outcome=trial.outcome,
            reason=trial.reason,
            processor=trial.conditions.processor,
            simulated=trial.conditions.simulated,
            ceilings=trial.ceilings,
            asked=not suite.cells,
        )
    )


def _optima(suite: Suite, campaigns: Campaigns, campaign: str) -> tuple[str, ...]:
    """The optimum of each sweep over batches, of all runs of the campaign, in words."""
    if len({cell.batch for cell in suite.cells}) < 2:
        return ()
    found = optimum.sweeps(campaigns.trials_of(campaign))
    return tuple(f"{sweep.title}: {line}" for sweep in found for line in optimum.in_words(sweep))


def _run_turns(missing: Sequence[Turn], plan: Plan, means: Means) -> bool:
    """Whether all of the turns could be run in time."""
    left = list(missing)
    loaded: tuple[str, ...] = ()
    while left:
        turn = _next(left, loaded, means)
        if turn is None:
            _tell_out_of_time(left, plan.campaign, means)
            return False
        left_s = round(means.pace.left_s(left, loaded), 1)
        means.tell(CellBegun(label=turn.cell.label, repeat=turn.repeat, left_s=left_s))
        done = _run_turn(turn, plan, means)
        if done is None:
            _tell_out_of_time(left, plan.campaign, means)
            return False
        loaded = turn.cell.load_key if done.outcome is Outcome.OK else ()
        left.remove(turn)
    return True


def _next(left: Sequence[Turn], loaded: tuple[str, ...], means: Means) -> Turn | None:
    """The next turn, of those that end in time."""
    if means.until is None:
        return left[0]
    left_s = means.until.left_s
    return next((turn for turn in left if means.pace.needed_s(turn.cell, loaded) <= left_s), None)


def _run_turn(turn: Turn, plan: Plan, means: Means) -> CellDone | None:
    """One turn, measured and committed; None: the time was over before it ended.

    Raises:
        Stopped: asked to end.
    """
    began_ns = time.monotonic_ns()
    try:
        finished = means.runner.run(turn.cell, plan._replace(repeat=turn.repeat, place=turn.place))
        took_s = (time.monotonic_ns() - began_ns) * 1e-9 - finished.loading_s
        finished = _committed(finished, turn.name, means)
    except Stopped:
        if means.until is None or not means.until.is_over:
            raise
        means.pace.took(turn.cell, (time.monotonic_ns() - began_ns) * 1e-9, whole=False)
        return None
    if finished.trial.outcome is Outcome.OK:
        means.pace.took(turn.cell, took_s, finished.loading_s)
    done = _summary(finished, round(took_s, 1))
    means.tell(done)
    return done


def _tell_out_of_time(left: Sequence[Turn], campaign: str, means: Means) -> None:
    shortest_s = min(means.pace.needed_s(turn.cell, ()) for turn in left)
    left_s = means.pace.left_s(left, ())
    message = (
        f"time is up: {len(left)} cells are left, {in_words(left_s)} in all; "
        f"the shortest needs {in_words(shortest_s)} with its load and a margin"
    )
    means.tell(OutOfTime(campaign=campaign, left=len(left), left_s=round(left_s, 1), message=message))


def _committed(finished: Finished, name: str, means: Means) -> Finished:
    """The trial as it was committed with its traces; while the disk is full, hold on to them and try again."""
    while True:
        trial = finished.trial
        try:
            means.campaigns.commit_cell(trial.campaign, name, trial.outcome, [trial, *finished.traces])
        except OutboxFull as error:
            means.tell(Stage(text=f"waiting to store the finished cell: {error}"))
            means.pause(_FULL_DISK_S)
        except RecordRejected as error:
            finished = _refused(trial, str(error))
        else:
            return finished


def _refused(trial: Trial, reason: str) -> Finished:
    """What can be stored of a trial that cannot be stored as it is: that it failed, and why."""
    failed = msgspec.structs.replace(
        trial, outcome=Outcome.FAILED, reason=reason, runs=(), energy=(), traces=(), memory=None, counters=()
    )
    return Finished(failed, ())


def _summary(finished: Finished, took_s: float) -> CellDone:
    trial = finished.trial
    scope = own_scope(trial.conditions.accelerator, {energy.scope for energy in trial.energy})
    read = {name: METRICS[name].of(trial, Context(scope=scope)) for name in _FIGURES}
    return CellDone(
        scope=scope,
        label=trial.cell,
        outcome=trial.outcome,
        reason=trial.reason,
        simulated=trial.conditions.simulated,
        figures={name: statistics.median(found.values) if found.values else None for name, found in read.items()},
        energy_reason=read["decode_token_energy"].reason if trial.outcome is Outcome.OK else None,
        marks=trial.conditions.marks,
        repeat=trial.repeat,
        took_s=took_s,
        notes=(*course.in_words(trial, finished.traces), *beside.lacks(trial.counters)),
    )
