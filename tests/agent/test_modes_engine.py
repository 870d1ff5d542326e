"""Modes of the transformers engine: each computes what eager computes, or says in one line why it cannot."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from phasewatt import roofline
from phasewatt.errors import EngineFailed
from tests.fixtures.modes import FAMILIES, STEPS, TOLERANCE, Setting, difference, loaded, logits, order, place, tiny

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")

pytestmark = pytest.mark.usefixtures("one_thread")

SLOW_S = 600  # of compilation, where other work takes the machine's time
COMPILED = pytest.mark.timeout(SLOW_S)


@pytest.fixture(autouse=True)
def one_compiler() -> Iterator[None]:
    """Compile in this process and without vector instructions, whose trials take longer than these models do."""
    import torch._inductor.config

    plain = {"compile_threads": 1, "cpp.vec_isa_ok": True, "cpp.simdlen": 0}
    logging.getLogger("torch.__trace").propagate = False  # what it tells at level 0 would be kept line by line
    with torch._inductor.config.patch(plain):
        yield


def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mode compiled run its functions as they are: what surrounds the compiler is tested without its time."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


@COMPILED
@pytest.mark.parametrize(
    "how",
    [
        Setting("compiled", "float32"),
        Setting("compiled", "bfloat16", attention="grouped", chunk=5, fused=True),
    ],
    ids=["float32", "bfloat16, grouped, fused, in chunks"],
)
def test_compiled_logits_are_those_of_eager(how: Setting) -> None:
    """Prefill and forced steps, with the compiler that this host has; one layer, for each takes seconds to compile."""
    assert difference(tiny(layers=1), how) <= TOLERANCE[how.dtype]


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"attention": "eager"},
        {"attention": "grouped"},
        {"chunk": 5},
        {"chunk": 64},
        {"fused": True},
        {"dtype": "bfloat16", "fused": True, "attention": "grouped", "chunk": 4},
        {"dtype": "float16", "batch": 3},
    ],
    ids=str,
)
def test_settings_change_no_logits(mode: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention, chunks, fused weights and a cache of fixed size: the same work, in every dtype."""
    uncompiled(monkeypatch)
    how = Setting(mode, **fields)
    assert difference(tiny(), how) <= TOLERANCE[how.dtype]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_fused_and_in_a_fixed_cache(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases, norms of queries and keys, mixtures with and without a shared expert."""
    uncompiled(monkeypatch)
    assert difference(FAMILIES[family], Setting("compiled", fused=True, chunk=7)) <= TOLERANCE["float32"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_model_of_every_family_has_the_parameters_of_its_shape(family: str) -> None:
    """And random weights of a mixture are drawn for every expert: the same digest twice, and no zeros."""
    engine = loaded(FAMILIES[family], Setting())
    told = engine.load(order(FAMILIES[family], Setting()))
    assert told.parameters == roofline.parameter_count(FAMILIES[family])
    assert told.weights_digest == loaded(FAMILIES[family], Setting())._loaded[1].weights_digest
    assert all(
        float(parameter.abs().sum()) > 0 for name, parameter in engine._model.named_parameters() if "bias" not in name
    )
    assert (told.experts is None) == (FAMILIES[family].experts is None)


def test_fused_weights_are_the_same_weights() -> None:
    """Known by the digest of the split ones, and as many."""
    split, fused = (loaded(tiny(), Setting(fused=fused)) for fused in (False, True))
    assert split._loaded[1].weights_digest == fused._loaded[1].weights_digest
    assert split._loaded[1].parameters == fused._loaded[1].parameters == roofline.parameter_count(tiny())
    names = [name for name, _ in fused._model.named_parameters()]
    assert [name for name in names if "q_proj" in name or "gate_proj" in name] == []


def test_experts_are_computed_as_asked_and_told() -> None:
    """The library's choice is named too."""
    shape = FAMILIES["qwen3_moe"]
    chosen = loaded(shape, Setting(experts="batched_mm"))
    assert chosen._loaded[1].experts == "batched_mm"
    assert loaded(shape, Setting())._loaded[1].experts == "grouped_mm"
    assert difference(shape, Setting(experts="batched_mm")) <= TOLERANCE["float32"]
    with pytest.raises(EngineFailed, match=r"cannot be built: .*no_such"):
        loaded(shape, Setting(experts="no_such"))


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_a_fixed_cache_is_cropped_to_any_depth(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that grows is: the same token at the same depth gives the same logits."""
    uncompiled(monkeypatch)
    engine = loaded(tiny(), Setting(mode))
    engine.reset()
    first = engine.prefill()
    seen = []
    for _ in range(3):
        engine.decode_one(engine.decode_one(first))
        engine.crop(12)
        engine.decode_one(first)
        seen.append(engine._mode.logits.clone())
        engine.crop(12)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])
    engine.crop(400)  # nothing is beyond it


def test_a_fixed_cache_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the host, before the device would write beyond its end."""
    uncompiled(monkeypatch)
    engine = loaded(tiny(), Setting("compiled"))
    engine.reset()
    token = engine.prefill()
    for _ in range(STEPS + 1):
        token = engine.decode_one(token)
    with pytest.raises(EngineFailed, match="the cache of fixed size is full: 18 tokens"):
        engine.decode_one(token)


def test_a_prompt_that_only_fills_the_cache_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another depth for decode: no second compilation, and the same logits as at that length by itself."""
    made: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: made.append(function) or function)
    engine = loaded(tiny(), Setting("compiled"))
    assert len(made) == 3  # the step, a whole prompt, later chunks
    from phasewatt import prompt

    engine.set_prompt(prompt.token_ids(1, 2, 15, 256), 2)
    engine.prefill()
    engine.decode_one(engine.prefill())
    assert len(made) == 3
    expected, _ = logits(loaded(tiny(), Setting(), tokens=15))
    assert torch.allclose(engine._mode.logits[:, 0], expected[:, 1], atol=1e-5)


def test_another_mode_keeps_the_weights_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep over modes loads a model once; another attention is another model."""
    uncompiled(monkeypatch)
    engine = loaded(tiny(), Setting())
    model = engine._model
    engine.load(order(tiny(), Setting("compiled")))
    assert engine._model is model
    engine.load(order(tiny(), Setting("compiled", attention="eager")))
    assert engine._model is not model


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mode": "graph"}, "mode graph needs an NVIDIA GPU.*choose eager or compiled"),
        ({"mode": "fast"}, "no mode 'fast'; known: eager, graph, compiled"),
        ({"attention": "flash_attention_2"}, "attention flash_attention_2 needs an NVIDIA GPU; choose sdpa"),
        ({"attention": "fast"}, "no attention 'fast'; known: eager, sdpa, grouped, flash_attention_2"),
        ({"tf32": True}, "tf32 needs an NVIDIA GPU of compute capability 8.0"),
    ],
    ids=str,
)
def test_what_cannot_run_here_is_refused_in_one_line(fields: dict[str, Any], said: str) -> None:
    """Never something else in silence."""
    with pytest.raises(EngineFailed, match=said):
        loaded(tiny(), Setting(**fields))


def test_without_a_compiler_mode_compiled_is_refused() -> None:
    """By the names that the compiler would be looked for under."""
    import torch._inductor.config

    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(EngineFailed, match=r"needs a C\+\+ compiler, and none of no-such-compiler is on the PATH"),
    ):
        loaded(tiny(), Setting("compiled"))


def test_a_compilation_that_fails_is_the_cells_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its reason; the engine goes on in another mode."""

    def broken(function: Any, **_: Any) -> Any:
        def run(*arguments: Any) -> Any:
            raise RuntimeError("C++ compile error\nmuch more")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(EngineFailed, match=r"the decode step cannot be compiled: RuntimeError: C\+\+ compile error$"):
        loaded(tiny(), Setting("compiled"))
    monkeypatch.undo()
    engine = loaded(tiny(), Setting())
    assert engine.prefill().shape == (2, 1)


@pytest.mark.gpu
@COMPILED
@pytest.mark.parametrize("mode", ["graph", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("fields", [{}, {"fused": True, "attention": "grouped", "chunk": 5}, {"batch": 1}], ids=str)
def test_logits_on_a_gpu_are_those_of_eager(mode: str, dtype: str, fields: dict[str, Any]) -> None:
    """Graphs and compiled code with real kernels; batch 1 takes the compiler's way for one row."""
    assert difference(tiny(), Setting(mode, dtype, accelerator="cuda", **fields)) <= TOLERANCE[dtype]


@pytest.mark.gpu
@COMPILED
@pytest.mark.parametrize("mode", ["graph", "compiled"])
@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "qwen3_moe", "mixtral"])
def test_mixtures_on_a_gpu_are_those_of_eager(mode: str, family: str) -> None:
    """In float32, where rounding does not change the routing, with experts whose kernels wait for nothing."""
    how = Setting(mode, "float32", accelerator="cuda", experts="batched_mm")
    assert difference(FAMILIES[family], how) <= TOLERANCE["float32"]


@pytest.mark.gpu
@COMPILED
@pytest.mark.parametrize("mode", ["graph", "compiled"])
def test_grouped_experts_are_captured(mode: str) -> None:
    """In bfloat16, as they are run; a token may be routed otherwise than in eager where experts are nearly equal."""
    found, _ = logits(loaded(FAMILIES["qwen3_moe"], Setting(mode, "bfloat16", accelerator="cuda")))
    assert bool(torch.isfinite(found).all()) and float(found.std()) > 0


@pytest.mark.gpu
@COMPILED
@pytest.mark.parametrize("mode", ["graph", "compiled"])
def test_a_step_on_a_gpu_is_replayed_without_waiting(mode: str) -> None:
    """A loop of steps is asked for faster than it runs, and gives each token to the next step on the device."""
    engine = loaded(tiny(), Setting(mode, "bfloat16", accelerator="cuda"))
    engine.reset()
    token = engine.prefill()
    fed = [engine.decode_one(token) for _ in range(2)]
    assert fed[0] is fed[1]  # one buffer: no copy in a loop
    engine.crop(12)
    place(engine, Setting(mode, "bfloat16", accelerator="cuda"))
    assert engine.prefill().is_cuda


@pytest.mark.gpu
def test_a_step_that_waits_for_the_host_cannot_be_captured() -> None:
    """It is a failed cell with its reason, and the GPU is usable afterwards."""
    from agent.engines.transformers_graph import captured

    position = torch.zeros(1, dtype=torch.int64, device="cuda")

    def waits() -> Any:
        position.add_(1)
        return torch.zeros(int(position), device="cuda")  # reads the device

    with pytest.raises(EngineFailed, match=r"cannot be captured as a CUDA graph: ."):
        captured(waits, position)
    assert int(torch.ones(2, device="cuda").sum()) == 2


@pytest.mark.gpu
def test_tf32_is_switched_both_ways() -> None:
    """And told: a product of float32 differs where it is on."""
    on = loaded(tiny(), Setting(accelerator="cuda", tf32=True))
    assert torch.get_float32_matmul_precision() == "high"
    assert on.load(order(tiny(), Setting(accelerator="cuda", tf32=True))).tf32 is True
    assert on.load(order(tiny(), Setting(accelerator="cuda"))).tf32 is False
    assert torch.get_float32_matmul_precision() == "highest"
