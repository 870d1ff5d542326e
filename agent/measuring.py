"""A suite, cell by cell: each finished cell is committed with its traces before the next one begins."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec
from msgspec import Struct

from agent.attempt import Finished, Plan
from agent.campaigns import Campaigns
from agent.cells import Suite
from agent.outbox import OutboxFull
from agent.runner import Runner
from agent.scopes import own_scope
from phasewatt.errors import RecordRejected
from phasewatt.metrics import METRICS, Context
from phasewatt.records import Outcome, Scope, Trial

_FULL_DISK_S = 10.0  # between attempts
_FIGURES = ("ttft", "tpot", "prefill_rate", "decode_rate", "decode_token_energy")


class Report(Struct, frozen=True, tag=True, kw_only=True):
    """Base of what is told while a suite runs."""


class Begun(Report, frozen=True):
    """A campaign began, or goes on with its missing cells."""

    campaign: str
    cells: int
    done_before: int


class Stage(Report, frozen=True):
    """What is being done now."""

    text: str


class CellBegun(Report, frozen=True):
    """A cell is next."""

    label: str


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


class Ended(Report, frozen=True):
    """All cells are done."""

    campaign: str


class Broken(Report, frozen=True):
    """The suite could not go on."""

    message: str
    exit_code: int


AnyReport = Begun | Stage | CellBegun | CellDone | Ended | Broken
Tell = Callable[[AnyReport], None]


def run_suite(
    suite: Suite, runner: Runner, campaigns: Campaigns, fresh: bool, tell: Tell, pause: Callable[[float], None]
) -> None:
    """Measure every cell of `suite` that its open campaign lacks; `fresh` begins a new campaign.

    Raises:
        Stopped: asked to end; what was finished is committed, and the next run goes on from there.
    """
    campaign = None if fresh else campaigns.open_campaign(suite.digest)
    campaign = campaign or campaigns.start_campaign(suite.digest)
    done = campaigns.cells_done(campaign)
    tell(Begun(campaign=campaign, cells=len(suite.cells), done_before=len(done)))
    plan = Plan(campaign, suite.name, suite.measure)
    for cell in suite.cells:
        if cell.label in done:
            continue
        tell(CellBegun(label=cell.label))
        finished = runner.run(cell, plan)
        _commit(finished, campaigns, tell, pause)
        tell(_summary(finished.trial))
    campaigns.close_campaign(campaign)
    tell(Ended(campaign=campaign))


def _commit(finished: Finished, campaigns: Campaigns, tell: Tell, pause: Callable[[float], None]) -> None:
    """Commit the trial with its traces; while the disk is full, hold on to them and try again."""
    trial = finished.trial
    while True:
        try:
            campaigns.commit_cell(trial.campaign, trial.cell, trial.outcome, [trial, *finished.traces])
        except OutboxFull as error:  # noqa: PERF203 - the loop is a retry
            tell(Stage(text=f"waiting to store the finished cell: {error}"))
            pause(_FULL_DISK_S)
        except RecordRejected as error:
            finished = _refused(trial, str(error))
            trial = finished.trial
        else:
            return


def _refused(trial: Trial, reason: str) -> Finished:
    """What can be stored of a trial that cannot be stored as it is: that it failed, and why."""
    failed = msgspec.structs.replace(
        trial, outcome=Outcome.FAILED, reason=reason, runs=(), energy=(), traces=(), memory=None
    )
    return Finished(failed, ())


def _summary(trial: Trial) -> CellDone:
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
    )
