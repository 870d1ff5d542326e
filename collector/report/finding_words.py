"""Findings as texts, which HTML and Markdown both show."""

from __future__ import annotations

from collections.abc import Iterable

from collector import numbers
from collector.conditions import printable
from collector.findings import Answer, Check, Finding, Verdict
from collector.report.sheets import Sheet

WORDS = {
    Verdict.HOLDS: "holds",
    Verdict.DOES_NOT_HOLD: "does not hold",
    Verdict.NOT_ENOUGH_DATA: "not enough data",
}
_OVERVIEW = ("Claim", "Device", "Verdict", "Figure")
_CHECKS = ("Part", "Verdict", "Measured", "Holds if")
_NO_FIGURE = "none: see what is missing"


def overview(answers: Iterable[Answer]) -> Sheet:
    """A line for each claim and device."""
    return Sheet("Verdicts", _OVERVIEW, tuple(line(answer.finding) for answer in answers))


def line(finding: Finding) -> tuple[str, ...]:
    """One claim on one device, as the overview has it."""
    claim, figure = f"{finding.id}. {finding.brief}", printable(finding.figure or _NO_FIGURE)
    return claim, finding.device or "none", WORDS[finding.verdict], figure


def checks(finding: Finding) -> Sheet:
    """The parts of a claim, with what was measured and what is asked."""
    rows = ((check.says, WORDS[check.verdict], _measured(check), _threshold(check)) for check in finding.checks)
    return Sheet("Parts of the claim", _CHECKS, tuple(rows))


def notes(finding: Finding) -> list[str]:
    """Whose trials decided, what is missing, and what weakens it."""
    rests_on = ", by ".join(filter(None, (finding.group, finding.basis)))
    return [
        *([f"From {printable(rests_on)}"] if rests_on else []),
        *(f"Missing: {missing}" for missing in finding.missing),
        *map(printable, finding.remarks),
    ]


def has_evidence(finding: Finding) -> bool:
    """Whether anything of it was measured."""
    return finding.figure is not None or any(check.value is not None for check in finding.checks)


def undecided(answers: Iterable[Answer]) -> list[str]:
    """What would decide the findings of which no part was measured."""
    findings = [answer.finding for answer in answers if not has_evidence(answer.finding)]
    return [f"Claim {each.id} ({each.device or 'no device'}) lacks {'; '.join(each.missing)}" for each in findings]


def _measured(check: Check) -> str:
    """The value of a check with its interval, such as "12.3 % [11.9, 12.8]"."""
    if check.value is None:
        return numbers.MISSING
    scale = numbers.scale_of(check.value, check.unit)
    told = numbers.quantity(check.value, check.unit).strip()
    if check.low is None or check.high is None or check.low == check.high:
        return told
    low, high = (numbers.significant(end / scale.divisor) for end in (check.low, check.high))
    return f"{told} [{low}, {high}]"


def _threshold(check: Check) -> str:
    """Where its whole interval is asked to lie, such as "above 50.0 %"."""
    if check.side is None or check.threshold is None:
        return numbers.MISSING
    told = f"{check.side.value} {numbers.quantity(check.threshold, check.unit)}"
    return (told if check.upper is None else f"{told} to {numbers.quantity(check.upper, check.unit)}").strip()
