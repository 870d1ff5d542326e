"""`trials`: what was measured, newest first."""

from __future__ import annotations

import argparse

import msgspec

from collector.commands import flags, table
from collector.commands.matching import matching
from collector.store import TrialQuery
from collector.stored import StoredTrial
from collector.trial_line import TrialLine, trial_line
from phasewatt.conditions import Conditions
from phasewatt.fields import Outcome
from phasewatt.profiles import Ceiling
from phasewatt.records import Imported, PhaseEnergy, PhaseReading

_HEADERS = (
    "WHEN",
    "DEVICE",
    "MODEL",
    "ENGINE/MODE",
    "PROCESSOR",
    "DTYPE",
    "ISL/OSL",
    "BATCH",
    "OUTCOME",
    "ENERGY",
    "DOUBTS",
    "REASON",
    "MARKS",
)
_NOTHING = "no trial matches"


class ListedTrial(TrialLine, frozen=True, kw_only=True):
    """A trial with how it was run, and the verdicts on its energy as the board gave them."""

    origin: str
    conditions: Conditions
    energy: tuple[PhaseEnergy, ...]
    energy_reason: str | None
    readings: tuple[PhaseReading, ...]
    imported: Imported | None
    ceilings: tuple[Ceiling, ...] = ()  # of a trial that measured them


class Trials(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "trials/0"
    trials: list[ListedTrial]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which trials."""
    for name in ("device", "suite", "campaign", "model", "engine"):
        parser.add_argument(f"--{name}", help=f"of this {name} only")
    parser.add_argument("--outcome", choices=[outcome.value for outcome in Outcome], help="that ended so only")
    parser.add_argument("--limit", type=flags.positive, metavar="N", help="the newest N only")
    parser.add_argument("--reference", action="store_true", help="the trials that come with phasewatt instead")


def run(args: argparse.Namespace) -> int:
    """Print the trials that match."""
    query = TrialQuery(
        device=args.device,
        suite=args.suite,
        campaign=args.campaign,
        model=args.model,
        engine=args.engine,
        outcome=Outcome(args.outcome) if args.outcome else None,
        limit=args.limit,
    )
    lines = [_listed(stored) for stored in matching(args.db, query, args.reference)]
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(Trials(trials=lines))).decode())
    else:
        table.show(_HEADERS, map(_cells, lines), _NOTHING)
    return 0


def _listed(stored: StoredTrial) -> ListedTrial:
    trial = stored.trial
    return ListedTrial(
        **msgspec.structs.asdict(trial_line(stored)),
        origin=stored.origin,
        conditions=trial.conditions,
        energy=trial.energy,
        energy_reason=trial.energy_reason,
        readings=trial.readings,
        imported=trial.imported,
        ceilings=trial.ceilings,
    )


def _cells(trial: ListedTrial) -> tuple[object, ...]:
    marks = (
        "simulated" if trial.simulated else "",
        "reference" if trial.origin == "reference" else "",
        f"{len(trial.ceilings)} ceilings of this host" if trial.ceilings else "",
        f"imported from {trial.imported.tool}, how it was run is not known" if trial.imported else "",
    )
    return (
        table.when(trial.started_unix_s),
        trial.device,
        trial.model,
        f"{trial.engine}/{trial.mode}",
        trial.processor,
        trial.dtype,
        None if trial.prompt_tokens is None else f"{trial.prompt_tokens}/{_known(trial.output_tokens)}",
        trial.batch,
        trial.outcome,
        _scopes(trial),
        ", ".join(dict.fromkeys(doubt.partition(":")[0] for energy in trial.energy for doubt in energy.doubts)),
        trial.reason,
        ", ".join(mark for mark in marks if mark),
    )


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def _scopes(trial: ListedTrial) -> str | None:
    """The scopes that have energy; None where there is none."""
    return ", ".join(dict.fromkeys(e.scope.value for e in trial.energy if e.energy_j is not None)) or None
