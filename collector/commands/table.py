"""A list on the terminal."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from collector.conditions import printable

if TYPE_CHECKING:
    from collector.report.sheets import Part, Sheet

_PIPED_COLUMNS = 240  # wide enough that nothing is cut where no person looks


def show(headers: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> None:
    """Print `rows` under `headers`, a missing value as a dash; without rows, say `nothing`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_COLUMNS)
    table = Table(*headers, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text("-" if cell is None else printable(str(cell))) for cell in row))
    if table.row_count:
        console.print(table)
    else:
        print(nothing)


def show_part(part: Part) -> None:
    """Print all tables of `part` below its title."""
    print(part.title)
    if part.remark:
        print(part.remark)
    for sheet in part.sheets:
        print(f"\n{sheet.heading}")
        show_sheet(sheet)


def show_sheet(sheet: Sheet) -> None:
    """Print the rows of `sheet`, if it has any, and its notes."""
    if sheet.rows:
        show([header.upper() for header in sheet.headers], sheet.rows, "")
    for note in sheet.notes:
        print(f"  {note}")


def when(unix_s: float | None) -> str | None:
    """A wall-clock label in local time, to the second."""
    if unix_s is None:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(unix_s, datetime.timezone.utc).astimezone()
    except (OverflowError, ValueError, OSError):  # a board may send any number
        return f"{unix_s:g}"
    return moment.strftime("%Y-%m-%d %H:%M:%S")
