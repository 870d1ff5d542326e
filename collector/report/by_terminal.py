"""A comparison by one condition in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from collector.by_condition import ByCondition
from collector.report import by_tables, words
from collector.report.by_tables import ByTable
from collector.report.layout import Shown
from collector.report.terminal import STYLES

_COLUMN_WIDTH, _TITLE_WIDTH = 31, 34


def show(by: ByCondition, console: Console) -> None:
    """Print it; every text is plain, so that no label from a board is taken for markup."""
    for part in _parts(by, console.width):
        console.print(part)


def _parts(by: ByCondition, width: int) -> Iterator[RenderableType]:
    yield Text(by.heading, style="bold")
    for stratum in by.strata:
        yield Text(f"\n{stratum.device}", style="bold")
        yield _indented(f"The same everywhere: {words.shared_conditions(stratum.comparison)}", "dim")
        yield from (_indented(line) for line in by_tables.result(stratum))
        yield from (_indented(f"Mind: {mark}", "yellow") for mark in words.marks(stratum.comparison))
        for table in by_tables.tables_of(by, stratum):
            yield from _tables(table, width)
        yield _conditions(by_tables.differing(stratum), stratum.values)
    yield from (Text(line, style="dim") for line in by_tables.lines_of(by))
    yield Text(f"\n{by.strata[0].comparison.method}", style="dim")


def _tables(by: ByTable, width: int) -> Iterator[RenderableType]:
    """The baseline beside as many other values as fit, table after table."""
    beside = max(1, (width - _TITLE_WIDTH) // _COLUMN_WIDTH - 1)
    yield Text(f"\n{by.title}", style="bold")
    for start in range(1, len(by.columns), beside):
        yield _table(by, [0, *range(start, min(start + beside, len(by.columns)))])
    for number, note in enumerate(by.table.notes, 1):
        yield _indented(f"{number}) {note}", "dim")


def _table(by: ByTable, columns: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(Text(by.columns[column] + ("\nbaseline" if column == 0 else "")))
    for section in by.table.sections:
        table.add_row(Text(section.title, style="bold"))
        for line in section.lines:
            title = Text.assemble("  ", line.title, (words.note_marks(line.marks), "dim"))
            table.add_row(title, *(_cell(line.cells[column]) for column in columns))
        table.add_section()
    return table


def _cell(cell: Shown) -> Text:
    beside = f" {cell.interval or cell.reason}" if cell.interval or cell.reason else ""
    text = Text.assemble((cell.value, "bold"), beside, (words.note_marks(cell.marks), "dim"))
    if cell.ratio:
        text.append(
            f"\n{cell.ratio}{f' {cell.verdict.value}' if cell.verdict else ''}",
            style=STYLES[cell.verdict] if cell.verdict else "",
        )
    return text


def _conditions(differing: Sequence[tuple[str, tuple[str, ...]]], values: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Conditions that differ", title_justify="left")
    for name in ("", *values):
        table.add_column(Text(name))
    for name, told in differing:
        table.add_row(Text(name), *map(Text, told))
    return table


def _indented(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style=style), (0, 0, 0, 2))
