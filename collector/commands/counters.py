"""`counters`: what the hardware did in each operator, as the study tells it."""

from __future__ import annotations

import argparse

import msgspec

from collector.commands import table
from collector.commands.matching import matching
from collector.counted import CountedTrial, Lengths, counted
from collector.store import TrialQuery


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "counters/0"
    trials: tuple[CountedTrial, ...]
    lengths: tuple[Lengths, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which trials."""
    for name in ("device", "suite", "campaign", "model"):
        parser.add_argument(f"--{name}", help=f"of this {name} only")
    parser.add_argument("--reference", action="store_true", help="the trials that come with phasewatt instead")


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    query = TrialQuery(device=args.device, suite=args.suite, campaign=args.campaign, model=args.model)
    found = counted(matching(args.db, query, args.reference))
    if args.json:
        answer = Answer(trials=found.trials, lengths=found.lengths)
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return 0
    from collector.report import counter_words

    if not found.trials:
        print(counter_words.NOTHING)
    else:
        for part in counter_words.parts(found):
            print()
            table.show_part(part)
    return 0
