"""The child that ncu looks at: loads a model, runs one prefill and one decode step with their operators marked.

`python -m agent.counters.workload ORDER` with the order as JSON. What is counted is decided by the ranges alone:
loading and warming up happen outside of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from agent import engines
from agent.counters.ranges import Marker, Ranges
from agent.orders import Load, Prompt, Resolve
from phasewatt import prompt
from phasewatt.fields import Phase


class CountOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to run; the answer is written to a file, since ncu shares the streams."""

    load: Load
    prompt: Prompt
    answer: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Why nothing was run."""

    message: str


class Counted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What was run, and on what."""

    processor: str | None
    accelerator: str
    versions: dict[str, str]
    parameters: int
    weights_digest: str | None
    drawn_on: str | None
    quantization: str | None = None
    experts: str | None = None


def run(order: CountOrder, engine: Any, marker: Marker) -> Counted:
    """Load, warm up, and run each phase once within its range.

    Raises:
        EngineFailed: the model cannot be run here.
    """
    load, asked = order.load, order.prompt
    shape = load.architecture
    described = engine.describe(Resolve(model="stories15m", weights="random:0", accelerator=load.accelerator))
    with engine.guarded():
        loaded = engine.load(load)
        engine.plan(asked)
        engine.set_prompt(prompt.token_ids(asked.seed, asked.batch, asked.tokens, shape.vocab_size), asked.batch)
        _pass(engine)  # libraries choose their kernels now
        _marked_pass(engine, Ranges(marker))
    return Counted(
        processor=described.processor,
        accelerator=described.accelerator,
        versions=described.versions,
        parameters=loaded.parameters,
        weights_digest=loaded.weights_digest,
        drawn_on=loaded.drawn_on,
        quantization=loaded.quantization,
        experts=loaded.experts,
    )


def _pass(engine: Any) -> None:
    engine.reset()
    engine.decode_one(engine.prefill())
    engine.sync()


def _marked_pass(engine: Any, ranges: Ranges) -> None:
    from agent.counters.outside import Outside  # noqa: PLC0415 - who orders has no torch
    from agent.engines import transformers_ranges  # noqa: PLC0415 - as above

    engine.reset()
    engine.sync()
    with transformers_ranges.ranges(engine.model, ranges.operator), Outside(ranges):
        with ranges.phase(Phase.PREFILL):
            token = engine.prefill()  # [batch, 1]
            engine.sync()
        with ranges.phase(Phase.DECODE):
            engine.decode_one(token)
            engine.sync()


def main() -> None:
    """Entry point of the child."""
    order = msgspec.json.decode(sys.argv[1].encode(), type=CountOrder)
    try:
        answer: Counted | Failed = _with_torch(order)
    except Exception as error:  # noqa: BLE001 - an engine's library may raise anything; who waits must be told
        answer = Failed((str(error).strip() or type(error).__name__).splitlines()[0])
    Path(order.answer).write_bytes(msgspec.json.encode(answer))
    sys.exit(isinstance(answer, Failed))


def _with_torch(order: CountOrder) -> Counted:
    """Imported here, where a library that does not load is an answer too."""
    import torch  # noqa: PLC0415 - a library that does not load is an answer too

    engine = engines.create("transformers")

    return run(order, engine, torch.cuda.nvtx)


if __name__ == "__main__":
    main()
