"""What the engine adds to a bare transformers loop: mode eager against the same model called by hand, in pairs.

    python -m benchmarks.engine_overhead [--model smollm2-135m] [--pairs 40] [--steps 16] [--depth 64] [--dtype float32]

Both sides run one model object, so that they differ in the engine alone; which comes first alternates. On a GPU the
device's busy time is compared, and host time beside it; on a CPU host time, which is all there is. The ratio is the
geometric mean over the pairs with its interval of 95 %. Goal: at most 1.02 on device time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from array import array
from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache

from agent import engines, models
from agent.engines import Engine
from agent.orders import Load, Prompt
from agent.phases import Phases
from phasewatt import prompt

_T_975 = {30: 2.045, 40: 2.023, 60: 2.001}  # Student's, by pairs at least
_SEED = 1


def main() -> None:
    """Print a row a phase and clock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: its own choice)")
    args = parser.parse_args()
    if args.pairs < min(_T_975):
        parser.error(f"--pairs: at least {min(_T_975)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    engine = _loaded(args.model, args.dtype)
    on_gpu = torch.cuda.is_available()
    clocks: list[tuple[str, Callable[[Callable[[], object]], float]]] = [("host", _host_s(engine))]
    if on_gpu:
        clocks.insert(0, ("device", lambda work: engine.device_busy_ns(work) * 1e-9))
    print(
        f"{args.model} {args.dtype}, {args.depth} tokens, {args.steps} steps, {args.pairs} pairs, "
        f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}"
    )
    print("phase    clock    engine / bare   95 % interval       bare")
    for phase, (ours, bare) in _sides(engine, args.model, args.depth, args.steps).items():
        for name, clock in clocks:
            print(_row(phase, name, _pairs(ours, bare, clock, args.pairs)), flush=True)


def _loaded(model: str, dtype: str) -> Any:
    engine = engines.create("transformers")
    shape = models.named(model)
    how = Load(architecture=shape, weights="random:7", dtype=dtype, mode="eager", attention="sdpa", accelerator="auto")
    engine.load(how)
    return engine


def _sides(
    engine: Any, model: str, depth: int, steps: int
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """For each phase: one repetition as the agent times it, and by hand."""
    vocabulary = models.named(model).vocab_size

    def context(tokens: int) -> array[int]:
        return prompt.token_ids(_SEED, 1, tokens, vocabulary)

    engine.plan(Prompt(seed=_SEED, batch=1, tokens=depth, threads=None))
    phases = Phases(engine, context, 1, depth)
    first = engine.prefill()
    bare = _Bare(engine._model, torch.tensor(context(depth))[None].to(engine._device), depth)
    return {
        "decode": (lambda: phases.decode_once(first, depth, steps), lambda: bare.decode(steps)),
        "prefill": (phases.prefill_once, bare.prefill),
    }


class _Bare:
    """A loop as one writes it by hand."""

    def __init__(self, model: Any, ids: torch.Tensor, depth: int) -> None:
        self._model, self._ids, self._depth = model, ids, depth
        self._cache: Any = None
        self._first = self.prefill()

    def prefill(self) -> torch.Tensor:
        self._cache = DynamicCache(config=self._model.config)
        return self._next(self._ids)

    def decode(self, steps: int) -> None:
        token = self._first
        for _ in range(steps):
            token = self._next(token)
        self._cache.crop(self._depth - self._cache.get_seq_length())

    def _next(self, ids: torch.Tensor) -> torch.Tensor:
        out = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        token: torch.Tensor = out.logits[:, -1].argmax(-1, keepdim=True)
        return token


def _host_s(engine: Engine) -> Callable[[Callable[[], object]], float]:
    def clock(work: Callable[[], object]) -> float:
        engine.sync()
        started = time.perf_counter()
        work()
        engine.sync()
        return time.perf_counter() - started

    return clock


def _pairs(
    ours: Callable[[], object],
    bare: Callable[[], object],
    clock: Callable[[Callable[[], object]], float],
    count: int,
) -> list[tuple[float, float]]:
    """Seconds of both sides, pair by pair; the first two pairs warm up and are left out."""
    taken = []
    for index in range(count + 2):
        order = (ours, bare) if index % 2 else (bare, ours)
        seconds = {work: clock(work) for work in order}
        taken.append((seconds[ours], seconds[bare]))
    return taken[2:]


def _row(phase: str, clock: str, pairs: list[tuple[float, float]]) -> str:
    logs = [math.log(ours / bare) for ours, bare in pairs]
    t = _T_975[max(least for least in _T_975 if least <= len(pairs))]
    middle, half = statistics.mean(logs), t * statistics.stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(middle - half), math.exp(middle + half)
    bare_s = statistics.median(bare for _, bare in pairs)
    return f"{phase:8s} {clock:7s} {math.exp(middle):14.4f}   {low:.4f} - {high:.4f}   {bare_s * 1e3:8.2f} ms"


if __name__ == "__main__":
    main()
