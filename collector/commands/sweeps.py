"""`sweeps`: the same task at several batch sizes: where throughput, latency and energy per token are best."""

from __future__ import annotations

import argparse
import contextlib

import msgspec

from collector.commands import table
from collector.conditions import printable
from collector.store import TrialQuery, open_store
from phasewatt import optimum
from phasewatt.optimum import Point, Sweep

_HEADERS = ("BATCH", "TRIALS", "DECODE token/s", "TPOT ms", "STEP ms", "DECODE J/token", "REQUEST J/token", "SCOPE")
_SCALES = {"decode_rate": 1.0, "tpot": 1e3, "decode_step_latency": 1e3}
_NOTHING = "no sweep: no device did the same task at two batch sizes; run `phasewatt-agent run batch-sweep`"


class Sweeps(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "sweeps/0"
    sweeps: tuple[Sweep, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which trials."""
    for name in ("device", "suite", "campaign", "model"):
        parser.add_argument(f"--{name}", help=f"of this {name} only")


def run(args: argparse.Namespace) -> int:
    """Print every sweep with its optima, marked with a star."""
    query = TrialQuery(device=args.device, suite=args.suite, campaign=args.campaign, model=args.model)
    with contextlib.closing(open_store(args.db)) as store:
        found = optimum.sweeps(stored.trial for stored in store.trials(query))
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(Sweeps(sweeps=found))).decode())
        return 0
    for sweep in found:
        print(printable(f"{sweep.device}: {sweep.title}{' (simulated)' if sweep.simulated else ''}"))
        table.show(_HEADERS, [_row(point, sweep) for point in sweep.points], _NOTHING)
        print("".join(f"  {line}\n" for line in optimum.in_words(sweep)))
    if not found:
        print(_NOTHING)
    return 0


def _row(point: Point, sweep: Sweep) -> tuple[object, ...]:
    best = {each.metric for each in sweep.optima if each.batch == point.batch}
    figures = (_figure(name, value, name in best) for name, value in point.figures.items())
    return (point.batch, point.trials, *figures, point.scope and point.scope.value)


def _figure(name: str, value: float | None, is_best: bool) -> str | None:
    return None if value is None else f"{value * _SCALES.get(name, 1.0):.4g}{' *' if is_best else ''}"
