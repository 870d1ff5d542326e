"""A comparison by one condition as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from collector.by_condition import ByCondition
from collector.report import by_tables, words
from collector.report.by_tables import ByTable
from collector.report.markdown import cell_text, plain, table_lines


def render(by: ByCondition) -> str:
    """The whole of it as one document."""
    return "\n".join(_lines(by)).strip() + "\n"


def _lines(by: ByCondition) -> Iterator[str]:
    yield f"# {plain(by.heading)}\n"
    for stratum in by.strata:
        yield f"\n## {plain(stratum.device)}\n"
        yield f"The same everywhere: {plain(words.shared_conditions(stratum.comparison))}.\n"
        yield from (f"- {plain(line)}" for line in by_tables.result(stratum))
        yield from (f"- Mind: {plain(mark)}" for mark in words.marks(stratum.comparison))
        for table in by_tables.tables_of(by, stratum):
            yield from _table(table)
        yield "\n### Conditions that differ\n"
        yield from table_lines(
            ("Condition", *stratum.values), [[name, *told] for name, told in by_tables.differing(stratum)]
        )
    yield ""
    yield from (f"- {plain(line)}" for line in by_tables.lines_of(by))
    yield f"\n## Method\n\n{plain(by.strata[0].comparison.method)}"


def _table(by: ByTable) -> Iterator[str]:
    yield f"\n### {plain(by.title)}\n"
    rows = [
        [f"{line.title}{words.note_marks(line.marks)}", *map(cell_text, line.cells)]
        for section in by.table.sections
        for line in section.lines
    ]
    yield from table_lines(("Metric", f"{by.columns[0]} (baseline)", *by.columns[1:]), rows)
    yield ""
    yield from (f"{number}) {plain(note)}" for number, note in enumerate(by.table.notes, 1))
