"""How far each mode is from the physical floor, beside ceilings measured in the same run.

    python -m benchmarks.mode_floor [--model llama-3-8b] [--dtype bfloat16] [--depth 512] [--prompt 2048]
                                    [--only compiled ...] [--out mode_floor.json]

The floor of a decode step is the time to read the weights that it needs at the bandwidth of a matrix-vector product;
that of a prefill is its FLOPs at the rate of a square product. Each row is one mode and setting: the step, its share of
the floor, the prefill, its share of the rate, and of the step's device time the largest kernels and the gaps between
them. On a CPU the same is done with a small model, to see that it works; operators stand for kernels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from agent import engines, models
from agent.engines.ceilings import measure as ceiling
from agent.engines.transformers import device_events
from agent.orders import Load, MeasureCeiling, Prompt
from agent.phases import Phases
from phasewatt import prompt, roofline
from phasewatt.errors import PhasewattError
from phasewatt.fields import Phase
from phasewatt.work import Architecture, Task

_SEED = 1
_STEPS = 32
_PROFILED_STEPS = 8
_TOP = 12


class Way(NamedTuple):
    """One way to run the model."""

    mode: str
    attention: str = "sdpa"
    fused: bool = False

    def __str__(self) -> str:
        return f"{self.mode} {self.attention}" + (" fused" if self.fused else "")


_WAYS = (
    Way("eager"),
    Way("graph"),
    Way("compiled"),
    Way("graph", "grouped", fused=True),
    Way("compiled", fused=True),
    Way("compiled", "grouped", fused=True),
)


class Ceilings(NamedTuple):
    """What the device can do at most, as measured."""

    gemm_flop_per_s: float
    copy_bytes_per_s: float
    read_bytes_per_s: float


def main() -> None:
    """Measure, print a table, and write everything after each row."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3-8b" if on_gpu else "stories15m")
    parser.add_argument("--dtype", default="bfloat16" if on_gpu else "float32")
    parser.add_argument("--depth", type=int, default=512 if on_gpu else 64)
    parser.add_argument("--prompt", type=int, default=2048 if on_gpu else 128)
    parser.add_argument("--repetitions", type=int, default=20 if on_gpu else 5)
    parser.add_argument("--only", nargs="+", default=[], help="ways that begin with one of these words")
    parser.add_argument("--out", type=Path, default=Path("mode_floor.json"))
    args = parser.parse_args()
    ceilings = measured_ceilings(args.dtype, on_gpu)
    told: dict[str, Any] = {
        "processor": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__,
        "model": args.model,
        "dtype": args.dtype,
        "depth": args.depth,
        "prompt": args.prompt,
        "ceilings": ceilings._asdict(),
        "floor_s": floor_s(models.named(args.model), args.dtype, ceilings),
        "rows": [],
    }
    print(_heading(told, ceilings), flush=True)
    engine = engines.create("transformers")
    for way in (way for way in _WAYS if not args.only or str(way).startswith(tuple(args.only))):
        row = _measured(engine, way, args, told)
        told["rows"].append(row)
        args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        print(_line(row), flush=True)


def measured_ceilings(dtype: str, on_gpu: bool) -> Ceilings:
    """Of a square product, a copy, and a product of a matrix with a vector: the best of several, on random data."""
    side, wide = (8192, 16384) if on_gpu else (1024, 4096)

    def best(work: str, *shape: int) -> float:
        on = "cuda" if on_gpu else "cpu"
        order = MeasureCeiling(work=work, shape=shape, dtype=dtype, accelerator=on, repetitions=10, seconds=0.1)
        return max(ceiling(order).values)

    return Ceilings(
        gemm_flop_per_s=best("matmul", side, side, side),
        copy_bytes_per_s=best("copy", wide * wide),
        read_bytes_per_s=best("read", wide, wide),
    )


def floor_s(shape: Architecture, dtype: str, ceilings: Ceilings) -> float:
    """Time of one step that did nothing but read the weights it needs."""
    step = roofline.phase_bytes(_task(shape, 1), dtype, Phase.DECODE, 0, 1)
    return (step - roofline.kv_bytes_per_token(shape, dtype)) / ceilings.read_bytes_per_s


def _task(shape: Architecture, tokens: int) -> Task:
    return Task(architecture=shape, batch=1, prompt_tokens=tokens, prompt_digest="", output_tokens=2)


def _measured(engine: Any, way: Way, args: argparse.Namespace, told: dict[str, Any]) -> dict[str, Any]:
    """One row, or why there is none."""
    shape = models.named(args.model)
    row: dict[str, Any] = {"way": str(way), "reason": None}
    order = Load(
        architecture=shape,
        weights="random:7",
        dtype=args.dtype,
        mode=way.mode,
        attention=way.attention,
        accelerator="auto",
        fused_weights=way.fused,
    )
    try:
        started = time.monotonic()
        engine.load(order)
        row["load_s"] = time.monotonic() - started
        with engine.guarded():
            row |= _decode(engine, shape, args, told["floor_s"])
            row |= _prefill(engine, shape, args, told["ceilings"]["gemm_flop_per_s"])
    except PhasewattError as error:
        row["reason"] = str(error)
    return row


def _decode(engine: Any, shape: Architecture, args: argparse.Namespace, floor: float) -> dict[str, Any]:
    began = time.monotonic()
    # A prompt of one token would be timed, and none of that length comes: what fills the cache is not compiled.
    asked = Prompt(seed=_SEED, batch=1, tokens=1, threads=None, room=args.depth + _STEPS + 1)
    phases = _placed(engine, shape, asked, args.depth)
    ready_s = time.monotonic() - began
    first = engine.prefill()
    taken_s = _seconds(lambda: phases.decode_once(first, args.depth, _STEPS), args.repetitions)
    step_s = statistics.median(taken_s) / _STEPS
    profile = _profile(engine, lambda: phases.decode_once(first, args.depth, _PROFILED_STEPS))
    return {
        "step_ready_s": ready_s,
        "step_s": step_s,
        "step_best_s": min(taken_s) / _STEPS,
        "share_of_floor": floor / step_s,
        "profile": profile,
    }


def _prefill(engine: Any, shape: Architecture, args: argparse.Namespace, rate: float) -> dict[str, Any]:
    began = time.monotonic()
    asked = Prompt(seed=_SEED, batch=1, tokens=args.prompt, threads=None, room=args.prompt + 8)
    phases = _placed(engine, shape, asked, args.prompt)
    ready_s = time.monotonic() - began
    prefill_s = statistics.median(_seconds(phases.prefill_once, args.repetitions))
    flops = roofline.phase_flops(_task(shape, args.prompt), Phase.PREFILL, 0, args.prompt)
    return {"prefill_ready_s": ready_s, "prefill_s": prefill_s, "share_of_gemm": flops / prefill_s / rate}


def _placed(engine: Any, shape: Architecture, asked: Prompt, placed: int) -> Phases:
    def context(tokens: int) -> array[int]:
        return prompt.token_ids(_SEED, 1, tokens, shape.vocab_size)

    engine.plan(asked)
    return Phases(engine, context, 1, placed)


def _seconds(once: Callable[[], Any], repetitions: int) -> list[float]:
    """Host time of each repetition, from before its first call to after the sync; the first two warm up."""
    watches = [once() for _ in range(repetitions + 2)][2:]
    return [(watch.end_ns - watch.start_ns) * 1e-9 for watch in watches]


def _profile(engine: Any, work: Callable[[], object]) -> dict[str, Any]:
    """The largest kernels of a step in microseconds, and the share of the device's time that lies between kernels."""
    if not torch.cuda.is_available():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            work()
        sums = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
        return {"kernels_us": _largest(sums), "gap_share": None}
    events = device_events(work, engine.sync)
    summed = Counter[str]()
    for name, start, end in events:
        summed[name] += (end - start) // 1000
    span = max(end for _, _, end in events) - min(start for _, start, _ in events)
    busy = sum(end - start for _, start, end in events)  # one stream: none runs beside another
    return {
        "kernels_us": _largest(summed),
        "gap_share": 1 - busy / span,
        "kernels_a_step": len(events) / _PROFILED_STEPS,
    }


def _largest(sums: Mapping[str, float]) -> list[tuple[str, float]]:
    top = sorted(sums.items(), key=lambda item: -item[1])[:_TOP]
    return [(name, micro / _PROFILED_STEPS) for name, micro in top]


def _heading(told: dict[str, Any], ceilings: Ceilings) -> str:
    return (
        f"{told['processor']}, torch {told['torch']}: {ceilings.gemm_flop_per_s * 1e-12:.3g} TFLOP/s, "
        f"copy {ceilings.copy_bytes_per_s * 1e-9:.0f} GB/s, read {ceilings.read_bytes_per_s * 1e-9:.0f} GB/s\n"
        f"{told['model']} {told['dtype']}: floor of a step {told['floor_s'] * 1e3:.2f} ms\n"
        "way                         step   of floor    gaps   prefill   of rate   ready"
    )


def _line(row: dict[str, Any]) -> str:
    if row["reason"] is not None:
        return f"{row['way']:24s} {row['reason']}"
    gaps = row["profile"]["gap_share"]
    ready_s = row["step_ready_s"] + row["prefill_ready_s"]
    shown = "      -" if gaps is None else f"{gaps:7.1%}"
    return (
        f"{row['way']:24s} {row['step_s'] * 1e3:5.2f} ms {row['share_of_floor']:9.1%} {shown} "
        f"{row['prefill_s'] * 1e3:6.1f} ms {row['share_of_gemm']:8.1%} {ready_s:5.0f} s"
    )


if __name__ == "__main__":
    main()
