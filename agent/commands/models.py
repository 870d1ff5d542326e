"""`models`: the presets, or what one of them asks of the hardware, operator by operator."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import msgspec

from agent import models
from agent.commands import options
from phasewatt import operators, roofline
from phasewatt.operators import Cost, Operator, Pass
from phasewatt.work import Architecture

_PIPED_COLUMNS = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A model and a workload, or none."""
    parser.add_argument("name", nargs="?", help="a preset, or the path of a config.json; none: list the presets")
    parser.add_argument(
        "--prompt-tokens", type=options.positive, default=2048, metavar="N", help="of a sequence (2048)"
    )
    parser.add_argument("--batch", type=options.positive, default=1, metavar="N", help="sequences at a time (1)")
    parser.add_argument("--dtype", default="bfloat16", help="of weights and cache (bfloat16)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the presets, or the operators of one: in a prefill, and in one decode step after it.

    Raises:
        ConfigInvalid: no such model or dtype.
    """
    if args.name is None:
        _list(args.dtype, args.json)
        return 0
    shape = models.named(args.name)
    prefill = operators.costs(shape, args.dtype, Pass(args.batch, args.prompt_tokens, 0))
    decode = operators.costs(shape, args.dtype, Pass(args.batch, 1, args.prompt_tokens))
    if args.json:
        workload = {"prompt_tokens": args.prompt_tokens, "batch": args.batch, "dtype": args.dtype}
        passes = {"prefill": _plain(prefill), "decode_step": _plain(decode)}
        _print({"schema": "model/0", "model": shape, **_sizes(shape, args.dtype), **workload, **passes})
    else:
        title = f"{shape.name}, {args.dtype}, batch {args.batch}"
        _table(f"{title}: a prefill of {args.prompt_tokens} tokens", prefill)
        _table(f"{title}: a decode step with {args.prompt_tokens} tokens in the cache", decode)
    return 0


def _list(dtype: str, as_json: bool) -> None:
    if as_json:
        listed = [{"model": shape, **_sizes(shape, dtype)} for shape in models.PRESETS.values()]
        _print({"schema": "models/0", "dtype": dtype, "models": listed})
        return
    for name, shape in models.PRESETS.items():
        sizes = _sizes(shape, dtype)
        met = f", {sizes['active_parameters']:,} met by a token" if shape.experts else ""
        print(f"{name}: {sizes['parameters']:,} parameters{met}, {sizes['weight_bytes'] / 1e9:.2f} GB in {dtype}")


def _sizes(shape: Architecture, dtype: str) -> dict[str, int]:
    return {
        "parameters": roofline.parameter_count(shape),
        "active_parameters": roofline.active_parameter_count(shape),
        "weight_bytes": roofline.weight_bytes(shape, dtype),
        "kv_bytes_per_token": roofline.kv_bytes_per_token(shape, dtype),
    }


def _plain(costs: Mapping[Operator, Cost]) -> dict[str, Any]:
    return {operator.value: {**cost._asdict(), "intensity": cost.intensity} for operator, cost in costs.items()}


def _table(title: str, costs: Mapping[Operator, Cost]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_COLUMNS)
    flops = sum(cost.flops for cost in costs.values())
    moved = sum(cost.moved_bytes for cost in costs.values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("OPERATOR")
    for header in ("GFLOP", "SHARE", "MB", "SHARE", "FLOP/B"):
        table.add_column(header, justify="right")
    total = Cost(flops, 0, moved)
    for name, cost in (*((operator.value, cost) for operator, cost in costs.items()), ("all", total)):
        shares = (cost.flops / flops, cost.moved_bytes / moved)
        table.add_row(
            name,
            *(f"{cost.flops * 1e-9:.4g}", f"{shares[0]:.1%}", f"{cost.moved_bytes * 1e-6:.4g}", f"{shares[1]:.1%}"),
            f"{cost.intensity:.3g}",
        )
    console.print(title, table, sep="\n")


def _print(answer: dict[str, Any]) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer)).decode())
