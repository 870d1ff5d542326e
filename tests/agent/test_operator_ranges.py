"""Ranges around operators: each operation of a real model falls into that of its operator, in both phases."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import pytest

from agent import engines, models
from agent.counters.workload import CountOrder, run
from agent.orders import Load, ProfileOperators, Prompt
from agent.phases import Phases
from phasewatt import prompt
from phasewatt.errors import EngineFailed
from phasewatt.fields import Phase

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")

MIXTURE = msgspec.structs.replace(
    models.preset("qwen1.5-moe-a2.7b"), hidden_size=32, heads=2, kv_heads=2, head_dim=16, vocab_size=64,
    intermediate_size=64, experts=msgspec.structs.replace(
        models.preset("qwen1.5-moe-a2.7b").experts, count=4, per_token=2, intermediate_size=16,
        shared_intermediate_size=32,
    ),
)  # fmt: skip
TINY = msgspec.structs.replace(models.preset("stories15m"), vocab_size=64)


class Recorder:
    """What is open, and which operations ran in what was innermost."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.ran: defaultdict[str, set[str]] = defaultdict(set)

    def range_push(self, name: str) -> None:
        self.open.append(name)

    def range_pop(self) -> None:
        self.open.pop()


def ordered(shape: object, fused: bool = False) -> tuple[Load, Prompt]:
    """Two layers of a model on the CPU, and a prompt."""
    load = Load(
        architecture=msgspec.structs.replace(shape, layers=2), weights="random:1", dtype="float32", mode="eager",
        attention="sdpa", accelerator="cpu", fused_weights=fused,
    )  # fmt: skip
    return load, Prompt(seed=1, batch=1, tokens=8, threads=None, room=16)


def ran(shape: object, fused: bool = False) -> Recorder:
    """Two layers of a model run on the CPU under a recorder, as ncu would see it on a GPU."""
    from torch.utils._python_dispatch import TorchDispatchMode

    recorder = Recorder()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if recorder.open:
                recorder.ran[recorder.open[-1]].add(str(func).split(".")[1])
            return func(*args, **(kwargs or {}))

    load, asked = ordered(shape, fused)
    order = CountOrder(load=load, prompt=asked, answer="")
    with Watch():
        run(order, engines.create("transformers"), recorder)
    assert recorder.open == []
    return recorder


def profiled(shape: object) -> set[str]:
    """The operators of a prefill by torch's profiler."""
    engine = engines.create("transformers")
    load, asked = ordered(shape)
    engine.load(load)
    engine.plan(asked)
    phases = Phases(engine, lambda count: prompt.token_ids(1, 1, count, shape.vocab_size), 1, asked.tokens)
    order = ProfileOperators(phase=Phase.PREFILL, repetitions=1, kv_start=0, kv_end=asked.tokens)
    return {one.operator for one in phases.operators(order).profile.operators}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_each_operation_is_of_its_operator(phase, fused):
    found = ran(TINY, fused).ran
    assert all("mm" in found[f"{phase}.{name}"] for name in ("qkv_proj", "o_proj", "ffn_up", "ffn_down", "lm_head"))
    assert any("attention" in operation for operation in found[f"{phase}.attn_core"])
    assert {"silu", "mul"} <= found[f"{phase}.act"]
    assert {"rsqrt", "mean"} <= found[f"{phase}.norm"]
    assert {"cos", "neg"} <= found[f"{phase}.rotary"]
    assert "embedding" in found[f"{phase}.embedding"]
    assert "argmax" in found[f"{phase}.sampling"]
    assert "add" in found[f"{phase}.other"]


def test_nothing_is_of_a_phase_without_an_operator():
    assert all("." in name for name in ran(TINY).ran)


def test_what_is_outside_of_the_model_is_sampling_by_its_operation_alone():
    """As torch's profiler tells it: a view of the logits is none of the choice."""
    found = ran(TINY).ran
    assert found["prefill.sampling"] == {"argmax"}
    assert "select" in found["prefill.other"]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_mixture_has_its_router_experts_and_what_brings_tokens_to_them(phase):
    found = ran(MIXTURE).ran
    assert {"softmax", "_softmax"} & found[f"{phase}.router"]
    assert {"silu", "mul"} <= found[f"{phase}.experts"]
    assert {"sort", "index_select", "index"} & found[f"{phase}.dispatch"]
    assert "silu" not in found[f"{phase}.dispatch"]
    assert "mm" in found[f"{phase}.ffn_up"]  # of the shared expert


def test_both_passes_tell_the_same_operators():
    """The same model under torch's profiler: every operator that one of them finds in a prefill, both find."""
    for shape in (TINY, MIXTURE):
        marked = {name.partition(".")[2] for name in ran(shape).ran if name.startswith("prefill.")}
        assert marked == profiled(shape)


def test_the_model_is_as_it_was_afterwards():
    from transformers.models.llama import modeling_llama

    before = modeling_llama.apply_rotary_pos_emb
    ran(TINY)
    assert modeling_llama.apply_rotary_pos_emb is before


def test_a_gpu_that_is_not_there_is_the_workloads_failure():
    if torch.cuda.is_available():
        pytest.skip("needs a host without a GPU: what it tests is that there is none")
    load = Load(
        architecture=TINY, weights="random:1", dtype="float32", mode="eager", attention="sdpa", accelerator="cuda"
    )
    order = CountOrder(load=load, prompt=Prompt(seed=1, batch=1, tokens=8, threads=None, room=16), answer="")
    with pytest.raises(EngineFailed, match="no CUDA device"):
        run(order, engines.create("transformers"), Recorder())
