"""A model that several ranks share: the same numbers as on one, and every way in which it cannot be."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import bench as bench_module
from agent import memory, models, plans
from agent.bench import Bench
from agent.cells import Cell
from agent.engines import create
from agent.estimate import task_of
from agent.orders import Load, MeasureMemory, Memory, Prompt, Repeat, Repeated, Resolve
from agent.rank import Join
from agent.stopping import Stop
from phasewatt import prompt, roofline
from phasewatt.errors import DoesNotFit, EngineFailed
from phasewatt.fields import Phase
from phasewatt.work import Architecture
from tests.fixtures.modes import FAMILIES, Setting, order, tiny

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")

pytestmark = pytest.mark.usefixtures("one_thread")

from agent.engines import rank_follower, ranks, tensor_parallel, weights  # noqa: E402 - they need torch
from agent.engines.rank_calls import Done, Prompted, Stepped  # noqa: E402
from agent.engines.ranks import Led  # noqa: E402
from agent.engines.tensor_parallel import Rank  # noqa: E402
from agent.engines.transformers_model import build  # noqa: E402

_TOKENS, _STEPS = 12, 6
QWEN2 = tiny("qwen2", qkv_bias=True)
ON_GPUS = pytest.param("cuda", "graph", id="graph on GPUs", marks=pytest.mark.gpu)


def sharing(shape: Architecture, count: int, accelerator: str = "cpu", mode: str = "eager") -> Load:
    """The order to load `shape` on so many ranks."""
    return msgspec.structs.replace(order(shape, Setting(mode, accelerator=accelerator)), tensor_parallel=count)


class Ran:
    """What a model on so many ranks gave, with an engine of its own."""

    def __init__(self, shape: Architecture, count: int, accelerator: str = "cpu", mode: str = "eager") -> None:
        if accelerator == "cuda" and torch.cuda.device_count() < count:
            pytest.skip(f"this host has fewer than {count} GPUs")
        self.engine: Any = create("transformers")
        try:
            self.loaded = self.engine.load(sharing(shape, count, accelerator, mode))
            self.engine.plan(Prompt(seed=1, batch=2, tokens=_TOKENS, threads=1, room=_TOKENS + _STEPS))
            self.engine.set_prompt(prompt.token_ids(1, 2, _TOKENS, shape.vocab_size), 2)
            self.tokens, self.logits = self._run()
            self.again, _ = self._run()
            self.memory = self.engine.memory()
        finally:
            self.engine.close()

    def _run(self) -> tuple[list[Any], Any]:
        """Prefill, steps, and once more the step after the prefill, on a cache that was cropped."""
        engine = self.engine
        engine.reset()
        first = token = engine.prefill()
        tokens, logits = [token.tolist()], [engine._ready.logits.float().cpu()]
        for _ in range(_STEPS - 1):
            token = engine.decode_one(token)
            tokens.append(token.tolist())
            logits.append(engine._ready.logits.float().cpu())
        engine.crop(_TOKENS)
        tokens.append(engine.decode_one(first).tolist())
        return tokens, torch.cat(logits, dim=1)


@pytest.mark.parametrize(("accelerator", "mode"), [("cpu", "eager"), ON_GPUS])
@pytest.mark.parametrize("shape", [QWEN2, FAMILIES["llama"]], ids=["biases, a head of its own", "tied head"])
def test_two_ranks_give_the_logits_of_one(shape: Architecture, accelerator: str, mode: str) -> None:
    """With the same weights, parameters and tokens, time after time; memory is of both."""
    one, two = Ran(shape, 1, accelerator, mode), Ran(shape, 2, accelerator, mode)
    assert two.tokens == one.tokens
    assert two.tokens[1] == two.tokens[-1], "the step after the prefill, on a cropped cache"
    assert two.again == two.tokens
    assert float((two.logits - one.logits).abs().max() / one.logits.abs().max()) < 1e-5
    assert two.loaded.weights_digest == one.loaded.weights_digest
    assert two.loaded.parameters == one.loaded.parameters
    assert (len(one.loaded.ranks), len(two.loaded.ranks)) == (0, 1)
    assert two.memory.host_peak_bytes > 1.2 * one.memory.host_peak_bytes


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_draws_its_part_of_what_is_drawn_on_the_device(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large models, whose weights never lie on the host: the same numbers as the whole model's."""
    monkeypatch.setattr(weights, "DRAWN_ON_CPU_LIMIT", 0)
    cpu = torch.device("cpu")
    whole = dict(build(sharing(QWEN2, 1), cpu).model.named_parameters())
    built = build(sharing(QWEN2, 2), cpu, Rank(number, 2))
    assert (built.digest, built.drawn_on) == (None, "device")
    halves = 0
    for name, part in built.model.named_parameters():
        cut = [mine < full for mine, full in zip(part.shape, whole[name].shape, strict=True)]
        axis = cut.index(True) if any(cut) else None
        expected = whole[name] if axis is None else whole[name].chunk(2, dim=axis)[number]
        assert torch.equal(part, expected), name
        halves += axis is not None
    assert halves == 2 * (3 + 3 + 1 + 3) + 1, "q, k and v with biases, o, gate, up and down of two layers; the head"


@pytest.mark.parametrize(
    ("shape", "count", "fields", "reason"),
    [
        (
            FAMILIES["mixtral"],
            2,
            {},
            "not for tiny mixtral; known are dense models of the families llama, qwen2, qwen3",
        ),
        (tiny(heads=3, kv_heads=3), 2, {}, "tiny llama has 3 query heads, which 2 do not divide"),
        (tiny(), 4, {}, "tiny llama has 2 key and value heads, which 4 do not divide"),
        (tiny(intermediate_size=129), 2, {}, "129 units in its feed-forward part, which 2 do not divide"),
        (tiny(), 2, {"mode": "compiled"}, "not in mode compiled; choose eager or graph"),
        (tiny(), 2, {"quantization": "int8"}, "not with quantized weights"),
        (tiny(), 2, {"fused_weights": True}, "not with fused_weights"),
    ],
    ids=["mixture", "heads", "key heads", "units", "compiled", "quantized", "fused"],
)
def test_what_ranks_cannot_share_is_refused_before_any_starts(
    shape: Architecture, count: int, fields: dict[str, Any], reason: str
) -> None:
    load = msgspec.structs.replace(sharing(shape, count), **fields)
    with pytest.raises(EngineFailed) as said:
        create("transformers").load(load)  # type: ignore[union-attr]
    assert reason in str(said.value)


def test_a_bias_that_would_be_summed_is_refused() -> None:
    with pytest.raises(EngineFailed, match=r"self_attn\.o_proj has a bias, which a sum over ranks would take several"):
        build(sharing(FAMILIES["llama with biases"], 2), torch.device("cpu"), Rank(0, 2))


def test_more_gpus_than_there_are_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    order_ = Resolve(model="stories15m", weights="random:7", accelerator="cuda", tensor_parallel=2)
    with pytest.raises(EngineFailed, match="tensor_parallel = 2 needs 2 GPUs, and torch sees 1"):
        create("transformers").describe(order_)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A model on two ranks, in the processes that a trial has."""
    made = Bench(Stop(), lambda stage: None)
    yield made
    made.clear()


def test_a_rank_that_ends_takes_the_engine_with_it_and_is_named(bench: Bench) -> None:
    """Its leader would wait for its sum for ever. Until then the cell is measured as on one; nothing is left of it."""
    cell = Cell(prompt_tokens=8, output_tokens=4, model="stories15m", tensor_parallel=2, accelerator="cpu", threads=1)
    work = bench.place(cell).work
    assert work is not None
    assert work.weights.parameters == roofline.parameter_count(models.preset("stories15m"))
    assert len(bench.ranks) == 1
    ask = Repeat(phase=Phase.DECODE, repetitions=2, seconds=0, limit_s=60, depth=8, steps=3)
    assert len(bench.ask(ask, Repeated, 120).durations_ns) == 2
    assert bench.ask(MeasureMemory(), Memory, 60).use.host_peak_bytes
    assert bench._meeting is not None
    folder = Path(bench._meeting.name)
    assert folder.is_dir()
    os.kill(bench.ranks[0], signal.SIGKILL)

    def on_and_on() -> None:
        for _ in range(100):
            bench.ask(ask, Repeated, 60)

    with pytest.raises(DoesNotFit, match="rank 1 of 2 was killed, as the kernel does when memory runs out"):
        on_and_on()
    bench.clear()
    assert not folder.exists()


def test_a_rank_whose_leader_has_gone_ends_at_once() -> None:
    """Before it imports what takes its time: it would wait for the others for ten minutes."""
    join = msgspec.json.encode(Join(1, 2, "cpu", "/nonexistent", leader=1)).decode()
    done = subprocess.run(
        [sys.executable, "-m", "agent.rank", join], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, "the leader of this rank has ended\n")


def test_a_load_that_is_refused_leaves_an_engine_that_works() -> None:
    """Mode graph on a CPU: the rank that refused it too is not left to end the engine later."""
    engine: Any = create("transformers")
    with pytest.raises(EngineFailed, match="mode graph needs an NVIDIA GPU"):
        engine.load(sharing(tiny(layers=1), 2, mode="graph"))
    assert engine._ranks is None
    assert engine.load(sharing(tiny(layers=1), 1)).ranks == ()
    engine.close()


@pytest.mark.parametrize(
    ("weights_", "model", "accelerator", "fits"),
    [
        ("random:7", "llama-3-8b", "cuda", True),
        ("path:/models/llama", "llama-3-8b", "cuda", False),
        ("random:7", "smollm2-135m", "cuda", True),
    ],
    ids=["drawn on the GPUs", "from files", "small"],
)
def test_the_host_holds_whole_models_while_ranks_load(
    weights_: str, model: str, accelerator: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 GB of the host's memory are free, and 16 GB are a model of 8B parameters."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 20 * 10**9)
    cell = Cell(prompt_tokens=8, output_tokens=4, model=model, weights=weights_, dtype="bfloat16", tensor_parallel=2)
    said = bench_module._too_much_for_host(models.preset(model), cell)
    assert (said is None) == fits
    assert said is None or "that takes 32.1 GB, 20.0 GB are free" in said


def test_ranks_on_a_cpu_need_the_whole_model_each() -> None:
    shape = models.preset("qwen2.5-1.5b")
    cell = Cell(prompt_tokens=8, output_tokens=4, model="qwen2.5-1.5b", tensor_parallel=2)
    whole = roofline.weight_bytes(shape, "float32")
    task = task_of(shape, cell)
    assert bench_module.needed_bytes(task, cell, on_cpu=True) > 2 * whole
    assert whole < bench_module.needed_bytes(task, cell, on_cpu=False) < 1.6 * whole


class _Told:
    """Other ranks that only listen."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def tell(self, call: Any) -> None:
        self.calls.append(call)


class _Tokens:
    """A mode that gives a new token each time."""

    logits = None

    def prefill(self) -> Any:
        return torch.zeros(1)

    def decode_one(self, token: Any) -> Any:
        return torch.ones(1)


def test_only_a_token_that_all_ranks_hold_can_be_fed() -> None:
    told = _Told()
    led = Led(_Tokens(), told)  # type: ignore[arg-type]
    first = led.prefill()
    second = led.decode_one(first)
    led.decode_one(second)
    assert [call.of_prefill for call in told.calls if isinstance(call, Stepped)] == [True, False]
    with pytest.raises(EngineFailed, match="ranks hold no token but that of the last prefill and of the last step"):
        led.decode_one(torch.ones(1))


def test_a_rank_answers_what_went_wrong_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that waits in a sum is ended by that."""
    monkeypatch.setattr(rank_follower, "_PATIENCE_S", 0.0)
    calls = io.BytesIO(msgspec.json.encode(Prompted(ids=(1, 2), batch=1)) + b"\n")
    answers = io.BytesIO()
    with pytest.raises(SystemExit, match="'NoneType' object has no attribute 'set_prompt'"):
        rank_follower._follow(rank_follower.Follower(Rank(1, 2), torch.device("cpu")), calls, answers)
    assert "has no attribute" in (msgspec.json.decode(answers.getvalue(), type=Done).error or "")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (msgspec.json.encode(Done(error="OutOfMemoryError: CUDA out of memory", fits=False)), DoesNotFit),
        (msgspec.json.encode(Done(error="ValueError: no")), EngineFailed),
        (b"", EngineFailed),
    ],
    ids=["memory", "else", "it ended"],
)
def test_what_a_rank_answers_is_the_leaders_error(line: bytes, error: type[Exception]) -> None:
    class Follower:
        stdin, stdout = io.BytesIO(), io.BytesIO(line)

    leading = object.__new__(ranks.Ranks)
    leading.count, leading._followers = 2, [Follower()]  # type: ignore[list-item]
    leading._encoder, leading._answers = msgspec.json.Encoder(), msgspec.json.Decoder(Done)
    with pytest.raises(error, match="rank 1 of 2: ") as said, leading.together(Prompted(ids=(1,), batch=1)):
        pass
    assert type(said.value) is error


def test_ranks_are_part_of_cell_and_label() -> None:
    cell = Cell(prompt_tokens=8, output_tokens=4, tensor_parallel=2)
    assert " tensor=2 " in cell.label
    assert cell.model_key != msgspec.structs.replace(cell, tensor_parallel=1).model_key
    assert tensor_parallel.check(sharing(tiny(), 1)) is None


@pytest.mark.parametrize(("gpus", "reason"), [(1, "skipped: needs 2 GPUs, there is 1"), (2, None)])
def test_a_plan_says_that_there_are_too_few_gpus(gpus: int, reason: str | None) -> None:
    cell = Cell(prompt_tokens=8, output_tokens=4, tensor_parallel=2)
    assert plans._why_skipped(cell, models.preset("smollm2-135m"), 1, 2, gpus) == reason
    assert plans._why_skipped(cell, models.preset("smollm2-135m"), 1, 2, None) is None
