"""`counters`: what the hardware did in each operator, as the study tells it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from collector.commands import table
from collector.commands.matching import matching
from collector.counted import CountedTrial, Lengths, counted
from collector.store import TrialQuery
from phasewatt.counter_tables import COLUMNS, STALL_WORDS, explained

if TYPE_CHECKING:
    from phasewatt.counter_tables import Change, Row

_NOTHING = "no trial here has counters; run `phasewatt-agent counters MODEL`, or a suite with --counters"
_HEADERS = ("OPERATOR", "KERNELS", "TIME us", "SHARE", *(column.title for column in COLUMNS))
_STALLS = ("MEM DEP", "EXEC DEP", "SYNC", "PIPE BUSY")
# What the study tells of a change: the figure, and its heading.
_TOLD = (
    *(("l2_hit", "L2 HIT"), ("dram", "DRAM"), ("issue", "ISSUE")),
    *((word.value, heading) for word, heading in zip(STALL_WORDS, _STALLS, strict=True)),
)


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
    elif not found.trials:
        print(_NOTHING)
    else:
        for trial in found.trials:
            _show_trial(trial)
        for lengths in found.lengths:
            _show_lengths(lengths)
    return 0


def _show_trial(trial: CountedTrial) -> None:
    from collector.conditions import printable

    marks = "".join(
        f", {mark}" for mark in ("simulated" * trial.simulated, trial.origin * (trial.origin != "store")) if mark
    )
    print()
    print(printable(f"{trial.device}, {trial.processor or 'processor not known'}: {trial.cell}{marks}"))
    for phase in trial.phases:
        if phase.rows:
            print(f"\n  {phase.phase.value}, {phase.kv_start} to {phase.kv_end} tokens in the cache")
            table.show((*_HEADERS, *_STALLS), map(_cells, phase.rows), "")
        for remark in _remarks(phase.reason, phase.rows):
            print(printable(f"  {phase.phase.value}: {remark}"))
    if trial.changes:
        print("\n  from prefill to decode")
        _show_changes(trial.changes)
    if trial.whole_phases:
        print(printable(f"  {trial.whole_phases_reason}"))
        rows = (
            (each.phase.value, each.source, f"{each.mean:.4g}", f"{each.lowest:.4g}", f"{each.highest:.4g}", each.unit)
            for each in trial.whole_phases
        )
        table.show(("PHASE", "READING", "MEAN", "LOWEST", "HIGHEST", "UNIT"), rows, "")


def _show_lengths(lengths: Lengths) -> None:
    what = f"{lengths.device}, {lengths.model} {lengths.dtype}, {lengths.phase.value}"
    print(f"\n{what}: from {lengths.short_tokens} prompt tokens (as in chat) to {lengths.long_tokens} (as in summary)")
    _show_changes(lengths.changes)


def _show_changes(changes: Iterable[Change]) -> None:
    by_operator: dict[str | None, dict[str, Change]] = {}
    for change in changes:
        by_operator.setdefault(change.operator, {})[change.figure] = change
    rows = (
        (operator or "(none)", *(_arrow(found.get(name)) for name, _ in _TOLD))
        for operator, found in by_operator.items()
    )
    table.show(("OPERATOR", *(heading for _, heading in _TOLD)), rows, "nothing is in both")


def _arrow(change: Change | None) -> str | None:
    return None if change is None else f"{change.before:.1%} -> {change.after:.1%}"


def _cells(row: Row) -> tuple[object, ...]:
    shown = (_figure(column.name, row.figures[column.name]) for column in COLUMNS)
    stalls = (None if word.value not in row.stalls else f"{row.stalls[word.value]:.1%}" for word in STALL_WORDS)
    return (
        row.operator or "(none)",
        row.kernels,
        f"{row.time_s * 1e6:,.1f}",
        f"{row.time_share:.1%}",
        *shown,
        *stalls,
    )


def _figure(name: str, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.0f}" if name == "registers" else f"{value:.1%}"


def _remarks(reason: str | None, rows: Sequence[Row]) -> list[str]:
    said = [reason] if reason else []
    said += [f"no stall shares: {row.reasons['stalls']}" for row in rows if "stalls" in row.reasons]
    said += filter(None, [explained(rows)])
    return list(dict.fromkeys(said))
