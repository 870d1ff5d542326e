"""`drift`: scheduled canaries against each device's own history."""

from __future__ import annotations

import argparse
import contextlib

import msgspec

from collector import drift, drift_words
from collector.commands import table
from collector.drift_words import Found, Watched
from collector.store import open_store

_HEADERS = ("DEVICE", "SERIES", "NIGHTS", "LEVEL", "SPREAD", "SHOWS FROM", "LAST CHANGE")
_NOTHING = "no scheduled job has brought a trial yet"


class SeriesShown(msgspec.Struct, frozen=True):
    """One metric of one cell on one device, and its changes of level."""

    device: str
    cell: str
    metric: str
    unit: str
    nights: int
    nights_since_change: int
    level: float | None
    spread: float | None
    detectable: float | None
    reason: str | None
    changes: tuple[Found, ...]


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "drift/0"
    series: list[SeriesShown]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose."""
    parser.add_argument("--device", help="of this device only")


def run(args: argparse.Namespace) -> int:
    """Print every series and its changes."""
    with contextlib.closing(open_store(args.db)) as store:
        series = [_shown(each) for each in drift_words.watched(store.jobs.canaries(args.device))]
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(Drift(series=series))).decode())
        return 0
    table.show(_HEADERS, map(_cells, series), _NOTHING)
    for each in series:
        for found in each.changes:
            print(f"{each.device}: {drift_words.sentence(found)}")
    return 0


def _shown(watched: Watched) -> SeriesShown:
    series, level = watched.series, watched.level
    known = level.spread is not None
    reason = (
        None if known else f"{level.nights} nights since the last change; {drift.LEAST_HISTORY} are needed to judge"
    )
    return SeriesShown(
        device=series.device,
        cell=series.cell,
        metric=series.metric,
        unit=drift_words.unit_of(series),
        nights=len(series.nights),
        nights_since_change=level.nights,
        level=level.value,
        spread=level.spread,
        detectable=level.detectable,
        reason=reason,
        changes=watched.changes,
    )


def _cells(series: SeriesShown) -> tuple[object, ...]:
    last = series.changes[-1] if series.changes else None
    return (
        series.device,
        f"{series.metric} of {series.cell}",
        series.nights,
        None if series.level is None else f"{series.level:.4g} {series.unit}",
        None if series.spread is None else f"{series.spread:.2%}",
        None if series.detectable is None else f"{series.detectable:.1%}",
        series.reason if last is None else f"{last.effect:+.1%} on {table.when(last.since_unix_s)}",
    )
