"""Where the device time of prefill and decode goes, operator by operator, and whether the parts sum to the whole.

    python -m benchmarks.operator_pass [--only llama-3-8b ...] [--prompt 2048] [--depth 512] [--steps 16]
                                       [--out operator_pass.json]

For each model, mode and phase: the share of each operator, the share that no operator was found for, the sum of all
over the device-busy time of repetitions that were profiled without ranges (and, of a GPU, over the time between two
CUDA events around repetitions that were not profiled at all), and the gaps between kernels. On a CPU the same is done
with a small model; the whole is then the time of a repetition that was not profiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from agent import engines, models
from agent.orders import Load, ProfileOperators, Prompt
from agent.phases import Phases
from phasewatt import prompt
from phasewatt.errors import PhasewattError
from phasewatt.fields import Phase
from phasewatt.profiles import OperatorProfile
from phasewatt.work import Architecture

_SEED = 1
_REPETITIONS = 3
_MOST_UNATTRIBUTED, _MOST_OFF = 0.03, 0.05  # what is to be reached


class Way(NamedTuple):
    """One model, run in one way."""

    model: str
    mode: str = "eager"
    fused: bool = False

    def __str__(self) -> str:
        return f"{self.model} {self.mode}" + (" fused" if self.fused else "")


_ON_GPU = (
    Way("llama-3-8b"),
    Way("llama-3-8b", "graph"),
    Way("llama-3-8b", "graph", fused=True),
    Way("smollm2-135m"),
    Way("smollm2-135m", "graph"),
    Way("olmoe-1b-7b"),
    Way("smollm2-135m", "compiled"),
)
_ON_CPU = (Way("smollm2-135m"), Way("smollm2-135m", fused=True))


def main() -> None:
    """Profile, print, and write everything after each way."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16" if on_gpu else "float32")
    parser.add_argument("--prompt", type=int, default=2048 if on_gpu else 64)
    parser.add_argument("--depth", type=int, default=512 if on_gpu else 64)
    parser.add_argument("--steps", type=int, default=16 if on_gpu else 8)
    parser.add_argument("--only", nargs="+", default=[], help="ways that begin with one of these words")
    parser.add_argument("--out", type=Path, default=Path("operator_pass.json"))
    args = parser.parse_args()
    told: dict[str, Any] = {
        "processor": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__,
        "dtype": args.dtype,
        "rows": [],
    }
    print(f"{told['processor']}, torch {told['torch']}, {args.dtype}", flush=True)
    engine = engines.create("transformers")
    for way in (way for way in (_ON_GPU if on_gpu else _ON_CPU) if _is_asked(way, args.only)):
        for phase in (Phase.PREFILL, Phase.DECODE):
            row = _row(engine, way, phase, args)
            told["rows"].append(row)
            args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
            print(_lines(row), flush=True)


def _is_asked(way: Way, only: list[str]) -> bool:
    return not only or str(way).startswith(tuple(only))


def _row(engine: Any, way: Way, phase: Phase, args: argparse.Namespace) -> dict[str, Any]:
    """One phase of one way, or why it could not be had."""
    row: dict[str, Any] = {"way": str(way), "phase": phase.value, "reason": None}
    shape = models.named(way.model)
    order = Load(
        architecture=shape,
        weights="random:7",
        dtype=args.dtype,
        mode=way.mode,
        attention="sdpa",
        accelerator="auto",
        fused_weights=way.fused,
    )
    try:
        engine.load(order)
        with engine.guarded():
            once, asked = _ready(engine, shape, phase, args)
            row |= _measured(engine, once, asked)
    except PhasewattError as error:
        row["reason"] = str(error)
    return row


def _ready(
    engine: Any, shape: Architecture, phase: Phase, args: argparse.Namespace
) -> tuple[Callable[[], Any], ProfileOperators]:
    """One repetition of a phase, and what is to be profiled of it."""
    tokens = args.prompt if phase is Phase.PREFILL else args.depth
    # As in mode_floor: a prompt of one token would be timed, and none of that length comes for decode.
    timed = tokens if phase is Phase.PREFILL else 1
    engine.plan(Prompt(seed=_SEED, batch=1, tokens=timed, threads=None, room=tokens + args.steps + 8))

    def context(count: int) -> array[int]:
        return prompt.token_ids(_SEED, 1, count, shape.vocab_size)

    phases = Phases(engine, context, 1, tokens)
    if phase is Phase.PREFILL:
        order = ProfileOperators(phase=phase, repetitions=_REPETITIONS, kv_start=0, kv_end=tokens)
        return phases.prefill_once, order
    first = engine.prefill()
    engine.sync()
    order = ProfileOperators(
        phase=phase,
        repetitions=1,
        kv_start=args.depth,
        kv_end=args.depth + args.steps,
        depth=args.depth,
        steps=args.steps,
    )
    return lambda: phases.decode_once(first, args.depth, args.steps), order


def _measured(engine: Any, once: Callable[[], Any], order: ProfileOperators) -> dict[str, Any]:
    for _ in range(2):
        once()
    engine.sync()
    on_gpu = torch.cuda.is_available()
    plain_s = statistics.median(_events_s(once) if on_gpu else _host_s(once) for _ in range(_REPETITIONS))
    busy_s = statistics.median(engine.device_busy_ns(once) for _ in range(_REPETITIONS)) * 1e-9 if on_gpu else plain_s
    began = time.monotonic()
    profile: OperatorProfile = engine.operator_profile(order, once)
    took_s = time.monotonic() - began
    after_s = statistics.median(_events_s(once) if on_gpu else _host_s(once) for _ in range(_REPETITIONS))
    known_ns = sum(one.device_ns for one in profile.operators)
    all_ns = known_ns + profile.unattributed_ns
    return {
        "shares": {one.operator: one.device_ns / all_ns for one in profile.operators},
        "unattributed_share": profile.unattributed_ns / all_ns,
        "sum_over_busy": all_ns * 1e-9 / order.repetitions / busy_s,
        "sum_over_plain": all_ns * 1e-9 / order.repetitions / plain_s,
        "gap_share": 1 - profile.busy_ns / profile.elapsed_ns,
        "busy_s": busy_s,
        "plain_s": plain_s,
        "plain_after_s": after_s,
        "pass_s": took_s,
        "profile": msgspec.to_builtins(profile),
    }


def _events_s(once: Callable[[], Any]) -> float:
    """Time of one repetition between two events of the GPU."""
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    before.record()
    once()
    after.record()
    torch.cuda.synchronize()
    return float(before.elapsed_time(after)) * 1e-3


def _host_s(once: Callable[[], Any]) -> float:
    watch = once()
    return float(watch.end_ns - watch.start_ns) * 1e-9


def _lines(row: dict[str, Any]) -> str:
    head = f"\n{row['way']}, {row['phase']}: "
    if row["reason"] is not None:
        return f"{head}{row['reason']}"
    shares = sorted(row["shares"].items(), key=lambda item: -item[1])
    unattributed, over_busy, profile = row["unattributed_share"], row["sum_over_busy"], row["profile"]
    lines = [
        f"{head}unattributed {unattributed:.2%} {_verdict(unattributed <= _MOST_UNATTRIBUTED)}, "
        f"sum over busy {over_busy:.3f} {_verdict(abs(over_busy - 1) <= _MOST_OFF)}, "
        f"sum over plain {row['sum_over_plain']:.3f}, gaps {row['gap_share']:.1%}",
        f"    busy {row['busy_s'] * 1e3:.2f} ms, not profiled {row['plain_s'] * 1e3:.2f} ms before and "
        f"{row['plain_after_s'] * 1e3:.2f} ms after, the pass took {row['pass_s']:.1f} s",
        "    " + ", ".join(f"{operator} {share:.1%}" for operator, share in shares),
        *([f"    {profile['reason']}"] if profile["reason"] else []),
        *(
            f"    {one['device_ns'] * 1e-6:9.3f} ms {one['launches']:6d} x {one['name'][:90]}"
            for one in _named(profile)
        ),
    ]
    return "\n".join(lines)


def _named(profile: dict[str, Any]) -> list[dict[str, Any]]:
    return list(profile["unattributed"])[:6]


def _verdict(holds: bool) -> str:
    return "(ok)" if holds else "(NOT REACHED)"


if __name__ == "__main__":
    main()
