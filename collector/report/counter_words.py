"""Hardware counters as texts, which terminal, Markdown and HTML all show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from collector import numbers
from collector.conditions import printable
from collector.counted import Counted, CountedPhase, CountedTrial, Lengths
from collector.report.roofline_words import operator_name
from collector.report.sheets import Part, Sheet
from phasewatt.counter_tables import COLUMNS, STALL_WORDS, Change, Row, explained
from phasewatt.records import PhaseReading

NOTHING = "no trial here has counters; run `phasewatt-agent counters MODEL`, or a suite with --counters"
_STALLS = ("Mem dep", "Exec dep", "Sync", "Pipe busy")
_ROW_HEADERS = ("Operator", "Kernels", "Time", "Share", *(column.title for column in COLUMNS))
_STALL_HEADERS = ("Operator", *_STALLS)
# What the study tells of a change: the figure, and its heading.
_TOLD = (
    *(("l2_hit", "L2 hit"), ("dram", "DRAM"), ("issue", "Issue")),
    *((word.value, heading) for word, heading in zip(STALL_WORDS, _STALLS, strict=True)),
)
_CHANGE_HEADERS = ("Operator", *(heading for _, heading in _TOLD))
_READING_HEADERS = ("Phase", "Reading", "Mean", "Lowest", "Highest")
_NO_OPERATOR = "(none)"


def parts(counted: Counted) -> Iterator[Part]:
    """Each trial with its phases, then short prompts beside long ones."""
    for trial in counted.trials:
        yield Part(_title(trial), printable(trial.whole_phases_reason or ""), tuple(_sheets(trial)))
    for lengths in counted.lengths:
        yield Part(_lengths(lengths), "", (_changes("from short to long", lengths.changes),))


def _title(trial: CountedTrial) -> str:
    marks = "".join(
        f", {mark}" for mark in ("simulated" * trial.simulated, trial.origin * (trial.origin != "store")) if mark
    )
    return printable(f"{trial.device}, {trial.processor or 'processor not known'}: {trial.cell}{marks}")


def _lengths(lengths: Lengths) -> str:
    what = f"{lengths.device}, {lengths.model} {lengths.dtype}, {lengths.phase.value}"
    prompts = f"from {lengths.short_tokens} prompt tokens (as in chat) to {lengths.long_tokens} (as in summary)"
    return printable(f"{what}: {prompts}")


def _sheets(trial: CountedTrial) -> Iterator[Sheet]:
    for phase in trial.phases:
        title = f"{phase.phase.value}, {phase.kv_start} to {phase.kv_end} tokens in the cache"
        yield Sheet(title, _ROW_HEADERS, tuple(map(_row, phase.rows)), notes=tuple(_remarks(phase)))
        if any(row.stalls for row in phase.rows):
            rows = tuple(map(_stalls, phase.rows))
            yield Sheet(f"{phase.phase.value}: what warps waited for", _STALL_HEADERS, rows)
    if trial.changes:
        yield _changes("from prefill to decode", trial.changes)
    if trial.whole_phases:
        yield Sheet("whole phases", _READING_HEADERS, tuple(map(_reading, trial.whole_phases)))


def _reading(each: PhaseReading) -> tuple[str, ...]:
    values = (numbers.quantity(value, each.unit) for value in (each.mean, each.lowest, each.highest))
    return printable(each.phase.value), printable(each.source), *map(printable, values)


def _remarks(phase: CountedPhase) -> Sequence[str]:
    said = [phase.reason] if phase.reason else []
    said += [f"no stall shares: {row.reasons['stalls']}" for row in phase.rows if "stalls" in row.reasons]
    said += filter(None, [explained(phase.rows)])
    return [printable(f"{phase.phase.value}: {each}") for each in dict.fromkeys(said)]


def _row(row: Row) -> tuple[str, ...]:
    return (
        _operator(row.operator),
        str(row.kernels),
        numbers.quantity(row.time_s, "s"),
        f"{row.time_share:.1%}",
        *(_figure(column.name, row.figures[column.name]) for column in COLUMNS),
    )


def _stalls(row: Row) -> tuple[str, ...]:
    return _operator(row.operator), *(_figure(word.value, row.stalls.get(word.value)) for word in STALL_WORDS)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return numbers.MISSING
    return f"{value:.0f}" if name == "registers" else f"{value:.1%}"


def _changes(title: str, changes: Iterable[Change]) -> Sheet:
    by_operator: dict[str | None, dict[str, Change]] = {}
    for change in changes:
        by_operator.setdefault(change.operator, {})[change.figure] = change
    rows = tuple(
        (_operator(operator), *(_arrow(found.get(name)) for name, _ in _TOLD))
        for operator, found in by_operator.items()
    )
    return Sheet(title, _CHANGE_HEADERS, rows, notes=() if rows else ("no operator is in both",))


def _operator(name: str | None) -> str:
    return _NO_OPERATOR if name is None else operator_name(name)


def _arrow(change: Change | None) -> str:
    return numbers.MISSING if change is None else f"{change.before:.1%} → {change.after:.1%}"
