"""A comparison as Markdown: the same numbers as everywhere else, in tables that any forge renders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from collector.comparison import ComparedWork, Comparison
from collector.report import (
    counter_words,
    finding_words,
    metering,
    prediction_words,
    roofline_words,
    tails,
    words,
)
from collector.report.chapters import Chapters
from collector.report.layout import Shown, WorkTable, table_of
from collector.report.sheets import Part, Sheet

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")


def render(comparison: Comparison, chapters: Chapters | None = None) -> str:
    """The whole comparison as one Markdown document, and the `chapters` beside it, if there are any."""
    return "\n".join(_lines(comparison, chapters)).strip() + "\n"


def _lines(comparison: Comparison, chapters: Chapters | None) -> Iterator[str]:
    yield f"# {plain(comparison.heading)}\n"
    yield from (f"- {plain(headline.sentence)}" for headline in comparison.headline)
    yield from (f"- Mind: {plain(mark)}" for mark in words.marks(comparison))
    for work in comparison.works:
        yield from _work(table_of(work), [group.label for group in comparison.groups])
        yield from _metering(work)
    yield from _distributions(comparison)
    if chapters is not None:
        yield from _chapters(chapters)
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


def _chapters(chapters: Chapters) -> Iterator[str]:
    rooflines = chapters.rooflines
    operators = [roofline_words.part(each) for each in rooflines.trials]
    absent = [f"Not profiled: {line}" for line in roofline_words.absent(rooflines)]
    yield from _chapter("Where the time goes", operators, absent)
    counters = list(counter_words.parts(chapters.counted))
    yield from _chapter("Hardware counters", counters, [] if counters else [counter_words.NOTHING])
    prediction = prediction_words.part(chapters.held_out, chapters.fits)
    yield from _chapter("Predictions", [prediction] if prediction.sheets else [], [])
    yield from _findings(chapters)


def _chapter(title: str, parts: Sequence[Part], remarks: Sequence[str]) -> Iterator[str]:
    if parts or remarks:
        yield f"\n## {title}\n"
        for part in parts:
            yield f"\n### {plain(part.title)}\n"
            yield plain(part.remark)
            for sheet in part.sheets:
                yield from _sheet(sheet)
        yield from (f"- {plain(remark)}" for remark in remarks)


def _sheet(sheet: Sheet) -> Iterator[str]:
    yield f"\n{plain(sheet.heading)}\n"
    if sheet.rows:
        yield from table_lines(sheet.headers, sheet.rows)
        yield ""
    yield from (f"- {plain(note)}" for note in sheet.notes)


def _findings(chapters: Chapters) -> Iterator[str]:
    yield "\n## Which claims hold here?\n"
    yield from (f"- Mind: {plain(remark)}" for remark in chapters.remarks)
    yield from _sheet(finding_words.overview(chapters.answers))
    yield from (f"- {plain(line)}" for line in finding_words.undecided(chapters.answers))
    for finding in (answer.finding for answer in chapters.answers):
        if finding_words.has_evidence(finding):
            yield f"\n### Claim {finding.id}, {plain(finding.device or 'no device')}\n"
            yield plain(finding.claim)
            yield from _sheet(finding_words.checks(finding))
            yield from (f"- {plain(line)}" for line in finding_words.notes(finding))


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
