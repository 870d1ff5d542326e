"""Markdown has the tables of the page: the same headings over the same lines, and as many of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from typing import NamedTuple

import pytest

from collector.by_condition import By, compare_by
from collector.compare import compare
from collector.report import by_html, by_markdown, html, markdown
from tests.fixtures.trials import GPU, MODULE, PACKAGE, conditions, failed, measured, work

WRITTEN_UNIX_S = 1.76e9
BESIDE = " (baseline)"  # of the first column in Markdown; the page has it in a line below the name


class Table(NamedTuple):
    """The headings of a table, and the beginning of each of its lines."""

    headings: tuple[str, ...]
    lines: tuple[str, ...]


class Tables(HTMLParser):
    """The tables of a page: only what stands in a cell itself, not in the small print below it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[list[str]] = []
        self.lines: list[list[str]] = []
        self._into: list[str] | None = None
        self._small = 0
        self.feed(page)

    def tables(self) -> list[Table]:
        pairs = zip(self.headings, self.lines, strict=True)
        return [Table(tuple(map(str.strip, head)), tuple(map(str.strip, lines))) for head, lines in pairs]

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.headings.append([])
            self.lines.append([])
        into = {"col": self.headings, "row": self.lines}.get(dict(attrs).get("scope") or "")
        if tag == "th" and into is not None:
            self._into = into[-1]
            self._into.append("")
        self._small += self._into is not None and tag in {"span", "sup"}

    def handle_endtag(self, tag: str) -> None:
        if tag == "th":
            self._into = None
        self._small -= self._into is not None and tag in {"span", "sup"}

    def handle_data(self, data: str) -> None:
        if self._into is not None and not self._small:
            self._into[-1] += data


def of_markdown(text: str) -> list[Table]:
    found = re.findall(r"^(\|.+\|)\n\|(?: --- \|)+\n((?:\|.+\|\n?)*)", text, re.MULTILINE)
    return [Table(cells(head), tuple(cells(line)[0] for line in lines.splitlines())) for head, lines in found]


def cells(line: str) -> tuple[str, ...]:
    inner = re.split(r"(?<!\\)\|", line)[1:-1]
    plain = [re.sub(r"\\(.)", r"\1", cell).strip() for cell in inner]
    return tuple(re.sub(r"(?: \d+\))+$", "", cell).removesuffix(BESIDE) for cell in plain)  # without marks of notes


def fleet() -> tuple[str, str]:
    under = [conditions(mode=mode, accelerator="cuda") for mode in ("eager", "graph")]
    trials = [
        *(measured("dgx", done=work(batch=4), under=each, sensors=[GPU, PACKAGE]) for each in under),
        *(measured("dgx", under=each, sensors=[GPU, PACKAGE]) for each in under),
        measured("orin", under=under[0], slowness=6, sensors=[MODULE], repetitions=30),
    ]
    comparison = compare([*(each.stored for each in trials), failed("gamma")])
    return html.render(comparison, [], WRITTEN_UNIX_S), markdown.render(comparison)


def without_sensor() -> tuple[str, str]:
    comparison = compare([measured("alpha").stored, measured("beta").stored])
    return html.render(comparison, [], WRITTEN_UNIX_S), markdown.render(comparison)


def by_condition() -> tuple[str, str]:
    trials = [
        measured("orin", under=conditions(power_mode=mode), slowness=slowness, sensors=[MODULE])
        for mode, slowness in (("MAXN", 1), ("30W", 2), ("15W", 3))
    ]
    by = compare_by([each.stored for each in trials], By.POWER_MODE)
    return by_html.render(by, WRITTEN_UNIX_S), by_markdown.render(by)


@pytest.mark.parametrize("both", [fleet, without_sensor, by_condition])
def test_markdown_has_the_tables_of_the_page(both: Callable[[], tuple[str, str]]) -> None:
    page, text = both()
    shown = sorted(Tables(page).tables())
    written = sorted(of_markdown(text))
    assert len(shown) >= 2
    assert [table.headings for table in written] == [table.headings for table in shown]
    for mine, other in zip(written, shown, strict=True):
        assert len(mine.lines) == len(other.lines)
        assert all(line.startswith(beginning) for line, beginning in zip(mine.lines, other.lines, strict=True))


def test_the_report_of_a_fleet_has_every_sort_of_table() -> None:
    """Else the test above would pass over tables that are in neither form."""
    page, _ = fleet()
    firsts = {table.headings[0] for table in Tables(page).tables()}
    assert firsts == {"Metric", "Time, group and work", "Group", "Condition"}
