"""A piece of work laid out as one table of texts, which terminal, Markdown and HTML all show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from collector import numbers
from collector.comparison import Cell, ComparedWork, Row, Verdict
from collector.report.words import direction, metric_title, row_title
from phasewatt.records import Phase

_SECTIONS: Mapping[Phase | None, str] = {
    Phase.PREFILL: "Prefill",
    Phase.DECODE: "Decode",
    Phase.REQUEST: "Whole request",
    Phase.IDLE: "Idle, model loaded",
    None: "Memory",
}


class Shown(NamedTuple):
    """One cell as texts; `marks` number the notes below the table."""

    group: str
    value: str
    reason: str  # why there is no energy at all: the one reason that stands in the cell itself
    interval: str
    ratio: str
    verdict: Verdict | None
    evidence: str
    marks: tuple[int, ...]


class Line(NamedTuple):
    """One metric over all groups."""

    title: str
    direction: str
    formula: str
    marks: tuple[int, ...]
    cells: tuple[Shown, ...]


class Section(NamedTuple):
    """The metrics of one phase."""

    title: str
    lines: tuple[Line, ...]


class WorkTable(NamedTuple):
    """One piece of work: its metrics by phase, the notes that their marks mean, and what no group has."""

    title: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    not_available: tuple[str, ...]


def table_of(work: ComparedWork) -> WorkTable:
    """The table of `work`, phase by phase."""
    notes: dict[str, int] = {}
    by_section: dict[str, list[Line]] = {title: [] for title in (*_SECTIONS.values(), "Energy")}
    for row in sorted(work.rows, key=lambda row: list(_SECTIONS).index(row.phase)):
        title = "Energy" if row.metric == "energy" else _SECTIONS[row.phase]
        by_section[title].append(_line(row, notes))
    return WorkTable(
        title=work.title,
        sections=tuple(Section(title, tuple(lines)) for title, lines in by_section.items() if lines),
        notes=tuple(notes),
        not_available=tuple(f"{', '.join(names)}: {reason}" for reason, names in _absent(work).items()),
    )


def _absent(work: ComparedWork) -> dict[str, list[str]]:
    """The metrics that no group has, under their reasons."""
    metrics: dict[str, list[str]] = {}
    for absent in work.not_available:
        scope = f" ({absent.scope.value})" if absent.scope else ""
        metrics.setdefault("; ".join(absent.reasons), []).append(f"{metric_title(absent.metric)}{scope}")
    return metrics


def _line(row: Row, notes: dict[str, int]) -> Line:
    gains = {cell.group: cell.gain_uncertainty for cell in row.cells if cell.gain_uncertainty}
    return Line(
        title=row_title(row),
        direction=direction(row),
        formula=row.formula,
        marks=_marks([_gain_note(gains)] if gains else [], notes),
        cells=tuple(_shown(cell, row, notes) for cell in row.cells),
    )


def _shown(cell: Cell, row: Row, notes: dict[str, int]) -> Shown:
    base = row.cells[0]
    has_base = cell is not base and base.value is not None and cell.value is not None
    spelled_out = row.metric == "energy"
    texts = (None if spelled_out else cell.reason, cell.note, cell.ratio_reason if has_base else None)
    return Shown(
        group=cell.group,
        value=numbers.quantity(cell.value, row.unit),
        reason=(cell.reason or "") if spelled_out else "",
        interval=numbers.interval(cell, row.unit),
        ratio=" ".join(part for part in (numbers.ratio(cell), numbers.ratio_interval(cell)) if part),
        verdict=cell.verdict,
        evidence=numbers.evidence(cell),
        marks=_marks([text for text in texts if text], notes),
    )


def _gain_note(gains: Mapping[str, float]) -> str:
    """How far the sensors' gain may be off: no interval shows it."""
    shares = {f"±{100 * gain:.2g} %" for gain in gains.values()}
    told = shares.pop() if len(shares) == 1 else ", ".join(f"{group} ±{100 * g:.2g} %" for group, g in gains.items())
    return f"gain of the power sensor, not in the interval: {told}"


def _marks(texts: list[str], notes: dict[str, int]) -> tuple[int, ...]:
    return tuple(notes.setdefault(text, len(notes) + 1) for text in texts)
