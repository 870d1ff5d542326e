"""Distributions as a table of texts: the percentiles of each time on each group, which Markdown and HTML both show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from collector import numbers
from collector.comparison import Cell, Comparison
from collector.report import words
from phasewatt import distribution

TITLE = "Distributions of times, of all repetitions"
FIRST_HEADER = "Time, group and work"
HEADERS = (*(f"p{percent}" for percent in distribution.LEAST), "spread")


class Tail(NamedTuple):
    """The percentiles of a distribution on one group, under `HEADERS`."""

    work: str
    metric: str
    group: str
    texts: tuple[str, ...]


def tails(comparison: Comparison) -> Iterator[Tail]:
    """Each distribution that has values enough for a tail."""
    for work in comparison.works:
        for row in work.rows:
            title = words.metric_title(row.metric)
            for cell in row.cells:
                if texts := _texts(cell, row.unit):
                    yield Tail(work.title, title, cell.group, texts)


def _texts(cell: Cell, unit: str) -> tuple[str, ...]:
    """Every percentile, a dash where there are too few values for it; nothing where there are too few for a tail."""
    known = cell.percentiles or {}
    if len(known) < 2:
        return ()
    percentiles = (numbers.quantity(known.get(f"p{percent}"), unit) for percent in distribution.LEAST)
    return (*percentiles, numbers.quantity(cell.spread, "1"))
