"""`trials`: what was measured, newest first."""

from __future__ import annotations

import argparse
import contextlib

import msgspec

from collector.commands import table
from collector.store import TrialQuery, open_store
from collector.trial_line import TrialLine, trial_line
from phasewatt.records import Outcome

_HEADERS = ("WHEN", "DEVICE", "MODEL", "ENGINE/MODE", "DTYPE", "ISL/OSL", "BATCH", "OUTCOME", "REASON", "SIMULATED")
_NOTHING = "no trial matches"


class Trials(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "trials/0"
    trials: list[TrialLine]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which trials."""
    for name in ("device", "suite", "campaign", "model", "engine"):
        parser.add_argument(f"--{name}", help=f"of this {name} only")
    parser.add_argument("--outcome", choices=[outcome.value for outcome in Outcome], help="that ended so only")
    parser.add_argument("--limit", type=_positive, metavar="N", help="the newest N only")


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
    with contextlib.closing(open_store(args.db)) as store:
        lines = [trial_line(stored) for stored in store.trials(query)]
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(Trials(trials=lines))).decode())
    else:
        table.show(_HEADERS, map(_cells, lines), _NOTHING)
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def _cells(trial: TrialLine) -> tuple[object, ...]:
    return (
        table.when(trial.started_unix_s),
        trial.device,
        trial.model,
        f"{trial.engine}/{trial.mode}",
        trial.dtype,
        None if trial.prompt_tokens is None else f"{trial.prompt_tokens}/{trial.output_tokens}",
        trial.batch,
        trial.outcome,
        trial.reason,
        "simulated" if trial.simulated else "",
    )
