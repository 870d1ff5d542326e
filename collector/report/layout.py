"""A piece of work laid out as one table of texts, which terminal, Markdown and HTML all show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from collector import numbers
from collector.comparison import Cell, ComparedWork, Row, Verdict
from collector.conditions import brief
from collector.report.words import direction, metric_title, row_title
from phasewatt.fields import Phase, Scope
from phasewatt.metrics import METRICS

_SECTIONS: Mapping[Phase | None, str] = {
    Phase.PREFILL: "Prefill",
    Phase.DECODE: "Decode",
    Phase.REQUEST: "Whole request",
    Phase.IDLE: "Idle, model loaded",
    None: "Memory",
}
_DETAILS = "Clocks and utilisation"
_IN_COMPUTE = frozenset({Scope.CPU_PACKAGE, Scope.DRAM})
_DOUBT = "doubt: "


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
    unlike_scopes: tuple[str, ...]  # why energies are not compared, or what to mind of those that are
    left_out: str  # what a short table does not show; empty: nothing


def table_of(work: ComparedWork, short: bool = False) -> WorkTable:
    """The table of `work`, phase by phase; a `short` one without details and without the parts of `compute`."""
    notes: dict[str, int] = {}
    rows = [row for row in work.rows if not (short and _is_extra(row, work))]
    by_section: dict[str, list[Line]] = {title: [] for title in (*_SECTIONS.values(), _DETAILS, "Energy")}
    for row in sorted(rows, key=lambda row: list(_SECTIONS).index(row.phase)):
        by_section[_section(row)].append(_line(row, notes))
    return WorkTable(
        title=work.title,
        sections=tuple(Section(title, tuple(lines)) for title, lines in by_section.items() if lines),
        notes=tuple(notes),
        not_available=tuple(f"{', '.join(names)}: {reason}" for reason, names in _absent(work, short).items()),
        unlike_scopes=tuple(unlike.told for unlike in work.unlike_scopes),
        left_out=_left_out([row for row in work.rows if row not in rows]),
    )


def _section(row: Row) -> str:
    if row.metric == "energy":
        return "Energy"
    return _DETAILS if METRICS[row.metric].detail and row.scope is None else _SECTIONS[row.phase]


def _is_extra(row: Row, work: ComparedWork) -> bool:
    """Whether a row explains others, is of a part of what a compute figure holds, or gives a remainder to nobody."""
    if row.metric not in METRICS:
        return False
    if METRICS[row.metric].detail:
        return True
    has_compute = any(other.metric == row.metric and other.scope is Scope.COMPUTE for other in work.rows)
    lonely = row.scope is not None and all(cell.ratio is None for cell in row.cells)
    return (has_compute and row.scope in _IN_COMPUTE) or (lonely and row.metric.endswith("_adjusted"))


def _left_out(rows: Sequence[Row]) -> str:
    kinds = dict.fromkeys(_kind(row) for row in rows)
    return f"In a report and with --markdown: {', '.join(kinds)}" if kinds else ""


def _kind(row: Row) -> str:
    if row.scope is None:
        return _DETAILS.lower()
    return f"{row.scope.value} figures" if row.scope in _IN_COMPUTE else "power peaks and some figures above idle"


def _absent(work: ComparedWork, short: bool) -> dict[str, list[str]]:
    """The metrics that no group has, under their reasons."""
    metrics: dict[str, list[str]] = {}
    for absent in work.not_available:
        if METRICS[absent.metric].asked or (short and METRICS[absent.metric].detail):
            continue
        scope = f" ({absent.scope.value})" if absent.scope else ""
        metrics.setdefault("; ".join(absent.reasons), []).append(f"{metric_title(absent.metric)}{scope}")
    return metrics


def _line(row: Row, notes: dict[str, int]) -> Line:
    gains = {cell.group: cell.gain_uncertainty for cell in row.cells if cell.gain_uncertainty}
    cancels = any(cell.ratio_gain_uncertainty == 0 for cell in row.cells)
    return Line(
        title=row_title(row),
        direction=direction(row),
        formula=row.formula,
        marks=_marks([_gain_note(gains, cancels)] if gains else [], notes),
        cells=tuple(_shown(cell, row, notes) for cell in row.cells),
    )


def _shown(cell: Cell, row: Row, notes: dict[str, int]) -> Shown:
    base = row.cells[0]
    has_base = cell is not base and base.value is not None and cell.value is not None
    spelled_out = brief(cell.reason) if row.metric == "energy" and cell.reason else ""
    texts = (
        None if spelled_out == cell.reason else _reason(cell, row),
        cell.note,
        *(f"{_DOUBT}{doubt}" for doubt in cell.doubts),
        cell.ratio_reason if has_base else None,
    )
    return Shown(
        group=cell.group,
        value=numbers.quantity(cell.value, row.unit),
        reason=spelled_out,
        interval=numbers.interval(cell, row.unit),
        ratio=" ".join(part for part in (numbers.ratio(cell), numbers.ratio_interval(cell)) if part),
        verdict=cell.verdict,
        evidence=numbers.evidence(cell),
        marks=_marks([text for text in texts if text], notes),
    )


def _reason(cell: Cell, row: Row) -> str | None:
    """Why there is no value; of a scope that was not metered only this, for the row names phase and scope."""
    unmetered = row.scope is not None and (cell.reason or "").endswith(f"was not metered on scope {row.scope.value}")
    return "not metered on this scope" if unmetered else cell.reason


def _gain_note(gains: Mapping[str, float], cancels: bool) -> str:
    """How far the sensors' gain may be off: no interval shows it."""
    shares = {f"±{100 * gain:.2g} %" for gain in gains.values()}
    told = shares.pop() if len(shares) == 1 else ", ".join(f"{group} ±{100 * g:.2g} %" for group, g in gains.items())
    same = "; it cancels in a ratio of figures of one sensor" if cancels else ""
    return f"gain of the power sensor, not in the interval: {told}{same}"


def _marks(texts: list[str], notes: dict[str, int]) -> tuple[int, ...]:
    return tuple(notes.setdefault(text, len(notes) + 1) for text in texts)
