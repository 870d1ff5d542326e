"""Trials as flat rows for notebooks: one a metric and power scope, each with its conditions. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from collector import trial_rows
from collector.columns import CellKind, Column
from collector.metering import check_ratio, gain_of
from collector.stored import StoredTrial
from phasewatt.fields import Scope
from phasewatt.metrics import METRICS, Context, Metric
from phasewatt.records import Trial

_OF_VALUES = ("p50", "p90", "p95", "p99", "spread")
_OF_ENERGY = ("gain_uncertainty", "calibrated", "check_ratio", "doubts")
COLUMNS = (
    *trial_rows.COLUMNS,
    *(Column(name, CellKind.TEXT) for name in ("metric", "unit", "scope")),
    *(Column(name, CellKind.REAL) for name in ("median", "minimum", "maximum")),
    Column("values", CellKind.INTEGER),
    Column("half_width", CellKind.REAL),
    Column("missing_because", CellKind.TEXT),
    *(Column(name, CellKind.REAL) for name in (*_OF_VALUES, "gain_uncertainty")),
    Column("calibrated", CellKind.TRUTH),
    Column("check_ratio", CellKind.REAL),
    Column("doubts", CellKind.TEXT),
)


def metric_rows(stored: StoredTrial) -> Iterator[dict[str, Any]]:
    """The rows of one trial, by name of column; a metric that it does not give has no numbers and the reason."""
    (shared,) = trial_rows.trial_rows(stored)
    for metric in METRICS.values():
        for scope in _scopes(stored.trial, metric):
            yield shared | _readings(stored.trial, metric, scope) | _verdict(stored.trial, metric, scope)


def _scopes(trial: Trial, metric: Metric) -> list[Scope | None]:
    metered = list(dict.fromkeys(energy.scope for energy in trial.energy)) if metric.scoped else []
    return [*metered] or [None]


def _readings(trial: Trial, metric: Metric, scope: Scope | None) -> dict[str, Any]:
    readings = metric.of(trial, Context(scope=scope))
    values = readings.values
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "scope": scope and scope.value,
        "median": statistics.median(values) if values else None,
        "minimum": min(values, default=None),
        "maximum": max(values, default=None),
        "values": len(values),
        "half_width": readings.half_width,
        "missing_because": readings.reason,
        **dict.fromkeys(_OF_VALUES),
        **readings.percentiles,
        "spread": readings.spread,
    }


def _verdict(trial: Trial, metric: Metric, scope: Scope | None) -> dict[str, Any]:
    """What the energy behind a metric rests on; nothing where there is none."""
    energy = next((e for e in trial.energy if metric.scoped and (e.phase, e.scope) == (metric.phase, scope)), None)
    if energy is None:
        return dict.fromkeys(_OF_ENERGY)
    return {
        "gain_uncertainty": gain_of([energy]),
        "calibrated": energy.calibrated,
        "check_ratio": check_ratio(energy),
        "doubts": trial_rows.cell(energy.doubts),
    }
