"""Counters in the trials of a suite: asked for, of the cell's own settings, and never the end of a trial."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent import app, cells, estimate, models
from agent.attempt import Plan
from agent.bench import Bench, Placed
from agent.cells import Cell, Measure
from agent.commands import run as run_command
from agent.counters.beside import Beside, lacks, workload_of
from agent.counters.run import Counting
from agent.counters.tool import Tool
from agent.estimate import RATES
from agent.host import Host
from agent.orders import Described
from agent.runner import Metering, Runner
from agent.stopping import Stop
from phasewatt.errors import EngineAbsent, Stopped
from phasewatt.fields import Outcome, Phase
from tests.fixtures import ncu

CELL = Cell(prompt_tokens=64, output_tokens=8, model="llama-3-8b", dtype="bfloat16", mode="graph", batch=2)
MEASURE = Measure(
    repetitions=3, unmetered_window_s=0.05, limit_s=5, warmup_limit_s=0.2, idle_s=0, gate_s=0, counters=True
)


def placed(accelerator: str = "cuda") -> Placed:
    """llama-3-8b on such a processor."""
    described = Described(
        architecture=models.preset("llama-3-8b"),
        processor="a processor",
        accelerator=accelerator,
        gpu_uuid=None,
        memory_free_bytes=None,
        versions={},
        simulated=False,
    )
    return Placed(described, None, None, None)


def beside(mood: str = "well", passes: list[str] | None = None) -> Beside:
    """Counting by a program of that mood; each search for it is noted."""

    def found() -> Tool:
        if passes is not None:
            passes.append("found")
        return Tool(Path("ncu"), "2025.3.1.0")

    def made(tool: Tool, stop: Stop) -> Counting:
        return Counting(tool, stop, start=ncu.started(mood), ask=ncu.said(mood))  # type: ignore[arg-type]

    return Beside(Stop(), found, made)


def absent() -> Tool:
    raise EngineAbsent("counters: ncu is not here; install Nsight Compute")


def test_a_cell_is_counted_with_its_own_settings_on_a_few_layers():
    prefill, decode = beside().count(CELL, placed())
    assert (prefill.kv_start, prefill.kv_end, decode.kv_start, decode.kv_end) == (0, 64, 64, 65)
    assert prefill.operators and decode.operators
    assert prefill.reason == "3 of 32 layers were counted; in mode eager, and not graph"
    cell = msgspec.structs.replace(CELL, quantization="int8", attention="eager", prefill_chunk=32, fused_weights=True)
    load, asked, layers = workload_of(cell, placed())
    assert (load.dtype, load.quantization, load.attention, load.fused_weights) == ("bfloat16", "int8", "eager", True)
    assert (asked.tokens, asked.batch, asked.chunk, asked.room, layers) == (64, 2, 32, 66, 3)


def test_weights_that_are_not_random_are_stood_in_for_and_that_is_said():
    cell = msgspec.structs.replace(CELL, weights="path:/models/llama")
    assert workload_of(cell, placed()).load.weights == "random:7"
    assert "counted on random weights (random:7) of the same shapes" in (beside().count(cell, placed())[0].reason or "")


def test_only_phases_that_the_cell_measures_are_counted():
    decode_only = msgspec.structs.replace(CELL, phases="decode, request")
    assert [each.phase for each in beside().count(decode_only, placed())] == [Phase.DECODE]
    searched: list[str] = []
    assert beside(passes=searched).count(msgspec.structs.replace(CELL, phases="request"), placed()) == ()
    assert searched == []


def test_the_tool_is_looked_for_once_a_suite():
    searched: list[str] = []
    counting = beside(passes=searched)
    for _ in range(2):
        counting.count(CELL, placed())
    assert searched == ["found"]


@pytest.mark.parametrize(
    ("cell", "accelerator", "reason"),
    [
        (CELL, "cpu", "counters are read of NVIDIA GPUs alone, and this ran on cpu"),
        (msgspec.structs.replace(CELL, engine="onnxruntime"), "cuda", "counters are read of engine transformers alone"),
        (msgspec.structs.replace(CELL, tensor_parallel=2), "cuda", "counters are read of one GPU alone, and 2 share"),
    ],
)
def test_what_cannot_be_counted_says_why(cell, accelerator, reason):
    for profile in beside().count(cell, placed(accelerator)):
        assert (profile.operators, profile.repetitions) == ((), 0)
        assert reason in (profile.reason or "")


@pytest.mark.parametrize(
    ("mood", "reason"),
    [("refused", "ERR_NVGPUCTRPERM"), ("fails", "the workload failed: no CUDA device answers to torch")],
)
def test_a_pass_that_fails_is_a_reason(mood, reason):
    profiles = beside(mood).count(CELL, placed())
    assert len(profiles) == 2
    assert all(reason in (profile.reason or "") for profile in profiles)


def test_what_was_asked_for_and_is_not_there_is_said_where_the_suite_ends():
    assert lacks(beside().count(CELL, placed())) == []
    assert lacks(()) == []
    assert lacks(beside().count(CELL, placed("cpu"))) == [
        "no counters of prefill and decode: counters are read of NVIDIA GPUs alone, and this ran on cpu"
    ]


def test_without_the_tool_or_with_one_that_cannot_be_started_there_is_a_reason(tmp_path):
    for profile in Beside(Stop(), absent).count(CELL, placed()):
        assert "install Nsight Compute" in (profile.reason or "")

    def broken(tool, stop):
        def start(line, words):
            raise OSError(28, "No space left on device")

        return Counting(tool, stop, start=start, ask=lambda _: "")

    for profile in Beside(Stop(), lambda: Tool(tmp_path, None), broken).count(CELL, placed()):
        assert "the pass failed" in (profile.reason or "") and "No space left" in (profile.reason or "")


def test_being_asked_to_end_is_no_failure_of_the_pass(tmp_path):
    stop = Stop()
    stop.set()
    program = Tool(ncu.installed(tmp_path, "hangs"), None)
    with pytest.raises(Stopped):
        Beside(stop, lambda: program, lambda tool, stop: Counting(tool, stop, ask=lambda _: "")).count(CELL, placed())


def test_a_trial_has_counters_where_the_suite_asks_and_is_ok_without_them():
    """By a real worker of the engine fake, of which ncu has nothing to count."""
    stop, stages = Stop(), []
    bench = Bench(stop, stages.append)
    runner = Runner(Host("board"), bench, Metering((), "none in this test"), stop, stages.append, beside=beside())
    cell = Cell(prompt_tokens=64, output_tokens=8, model="stories15m", engine="fake")
    try:
        asked = runner.run(cell, Plan("campaign", "suite", MEASURE)).trial
        plain = runner.run(cell, Plan("campaign", "suite", msgspec.structs.replace(MEASURE, counters=False))).trial
    finally:
        bench.clear()
    assert asked.outcome is Outcome.OK and [each.phase for each in asked.counters] == [Phase.PREFILL, Phase.DECODE]
    assert {each.reason for each in asked.counters} == {
        "counters are read of engine transformers alone, and not of fake"
    }
    assert stages.count("counting by ncu") == 1
    assert plain.counters == ()


def test_options_win_over_the_suite():
    suite = cells.load("phases", {})
    assert (suite.measure.operators, suite.measure.counters) == (True, False)
    counting = msgspec.structs.replace(suite, measure=msgspec.structs.replace(suite.measure, counters=True))
    for words, plain, counted in (([], False, True), (["--counters"], True, True), (["--no-counters"], False, False)):
        args = app._parsed(["run", "phases", *words])
        found = [run_command._as_asked(each, args).measure for each in (suite, counting)]
        assert [each.counters for each in found] == [plain, counted]
        assert all(each.operators for each in found)


def test_the_estimate_has_two_minutes_a_cell_on_a_gpu_and_none_elsewhere():
    plain = msgspec.structs.replace(MEASURE, counters=False)

    def more_s(cell: Cell, rates: str) -> float:
        shape = models.preset("llama-3-8b")
        return estimate.cell_s(shape, cell, MEASURE, RATES[rates], True) - estimate.cell_s(
            shape, cell, plain, RATES[rates], True
        )

    assert more_s(CELL, "cuda") == pytest.approx(115)
    assert more_s(CELL, "cpu") == 0
    assert more_s(msgspec.structs.replace(CELL, phases="request"), "cuda") == 0
    assert more_s(msgspec.structs.replace(CELL, engine="onnxruntime"), "cuda") == 0
