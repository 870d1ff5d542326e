"""A comparison in the terminal: the result in words, a table for each piece of work, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from collector import numbers
from collector.comparison import ComparedGroup, Comparison, Verdict
from collector.report import words
from collector.report.layout import Line, Shown, WorkTable, table_of

STYLES = {Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.UNCLEAR: "dim", Verdict.UNLIKE: "yellow"}
_TITLE_WIDTH = 24
_GROUP_WIDTH = 28  # "0.557× [0.551, 0.562] better"


def show(comparison: Comparison, console: Console) -> None:
    """Print `comparison`; every text is plain, so that no label from a board is taken for markup."""
    for part in _parts(comparison, console.width):
        console.print(part)


def _parts(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    yield Text(comparison.heading, style="bold")
    for headline in comparison.headline:
        yield _indented(Text(headline.sentence))
    for mark in words.marks(comparison):
        yield _indented(Text(f"Mind: {mark}", style="yellow"))
    for work in comparison.works:
        yield from _work(table_of(work, short=True), comparison.groups, width)
    if comparison.works:
        yield from _conditions(comparison)
    if comparison.refused:
        yield Text("\nNot compared", style="bold")
        yield from (_indented(Text(f"{words.refused(entry)}: {entry.reason}")) for entry in comparison.refused)
    if comparison.works:
        yield Text(f"\n{words.baseline(comparison)} {comparison.method}", style="dim")


def _work(work: WorkTable, groups: Sequence[ComparedGroup], width: int) -> Iterator[RenderableType]:
    yield Text(f"\n{work.title}", style="bold")
    yield from (_indented(Text(f"Mind: {told}", style="yellow")) for told in work.unlike_scopes)
    for columns in _blocks(len(groups), width):
        yield _table(work, [groups[index] for index in columns], columns)
    for number, note in enumerate(work.notes, 1):
        yield _indented(Text(f"{number}) {note}", style="dim"))
    if work.not_available:
        yield _indented(Text(f"Not available: {'; '.join(work.not_available)}", style="dim"))
    if work.left_out:
        yield _indented(Text(work.left_out, style="dim"))


def _blocks(groups: int, width: int) -> list[list[int]]:
    """Columns of one table after another: the baseline, and as many others beside it as `width` holds."""
    beside = max(1, (width - _TITLE_WIDTH) // (_GROUP_WIDTH + 3) - 1)
    return [[0, *range(start, min(start + beside, groups))] for start in range(1, groups, beside)]


def _table(work: WorkTable, groups: Sequence[ComparedGroup], columns: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for column, group in zip(columns, groups, strict=True):
        trials = f"{group.trials} {'trial' if group.trials == 1 else 'trials'}"
        table.add_column(Text(f"{group.label}\n{trials}{', baseline' if column == 0 else ''}"))
    for section in work.sections:
        lines = [line for line in section.lines if _says_something(line, columns)]
        if lines:
            table.add_row(Text(section.title, style="bold"))
        for line in lines:
            table.add_row(_title(line), *(_cell(line.cells[column]) for column in columns))
        table.add_section()
    return table


def _says_something(line: Line, columns: Sequence[int]) -> bool:
    """Whether a metric has a value in these columns, or is one that no group has."""
    shown = {index for index, cell in enumerate(line.cells) if cell.value != numbers.MISSING}
    return not shown or not shown.isdisjoint(columns)


def _title(line: Line) -> Text:
    return Text.assemble("  ", line.title, (words.note_marks(line.marks), "dim"))


def _cell(cell: Shown) -> Text:
    beside = f" {cell.interval or cell.reason}" if cell.interval or cell.reason else ""
    text = Text.assemble((cell.value, "bold"), beside, (words.note_marks(cell.marks), "dim"))
    if cell.ratio:
        verdict = f" {cell.verdict.value}" if cell.verdict else ""
        text.append(f"\n{cell.ratio}{verdict}", style=STYLES[cell.verdict] if cell.verdict else "")
    return text


def _conditions(comparison: Comparison) -> Iterator[RenderableType]:
    yield Text("\nConditions that differ", style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", *(group.label for group in comparison.groups)):
        table.add_column(Text(name))
    for condition in comparison.conditions:
        if condition.differs:
            table.add_row(Text(condition.name), *(Text(value or "not stated") for value in condition.values))
    yield table
    yield Text(f"The same everywhere: {words.shared_conditions(comparison)}")


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))
