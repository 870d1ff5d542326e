"""The bench: one process for one model, told anew how to run it when only that differs."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from agent.bench import Bench
from agent.cells import Cell
from agent.stopping import Stop
from phasewatt.errors import DoesNotFit, EngineFailed

CELL = Cell(prompt_tokens=8, output_tokens=4, model="stories15m", engine="fake")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(Stop(), lambda _: None)
    yield made
    made.clear()


def test_another_mode_is_run_by_the_same_process(bench: Bench) -> None:
    bench.place(CELL)
    first = bench.pid
    bench.place(msgspec.structs.replace(CELL, mode="graph", tf32=True))
    assert bench.pid == first
    bench.place(msgspec.structs.replace(CELL, fused_weights=True))
    assert bench.pid != first


def test_a_mode_that_is_refused_leaves_nothing_loaded_by_mistake(bench: Bench) -> None:
    """The cell after it is measured in its own mode."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    real = msgspec.structs.replace(CELL, engine="transformers", accelerator="cpu")
    for _ in range(2):
        with pytest.raises(EngineFailed, match="mode graph needs an NVIDIA GPU"):
            bench.place(msgspec.structs.replace(real, mode="graph"))
    placed = bench.place(real)
    assert placed.cache_tokens is None and placed.tf32 is None


def test_what_eager_attention_keeps_counts_where_fit_is_judged(bench: Bench) -> None:
    """A matrix of scores that no host here holds; in chunks it is not asked for."""
    wide = msgspec.structs.replace(CELL, prompt_tokens=2000, batch=100_000, attention="eager")
    with pytest.raises(DoesNotFit, match=r"stories15m in float32 with 100000 x 2004 tokens needs [0-9.]+ GB"):
        bench.place(wide)
