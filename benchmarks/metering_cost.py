"""What being measured costs the work: steady work with the sampler beside it and without, in randomised pairs.

    python -m benchmarks.metering_cost [--pairs 30] [--seconds 2] [--meter NAME ...]

On a GPU the work is a captured CUDA graph, replayed: its time does not depend on the host. The A/B row is sampled
against not sampled, the A/A row not sampled against not sampled: what the A/A row shows is what pairs show of nothing.
Goal: upper 95 % bound of the A/B ratio at most 1.01.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from agent.cards import CardStore
from agent.meters import AUTOMATIC
from agent.sampler import Sampler
from agent.surveying import survey

_RATE_HZ = 20.0  # as a suite has it
_T_975 = 2.05  # Student's t, 29 degrees of freedom and about as many
_WARM_UP_S = 5.0


def main() -> None:
    """Print both rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--meter", action="append", default=[])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    step = _graph_step() if torch.cuda.is_available() else _cpu_step()
    names = args.meter or _usable()
    order = random.Random(args.seed)
    _step_s(step, _WARM_UP_S)
    print(f"meters: {', '.join(names) or 'none answers here'}; {args.pairs} pairs of 2 x {args.seconds:g} s, one run")
    print("row   ratio of step times   95 % interval       step, median")
    rows: list[tuple[str, list[str]]] = [("A/A", [])] + ([("A/B", names)] if names else [])
    for row, sampled in rows:
        print(_row(row, [_pair(step, sampled, args.seconds, order) for _ in range(args.pairs)]), flush=True)


def _pair(step: Callable[[], None], sampled: list[str], seconds: float, order: random.Random) -> tuple[float, float]:
    """Step times of one pair in s, plain and sampled, in random order."""
    plain_first = order.random() < 0.5
    times_s = [0.0, 0.0]
    for place in (0, 1) if plain_first else (1, 0):
        times_s[place] = _sampled_step_s(step, sampled, seconds) if place and sampled else _step_s(step, seconds)
    return times_s[0], times_s[1]


def _sampled_step_s(step: Callable[[], None], names: list[str], seconds: float) -> float:
    """As the runner does it: read closely when the window begins and when it has ended."""
    sampler = Sampler(names, _RATE_HZ)
    sampler.start()
    sampler.attend()
    taken_s = _step_s(step, seconds)
    sampler.attend()
    if not sampler.stop().rows:
        raise SystemExit("the sampler saw nothing")
    return taken_s


def _step_s(step: Callable[[], None], seconds: float) -> float:
    """Mean time of a step, over at least that long."""
    steps, started = 0, time.perf_counter()
    while (taken_s := time.perf_counter() - started) < seconds:
        step()
        steps += 1
    return taken_s / steps


def _row(name: str, pairs: list[tuple[float, float]]) -> str:
    logs = [math.log(sampled / plain) for plain, sampled in pairs]
    middle, half = statistics.mean(logs), _T_975 * statistics.stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(middle - half), math.exp(middle + half)
    return (
        f"{name}   {math.exp(middle):19.5f}   {low:.5f} - {high:.5f}   "
        f"{statistics.median(plain for plain, _ in pairs) * 1e3:.3f} ms"
    )


def _graph_step() -> Callable[[], None]:
    """About 8 ms of matrix-vector and matrix products on the GPU, captured once, as graphed decode is."""
    weights = [torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(8)]
    vector = torch.randn(8192, 16, device="cuda", dtype=torch.bfloat16)

    def work() -> None:
        for _ in range(16):
            for weight in weights:
                torch.mm(weight, vector)

    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def step() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return step


def _cpu_step() -> Callable[[], None]:
    matrix = torch.randn(512, 512)

    def step() -> None:
        torch.mm(matrix, matrix)

    return step


def _usable() -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        return [found.meter for found in survey(AUTOMATIC, CardStore(Path(scratch))) if found.reason is None]


if __name__ == "__main__":
    main()
