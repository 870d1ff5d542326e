"""The findings as one HTML file, and as a section of the report: no network, no script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from collector.conditions import printable
from collector.findings import Answer, Finding, Verdict
from collector.report import finding_words
from collector.report.finding_pictures import draw, in_words
from collector.report.page import page
from collector.report.picture import Picture, picture
from collector.report.sheets import Sheet

# Classes of the style sheet; the words say the same to who sees no colour.
_STYLES = {Verdict.HOLDS: "better", Verdict.DOES_NOT_HOLD: "worse", Verdict.NOT_ENOUGH_DATA: "unclear"}


class Shown(NamedTuple):
    """One finding as the page has it."""

    name: str  # of its place on the page
    finding: Finding
    line: tuple[str, ...]  # in the overview
    checks: Sheet
    picture: Picture | None
    has_place: bool  # else it is in the overview alone


class Section(NamedTuple):
    """One claim with all its findings."""

    number: int
    claim: str
    rule: str
    shown: list[Shown]


class AllShown(NamedTuple):
    """All findings as a page has them."""

    overview: Sheet
    sections: list[Section]
    remarks: Sequence[str]
    undecided: list[str]  # what would decide those that have no place of their own


def all_shown(answers: Sequence[Answer], remarks: Sequence[str], short: bool = False) -> AllShown:
    """The findings; where it is to be `short`, those of which nothing was measured have no place of their own."""
    sections = list(_sections(answers, short))
    undecided = finding_words.undecided(answers) if short else []
    return AllShown(finding_words.overview(answers), sections, remarks, undecided)


def render(source: str, answers: Sequence[Answer], remarks: Sequence[str], written_unix_s: float) -> str:
    """The page; everything that came from a board is escaped."""
    return page(
        "findings.html.j2",
        written_unix_s,
        filters=FILTERS,
        source=printable(source),
        findings=all_shown(answers, remarks),
    )


def _sections(answers: Iterable[Answer], short: bool) -> Iterator[Section]:
    found: dict[int, list[Answer]] = {}
    for answer in answers:
        found.setdefault(answer.finding.id, []).append(answer)
    for number, several in found.items():
        first = several[0].finding
        shown = [_shown(f"claim-{number}-{index}", answer, short) for index, answer in enumerate(several)]
        yield Section(number, first.claim, first.rule, shown)


def _shown(name: str, answer: Answer, short: bool) -> Shown:
    has_place = not short or finding_words.has_evidence(answer.finding)
    drawn = answer.picture if has_place else None
    shown = None if drawn is None else picture(draw(drawn), name, printable(drawn.title), printable(in_words(drawn)))
    finding = answer.finding
    return Shown(name, finding, finding_words.line(finding), finding_words.checks(finding), shown, has_place)


def with_code(text: str) -> Markup:
    """`text` escaped, with what stands in backticks as code."""
    parts = [escape(printable(part)) for part in text.split("`")]
    coded = [Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)]
    return Markup("").join(coded)


# Of the template of the section.
FILTERS: Mapping[str, Callable[..., str]] = {
    "printable": printable,
    "with_code": with_code,
    "worded": finding_words.WORDS.__getitem__,
    "styled": _STYLES.__getitem__,
}
