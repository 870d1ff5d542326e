"""Counters on the terminal: one table a phase."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from phasewatt import counter_tables
from phasewatt.counter_tables import COLUMNS, STALL_WORDS, Row
from phasewatt.profiles import CounterProfile

_PIPED_COLUMNS = 200
_TITLES = {"memory dependency": "MEM DEP", "execution dependency": "EXEC DEP", "synchronisation": "SYNC"}


def show(title: str, profiles: Iterable[CounterProfile], reason: str | None) -> None:
    """Print the profiles of one workload; what a phase lacks stands below it."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_COLUMNS)
    console.print(Text(title, style="bold"))
    if reason is not None:
        console.print(Text(f"  not counted: {reason}"))
    for profile in profiles:
        rows = counter_tables.rows(profile)
        if rows:
            console.print(Text(f"\n{profile.phase.value}, {profile.kv_start} to {profile.kv_end} tokens in the cache"))
            console.print(_table(rows))
        for remark in dict.fromkeys(remarks(profile, rows)):
            console.print(Text(f"  {profile.phase.value}: {remark}"))
    console.print()


def remarks(profile: CounterProfile, rows: Sequence[Row]) -> list[str]:
    """What a reader must know beside the table."""
    said = [profile.reason] if profile.reason else []
    said += [f"no {name}: {why}" for row in rows for name, why in row.reasons.items() if name == "stalls"]
    said += filter(None, [counter_tables.explained(rows)])
    lacking = [
        column.title.upper() for column in COLUMNS if rows and all(row.figures[column.name] is None for row in rows)
    ]
    if lacking:
        said.append(f"not counted: {', '.join(lacking)}")
    return said


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("OPERATOR")
    for heading in (
        "KERNELS",
        "TIME",
        "SHARE",
        *(column.title.upper() for column in COLUMNS),
        *map(_heading, STALL_WORDS),
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.operator or "(none)",
            str(row.kernels),
            f"{row.time_s * 1e6:,.1f} us",
            f"{row.time_share:.1%}",
            *(_figure(column.name, row.figures[column.name]) for column in COLUMNS),
            *(_share(row.stalls.get(word.value)) for word in STALL_WORDS),
        )
    return table


def _heading(word: object) -> str:
    name = getattr(word, "value", str(word))
    return _TITLES.get(name, name.upper())


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if name == "registers" else f"{value:.1%}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
