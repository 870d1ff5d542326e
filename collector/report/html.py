"""A comparison as one HTML file: no network, no script, readable on a phone, on paper, in light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from collector import numbers
from collector.comparison import Comparison, Row
from collector.conditions import printable
from collector.report import (
    counter_words,
    findings_page,
    layout,
    metering,
    prediction_words,
    roofline_page,
    roofline_words,
    tails,
    timelines,
    words,
)
from collector.report.bars import bars
from collector.report.evidence import Evidence
from collector.report.page import page
from collector.report.picture import Picture, picture
from collector.report.repetitions import repetitions
from collector.scopes import NEAREST, scopes_told
from phasewatt.fields import Scope
from phasewatt.metrics import METRICS

if TYPE_CHECKING:
    from collector.report.chapters import Chapters

_LATENCIES = ("prefill_latency", "decode_step_latency", "e2e_latency")
_ENERGIES = ("prefill_energy", "decode_token_energy", "request_energy")
_Scopes = tuple[Scope | None, Scope | None]  # of a row, and the other that it sets beside it
_BESIDE_BASELINE = 4  # groups in one table: what fits on paper
_MOST_TIMELINES = 24
_MOST_ROOFLINES = 12  # trials with two pictures each


def render(
    comparison: Comparison,
    evidences: Sequence[Evidence],
    written_unix_s: float,
    chapters: Chapters | None = None,
) -> str:
    """The whole report as one HTML document; everything that came from a board is escaped.

    Without `chapters` it is the comparison alone.
    """
    return page(
        "report.html.j2",
        written_unix_s,
        filters=findings_page.FILTERS,
        comparison=comparison,
        tables=[layout.table_of(work) for work in comparison.works],
        blocks=_blocks(len(comparison.groups)),
        latency=list(bar_pictures(comparison, _LATENCIES, [(None, None)])),
        energy=list(bar_pictures(comparison, _ENERGIES, _scopes(comparison))),
        no_energy=_no_energy(comparison),
        unlike_scopes=dict.fromkeys(each.told for work in comparison.works for each in work.unlike_scopes),
        power=list(_power(evidences[:_MOST_TIMELINES])),
        no_power=_no_power(evidences),
        not_drawn=max(0, len(evidences) - _MOST_TIMELINES),
        repetitions=list(_repetitions(comparison, evidences)),
        operators=roofline_page.shown(chapters.rooflines, _MOST_ROOFLINES) if chapters else [],
        operators_not_drawn=max(0, len(chapters.rooflines.trials) - _MOST_ROOFLINES) if chapters else 0,
        unprofiled=roofline_words.absent(chapters.rooflines) if chapters else [],
        counters=list(counter_words.parts(chapters.counted)) if chapters else None,
        no_counters=counter_words.NOTHING,
        prediction=prediction_words.part(chapters.held_out, chapters.fits) if chapters else None,
        findings=findings_page.all_shown(chapters.answers, chapters.remarks, short=True) if chapters else None,
        tails=tails,
        distributions=list(tails.tails(comparison)),
        metering=metering,
        bands=timelines.BANDS.values(),
        words=words,
        missing=numbers.MISSING,
    )


def _blocks(groups: int) -> list[list[int]]:
    """Columns of one table after another, each beginning with the baseline."""
    return [[0, *range(start, min(start + _BESIDE_BASELINE, groups))] for start in range(1, groups, _BESIDE_BASELINE)]


def _scopes(comparison: Comparison) -> list[_Scopes]:
    """What energies are drawn of: all that groups share or that are set beside, and the best of who shares none."""
    rows = [row for work in comparison.works for row in work.rows if row.metric in _ENERGIES and row.scope]
    shown = {(row.scope, row.beside) for row in rows if len(_valued(row)) > 1}
    drawn = {group for row in rows if (row.scope, row.beside) in shown for group in _valued(row)}
    for group in comparison.groups:
        own = [row.scope for row in rows if row.scope in NEAREST and group.label in _valued(row)]
        if own and group.label not in drawn:
            shown.add((min(own, key=NEAREST.index), None))
    return [pair for pair in dict.fromkeys((row.scope, row.beside) for row in rows) if pair in shown]


def _valued(row: Row) -> list[str]:
    return [cell.group for cell in row.cells if cell.value is not None]


def bar_pictures(
    comparison: Comparison, metrics: Sequence[str], scopes: Sequence[_Scopes], prefix: str = ""
) -> Iterator[Picture]:
    """Bars of each metric on each of `scopes`; `prefix` tells the ids of several on one page apart."""
    for metric in metrics:
        for scope, beside in scopes:
            figure = bars(comparison, metric, scope, beside)
            if figure is not None:
                told = scopes_told(scope, beside)
                title = words.metric_title(metric) + (f" ({told})" if told else "")
                direction = (
                    "unlike scopes, so neither is better" if beside else words.better_way(METRICS[metric].better)
                )
                name = f"{prefix}bars-{metric}-{told.replace(' ', '-') or 'all'}"
                yield picture(figure, name, title, f"{METRICS[metric].formula}; {direction}")


def _power(evidences: Sequence[Evidence]) -> Iterator[Picture]:
    for index, evidence in enumerate(evidences):
        figure = timelines.power(evidence)
        if figure is not None:
            yield picture(figure, f"power-{index}", evidence.group, evidence.work)


def _repetitions(comparison: Comparison, evidences: Sequence[Evidence]) -> Iterator[Picture]:
    for index, work in enumerate(comparison.works):
        figure = repetitions([each for each in evidences if each.work_id == work.work_id])
        if figure is not None:
            yield picture(figure, f"repetitions-{index}", "Time of each repetition", work.title)


def _no_energy(comparison: Comparison) -> list[str]:
    """Why works have no energy at all."""
    cells = [cell for work in comparison.works for row in work.rows if row.metric == "energy" for cell in row.cells]
    return _by_reason((cell.group, cell.reason or "") for cell in cells)


def _no_power(evidences: Sequence[Evidence]) -> list[str]:
    """Why trials have no power over time."""
    lost = "the traces are not in this store"
    return _by_reason(
        (each.group, printable(each.trial.energy_reason or lost)) for each in evidences if not each.traces
    )


def _by_reason(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Each reason once, after the groups that give it."""
    groups: dict[str, dict[str, None]] = {}
    for group, reason in reasons:
        groups.setdefault(reason, {})[group] = None
    return [f"{'; '.join(named)}: {reason}" for reason, named in groups.items()]
