"""The findings as one HTML file: no network, no script, readable on a phone, on paper, in light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from collector import numbers
from collector.conditions import printable
from collector.findings import Answer, Check, Finding, Verdict
from collector.report.finding_pictures import draw, in_words
from collector.report.html import Picture, picture
from collector.report.page import page

WORDS = {
    Verdict.HOLDS: "holds",
    Verdict.DOES_NOT_HOLD: "does not hold",
    Verdict.NOT_ENOUGH_DATA: "not enough data",
}
# Classes of the style sheet; the words say the same to who sees no colour
STYLES = {Verdict.HOLDS: "better", Verdict.DOES_NOT_HOLD: "worse", Verdict.NOT_ENOUGH_DATA: "unclear"}


class Shown(NamedTuple):
    """One finding as the page has it."""

    name: str  # of its place on the page
    finding: Finding
    checks: list[tuple[Check, str, str]]  # with its value and interval, and its threshold, in words
    picture: Picture | None


class Section(NamedTuple):
    """One claim with all its findings."""

    number: int
    claim: str
    brief: str
    rule: str
    shown: list[Shown]


def render(source: str, answers: Sequence[Answer], remarks: Sequence[str], written_unix_s: float) -> str:
    """The page; everything that came from a board is escaped."""
    return page(
        "findings.html.j2",
        written_unix_s,
        filters={"printable": printable, "with_code": with_code},
        source=printable(source),
        sections=list(_sections(answers)),
        devices=list(dict.fromkeys(answer.finding.device or "-" for answer in answers)),
        remarks=remarks,
        words=WORDS,
        styles=STYLES,
    )


def _sections(answers: Iterable[Answer]) -> Iterator[Section]:
    found: dict[int, list[Answer]] = {}
    for answer in answers:
        found.setdefault(answer.finding.id, []).append(answer)
    for number, several in found.items():
        first = several[0].finding
        shown = [_shown(f"claim-{number}-{index}", answer) for index, answer in enumerate(several)]
        yield Section(number, first.claim, first.brief, first.rule, shown)


def _shown(name: str, answer: Answer) -> Shown:
    drawn = answer.picture
    checks = [(check, measured(check), threshold(check)) for check in answer.finding.checks]
    shown = None if drawn is None else picture(draw(drawn), name, printable(drawn.title), printable(in_words(drawn)))
    return Shown(name, answer.finding, checks, shown)


def measured(check: Check) -> str:
    """The value of a check with its interval, such as "12.3 % [11.9, 12.8]"."""
    if check.value is None:
        return numbers.MISSING
    scale = numbers.scale_of(check.value, check.unit)
    told = numbers.quantity(check.value, check.unit).strip()
    if check.low is None or check.high is None or check.low == check.high:
        return told
    low, high = (numbers.significant(end / scale.divisor) for end in (check.low, check.high))
    return f"{told} [{low}, {high}]"


def threshold(check: Check) -> str:
    """Where its whole interval is asked to lie, such as "above 50.0 %"."""
    if check.side is None or check.threshold is None:
        return numbers.MISSING
    told = f"{check.side.value} {numbers.quantity(check.threshold, check.unit)}"
    return (told if check.upper is None else f"{told} to {numbers.quantity(check.upper, check.unit)}").strip()


def with_code(text: str) -> Markup:
    """`text` escaped, with what stands in backticks as code."""
    parts = [escape(printable(part)) for part in text.split("`")]
    coded = [Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)]
    return Markup("").join(coded)
