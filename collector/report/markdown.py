"""A comparison as Markdown: the same numbers as everywhere else, in tables that any forge renders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from collector.comparison import ComparedWork, Comparison
from collector.report import metering, roofline_words, tails, words
from collector.report.layout import Shown, WorkTable, table_of
from collector.rooflines import Rooflines, TrialRoofline

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")


def render(comparison: Comparison, profiled: Rooflines | None = None) -> str:
    """The whole comparison as one Markdown document; `profiled` trials get a section of their own."""
    return "\n".join(_lines(comparison, profiled)).strip() + "\n"


def _lines(comparison: Comparison, profiled: Rooflines | None) -> Iterator[str]:
    yield f"# {plain(comparison.heading)}\n"
    yield from (f"- {plain(headline.sentence)}" for headline in comparison.headline)
    yield from (f"- Mind: {plain(mark)}" for mark in words.marks(comparison))
    for work in comparison.works:
        yield from _work(table_of(work), [group.label for group in comparison.groups])
        yield from _metering(work)
    yield from _distributions(comparison)
    if profiled is not None and profiled.trials:
        yield "\n## Where the time goes\n"
        for each in profiled.trials:
            yield from _operators(each)
    if comparison.works:
        yield from _conditions(comparison)
    if comparison.refused:
        yield "\n## Not compared\n"
        yield from (f"- {plain(words.refused(entry))}: {plain(entry.reason)}" for entry in comparison.refused)
    if comparison.works:
        yield "\n## Method\n"
        yield f"{plain(words.baseline(comparison))} {plain(comparison.method)}"


def _work(work: WorkTable, labels: Sequence[str]) -> Iterator[str]:
    yield f"\n## {plain(work.title)}\n"
    yield from (f"Mind: {plain(told)}\n" for told in work.unlike_scopes)
    yield from table_lines(
        ("Metric", f"{labels[0]} (baseline)", *labels[1:]),
        (
            [f"{line.title}{words.note_marks(line.marks)}", *map(cell_text, line.cells)]
            for section in work.sections
            for line in section.lines
        ),
    )
    yield ""
    yield from (f"{number}) {plain(note)}" for number, note in enumerate(work.notes, 1))
    if work.not_available:
        yield "\nNot available here:\n"
        yield from (f"- {plain(absent)}" for absent in work.not_available)


def _metering(work: ComparedWork) -> Iterator[str]:
    if work.metering:
        yield "\n### What the energy rests on\n"
        yield from table_lines(metering.HEADERS, map(metering.line, work.metering))


def _operators(each: TrialRoofline) -> Iterator[str]:
    yield f"\n### {plain(each.title)}\n"
    yield plain(roofline_words.ceilings(each.peaks))
    for table in roofline_words.tables(each):
        yield f"\n{plain(table.title)}{plain(f': {table.summary}') if table.summary else ''}\n"
        if table.rows:
            yield from table_lines(roofline_words.HEADERS, table.rows)
            yield ""
        yield from (f"- {plain(note)}" for note in table.notes)


def _distributions(comparison: Comparison) -> Iterator[str]:
    found = list(tails.tails(comparison))
    if found:
        yield f"\n## {tails.TITLE}\n"
        rows = ([f"{tail.metric}; {tail.group}; {tail.work}", *tail.texts] for tail in found)
        yield from table_lines((tails.FIRST_HEADER, *tails.HEADERS), rows)


def cell_text(cell: Shown) -> str:
    """A cell of a table, with its ratio and marks."""
    verdict = f" {cell.verdict.value}" if cell.verdict else ""
    beside = f"; {cell.ratio}{verdict}" if cell.ratio else ""
    return f"{cell.value} {cell.interval or cell.reason}".strip() + beside + words.note_marks(cell.marks)


def _conditions(comparison: Comparison) -> Iterator[str]:
    yield "\n## Conditions\n"
    shown = [condition for condition in comparison.conditions if condition.differs or condition.observed]
    rows = ([condition.name, *(value or "not stated" for value in condition.values)] for condition in shown)
    yield from table_lines(("Condition", *(group.label for group in comparison.groups)), rows)
    yield f"\nThe same everywhere: {plain(words.shared_conditions(comparison))}."


def table_lines(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table; texts are escaped."""
    yield _table_line(headers)
    yield f"| {' | '.join('---' for _ in headers)} |"
    yield from (_table_line(row) for row in rows)


def _table_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(plain(cell) for cell in cells)} |"


def plain(text: str) -> str:
    """`text` with everything escaped that Markdown or HTML in it would take for markup."""
    return _SPECIAL.sub(r"\\\1", text)
