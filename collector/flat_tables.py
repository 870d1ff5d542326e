"""The tables that trials can be had as: their columns, and the rows of one trial. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from collector import metric_rows, repetition_rows, trial_rows
from collector.columns import Column
from collector.stored import StoredTrial

Row = dict[str, Any]


class FlatTable(NamedTuple):
    """One way of laying trials out in rows."""

    columns: tuple[Column, ...]
    rows_of: Callable[[StoredTrial], Iterator[Row]]
    told: str

    def rows(self, trials: Iterable[StoredTrial]) -> Iterator[Row]:
        """The rows of all trials, each with every column."""
        return (row for stored in trials for row in self.rows_of(stored))


TABLES: Mapping[str, FlatTable] = {
    "trials": FlatTable(trial_rows.COLUMNS, trial_rows.trial_rows, "a row for each trial"),
    "metrics": FlatTable(metric_rows.COLUMNS, metric_rows.metric_rows, "a row for each trial, metric and power scope"),
    "repetitions": FlatTable(repetition_rows.COLUMNS, repetition_rows.repetition_rows, "a row for each repetition"),
}
