"""Fits and how far off they are as texts, which terminal, Markdown and HTML all show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from collector.held_out import HeldOut
from collector.numbers import MISSING
from collector.prediction import FamilyFits, Forecast
from collector.report.sheets import Part, Sheet

_TITLE = "How far predictions are off at lengths and batches that they were not shown"
RULE = "Worst is of all, interpolated the worst of those that the others enclose; the goal is judged by the latter."
_CHECK_HEADERS = (
    *("Group", "Model", "Of", "Trials", "Median", "Worst", "Interpolated", "Goal", "Within"),
    "Error where left out",
)
_FIT_HEADERS = ("Group", "Model", "Of", "Left-out error", "95 %", "R2", "Lengths", "Formula")


def part(held: Sequence[HeldOut], found: Iterable[FamilyFits]) -> Part:
    """Both tables, for a report."""
    sheets = (each for each in (check(held), fits(found)) if each.rows or each.notes)
    return Part("Fits over lengths and batches, of all trials of these devices", RULE, tuple(sheets))


def check(held: Sequence[HeldOut]) -> Sheet:
    """How far each fit is off; notes say what weakens it, and why others have no fit."""
    judged = [row for row in held if row.errors]
    return Sheet(_TITLE, _CHECK_HEADERS, tuple(map(_check_row, judged)), notes=(*_doubts(judged), *_unfitted(held)))


def _check_row(row: HeldOut) -> tuple[str, ...]:
    within = MISSING if row.within is None else "yes" if row.within else "no"
    shares = (row.middle, row.worst, row.worst_interpolated)
    return (
        *(row.group, row.model, row.subject, str(row.trials)),
        *(MISSING if share is None else f"{share:.1%}" for share in shares),
        *(f"{row.goal:.0%}", within),
        f"by {row.left_out}: {', '.join(f'{key}: {_error(row, key)}' for key in row.errors)}",
    )


def _error(row: HeldOut, key: str) -> str:
    """Both, where some trials of a length are enclosed by the others and others of it, further off, are not."""
    error, inner = row.errors[key], row.interpolated.get(key)
    if inner is None:
        return f"{error:+.1%} extrapolated"
    return f"{inner:+.1%}" if inner == error else f"{inner:+.1%} ({error:+.1%} extrapolated)"


def _doubts(judged: Iterable[HeldOut]) -> Iterator[str]:
    for row in judged:
        if row.note is not None:
            yield f"{row.group}: {row.model}: {row.subject} by {row.left_out}: {row.note}"


def _unfitted(held: Iterable[HeldOut]) -> Iterator[str]:
    """Why there is no error, a line for each group and model."""
    families: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in held:
        if not row.errors:
            reasons = families.setdefault((row.group, row.model), {})
            reasons.setdefault(row.reason or "", []).append(f"{row.subject} by {row.left_out}")
    for (group, model), reasons in families.items():
        told = "; ".join(f"of {', '.join(subjects)}: {reason}" for reason, subjects in reasons.items())
        yield f"{group}: {model}: no error {told}"


def fits(found: Iterable[Forecast | FamilyFits]) -> Sheet:
    """Each fit with its formula."""
    rows = (
        (
            *(each.group, each.model, fitted.subject),
            f"{max(abs(error) for error in fitted.left_out_errors.values()):.1%}",
            f"±{fitted.half_width:.0%}",
            f"{fitted.r2:.4f}",
            ", ".join(map(str, fitted.lengths)),
            f"{fitted.formula} {fitted.unit}",
        )
        for each in found
        for fitted in each.fits
    )
    return Sheet("Fits", _FIT_HEADERS, tuple(rows))
