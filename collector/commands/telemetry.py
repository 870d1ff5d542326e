"""`telemetry`: what a board showed hour by hour, from what is kept and from what is left of older records."""

from __future__ import annotations

import argparse
import contextlib
import math
import time

import msgspec

from collector import hours
from collector.commands import table
from collector.store import open_store
from collector.stored import TelemetryHour
from phasewatt.errors import ConfigInvalid

_HEADERS = ("HOUR", "NAME", "UNIT", "SAMPLES", "LOWEST", "MEAN", "HIGHEST")
_DAY_S = 86_400.0


class Hour(msgspec.Struct, frozen=True):
    """One series over one hour."""

    hour_unix_s: int
    name: str
    unit: str
    samples: int
    lowest: float
    mean: float
    highest: float


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "telemetry/0"
    device: str
    hours: list[Hour]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose, of which series, and how far back."""
    parser.add_argument("device", metavar="DEVICE", help="the board")
    parser.add_argument("--name", metavar="TEXT", help="series whose name holds TEXT only, such as power")
    parser.add_argument("--days", type=_days, default=1.0, help="how far back, by this host's clock (default: 1)")
    parser.add_argument("--all", action="store_true", help="all hours, however old")


def run(args: argparse.Namespace) -> int:
    """Print its hours, oldest first."""
    since_unix_s = -math.inf if args.all else time.time() - args.days * _DAY_S
    with contextlib.closing(open_store(args.db)) as store:
        if args.device not in {row.device for row in store.devices()}:
            raise ConfigInvalid(f"no board {args.device!r} is known; `phasewatt-collector devices` lists them")
        found = [_hour(each) for each in hours.hours_of(store, args.device, since_unix_s)]
    found = [hour for hour in found if args.name is None or args.name in hour.name]
    if args.json:
        answer = Telemetry(device=args.device, hours=found)
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        table.show(_HEADERS, map(_cells, found), "no telemetry of that time; --days N or --all looks further back")
    return 0


def _hour(hour: TelemetryHour) -> Hour:
    return Hour(hour.hour_unix_s, hour.name, hour.unit, hour.samples, hour.lowest, hour.mean, hour.highest)


def _cells(hour: Hour) -> tuple[object, ...]:
    figures = (f"{figure:.6g}" for figure in (hour.lowest, hour.mean, hour.highest))
    return (table.when(hour.hour_unix_s), hour.name, hour.unit, hour.samples, *figures)


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of days above 0, got {text!r}")
    return days
