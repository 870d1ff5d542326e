"""A comparison by one condition as one HTML file: no network, no script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from collector import numbers
from collector.by_condition import ByCondition, Stratum
from collector.comparison import Cell, Comparison, Row
from collector.report import by_tables, words
from collector.report.html import bar_pictures
from collector.report.page import page
from collector.report.picture import Picture
from collector.scopes import NEAREST

_TIMES = ("ttft", "tpot", "decode_rate")
_ENERGIES = ("decode_token_energy", "request_energy")
_BESIDE_BASELINE = 4  # columns in one table: what fits on paper


def render(by: ByCondition, written_unix_s: float) -> str:
    """The whole of it as one document; everything that came from a board is escaped."""
    return page(
        "by.html.j2",
        written_unix_s,
        by=by,
        tables=by_tables,
        pictures=[list(_pictures(index, stratum)) for index, stratum in enumerate(by.strata)],
        blocks=[_blocks(len(stratum.values)) for stratum in by.strata],
        words=words,
        missing=numbers.MISSING,
        method=by.strata[0].comparison.method,
    )


def _blocks(columns: int) -> list[list[int]]:
    return [[0, *range(start, min(start + _BESIDE_BASELINE, columns))] for start in range(1, columns, _BESIDE_BASELINE)]


def _pictures(index: int, stratum: Stratum) -> Iterator[Picture]:
    """Bars named by the values of the condition, of times and of energies on the nearest scope."""
    named = _renamed(stratum.comparison, stratum.values)
    rows = [row for work in named.works for row in work.rows if row.metric in _ENERGIES and _has_value(row)]
    scopes = [scope for scope in NEAREST if any(row.scope is scope for row in rows)][:1]
    yield from bar_pictures(named, _TIMES, [(None, None)], f"s{index}-")
    yield from bar_pictures(named, _ENERGIES, [(scope, None) for scope in scopes], f"s{index}-")


def _has_value(row: Row) -> bool:
    return any(cell.value is not None for cell in row.cells)


def _renamed(comparison: Comparison, values: Sequence[str]) -> Comparison:
    """`comparison` with its groups called by their values."""
    groups = tuple(msgspec.structs.replace(g, label=v) for g, v in zip(comparison.groups, values, strict=True))
    works = tuple(
        msgspec.structs.replace(work, rows=tuple(_renamed_row(row, values) for row in work.rows))
        for work in comparison.works
    )
    return msgspec.structs.replace(comparison, groups=groups, works=works)


def _renamed_row(row: Row, values: Sequence[str]) -> Row:
    cells: tuple[Cell, ...] = tuple(
        msgspec.structs.replace(cell, group=value) for cell, value in zip(row.cells, values, strict=True)
    )
    return msgspec.structs.replace(row, cells=cells)
