"""The operator pass: every operator is found, parts sum to the whole, outputs stay; and what it lacks is said."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from agent import models
from agent.engines import create
from agent.orders import Load, Profile, ProfileOperators, Prompt
from agent.phases import Phases
from phasewatt import operators, prompt
from phasewatt.errors import EngineFailed
from phasewatt.fields import Phase
from phasewatt.profiles import OperatorProfile
from tests.fixtures.modes import FAMILIES, VOCABULARY, Setting, loaded, logits, tiny

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")

pytestmark = pytest.mark.usefixtures("one_thread")

PREFILL = ProfileOperators(phase=Phase.PREFILL, repetitions=2, kv_start=0, kv_end=12)
DECODE = ProfileOperators(phase=Phase.DECODE, repetitions=1, kv_start=12, kv_end=15, depth=12, steps=3)
WAYS = [
    ("llama", Setting()),
    ("llama with biases", Setting(fused=True, chunk=5)),
    ("qwen3", Setting(attention="grouped", dtype="bfloat16")),
    ("olmoe", Setting(experts="batched_mm", fused=True)),
    ("qwen2_moe", Setting()),
    ("mixtral", Setting(experts="eager", attention="eager")),
]


def phases_of(engine: Any, how: Setting, tokens: int = 12) -> Phases:
    """The loops of a prompt of `tokens`."""
    return Phases(engine, lambda count: prompt.token_ids(1, how.batch, count, VOCABULARY), how.batch, tokens)


@pytest.mark.parametrize(("family", "how"), WAYS, ids=str)
def test_every_operator_of_a_shape_is_found_and_no_other(family: str, how: Setting) -> None:
    """Dense and mixtures, in prefill and decode; all of it has an operator, and the parts are the whole."""
    engine = loaded(FAMILIES[family], how)
    before, _ = logits(engine)
    running = phases_of(engine, how)
    expected = {one.value for one in operators.costs(FAMILIES[family], how.dtype, operators.Pass(how.batch, 12, 0))}
    for order in (PREFILL, DECODE):
        profile = running.operators(order).profile
        assert {one.operator for one in profile.operators} == expected
        assert profile.unattributed_ns == 0 and profile.unattributed == ()
        assert sum(one.device_ns for one in profile.operators) == profile.busy_ns <= profile.elapsed_ns
        assert (profile.kv_start, profile.kv_end, profile.processor) == (order.kv_start, order.kv_end, "cpu")
    after, _ = logits(engine)
    assert torch.equal(before, after)


def test_launches_are_those_of_the_layers() -> None:
    """Two layers, two repetitions: as many products as the model has, in one pass over the prompt."""
    how = Setting(fused=True)
    profile = phases_of(loaded(tiny(), how), how).operators(PREFILL).profile
    launches = {one.operator: one.launches for one in profile.operators}
    products = {name: launches[name] for name in ("qkv_proj", "o_proj", "ffn_up", "ffn_down", "lm_head", "embedding")}
    assert products == {"qkv_proj": 4, "o_proj": 4, "ffn_up": 4, "ffn_down": 4, "lm_head": 2, "embedding": 2}


def test_experts_are_told_from_what_brings_tokens_to_them() -> None:
    """Two products and the gated activation, its product included, a layer and repetition."""
    how = Setting()
    profile = phases_of(loaded(FAMILIES["qwen3_moe"], how), how).operators(PREFILL).profile
    launches = {one.operator: one.launches for one in profile.operators}
    assert launches["experts"] == 2 * 2 * 4
    assert launches["dispatch"] > launches["experts"]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool) -> None:
    """Every `forward` its own again, and the library's functions too; after a failure as well."""
    from transformers.models.llama import modeling_llama

    from agent.engines import transformers_ranges

    how = Setting(fused=True)
    model = loaded(tiny(), how)._model
    before = {name: vars(part).get("forward") for name, part in model.named_modules()}
    rotation = modeling_llama.apply_rotary_pos_emb

    def within() -> None:
        with transformers_ranges.ranges(model, transformers_ranges.recorded):
            assert modeling_llama.apply_rotary_pos_emb is not rotation
            assert all("forward" in vars(part) for part, _ in transformers_ranges.parts(model))
            if fails:
                raise EngineFailed("lost")

    if fails:
        with pytest.raises(EngineFailed):
            within()
    else:
        within()
    assert {name: vars(part).get("forward") for name, part in model.named_modules()} == before
    assert modeling_llama.apply_rotary_pos_emb is rotation


def test_compiled_code_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its time is unattributed, with names, and the reason."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    how = Setting("compiled")
    profile = phases_of(loaded(tiny(), how), how).operators(DECODE).profile
    assert profile.operators == () and profile.unattributed_ns == profile.busy_ns > 0
    assert profile.unattributed and "aten::" in profile.unattributed[0].name
    assert profile.reason is not None and profile.reason.startswith("compiled: ")


def test_a_build_without_a_profiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile, with the reason; and the phase can be repeated afterwards."""
    monkeypatch.setattr(torch.profiler, "supported_activities", set)
    how = Setting()
    profile = phases_of(loaded(tiny(), how), how).operators(PREFILL).profile
    assert (profile.repetitions, profile.operators, profile.busy_ns) == (0, (), 0)
    assert profile.reason == "this build of torch cannot profile CPU"


def test_a_profiler_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another profiler holds the device."""

    def refuse(**_: Any) -> Any:
        raise RuntimeError("CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED\nmore")

    monkeypatch.setattr(torch.profiler, "profile", refuse)
    how = Setting()
    profile = phases_of(loaded(tiny(), how), how).operators(PREFILL).profile
    assert profile.reason == "the profiler failed: CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED"


class Event(NamedTuple):
    """An event as the profiler gives it; on the GPU where `gpu`."""

    named: str
    at_ns: int
    took_ns: int
    number: int
    linked: int = 0
    gpu: bool = False
    annotation: bool = False

    def name(self) -> str:
        return self.named

    def device_type(self) -> Any:
        kinds = torch._C._autograd.DeviceType
        return kinds.CUDA if self.gpu else kinds.CPU

    def start_thread_id(self) -> int:
        return 1

    def start_ns(self) -> int:
        return self.at_ns

    def duration_ns(self) -> int:
        return self.took_ns

    def correlation_id(self) -> int:
        return self.number

    def linked_correlation_id(self) -> int:
        return self.linked

    def is_user_annotation(self) -> bool:
        return self.annotation


HOST = [
    Event("phasewatt:other", 100, 800, 1, annotation=True),
    Event("phasewatt:qkv_proj", 200, 100, 2, annotation=True),
    Event("aten::linear", 210, 80, 3),
    Event("aten::mm", 220, 60, 4),
    Event("cudaLaunchKernel", 230, 5, 70),
    Event("cuLaunchKernelEx", 400, 5, 71),
    Event("cudaDeviceSynchronize", 990, 5, 72),
]
DEVICE = [
    Event("gemm", 1000, 50, 70, linked=4, gpu=True),
    Event("triton_add", 1060, 10, 71, gpu=True),  # launched by no operation of torch
    Event("phasewatt:qkv_proj", 1000, 50, 2, gpu=True, annotation=True),
]


def script(monkeypatch: pytest.MonkeyPatch, *passes: list[Event]) -> None:
    """Let the profiler see these events, pass by pass."""
    kinds = torch.profiler.ProfilerActivity
    monkeypatch.setattr(torch.profiler, "supported_activities", lambda: {kinds.CPU, kinds.CUDA})
    left = list(passes)

    class Profiler:
        def __init__(self, **_: Any) -> None:
            self.profiler = self.kineto_results = self
            self.events: Callable[[], list[Event]] = lambda: seen
            seen = left.pop(0)

        def __enter__(self) -> Profiler:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(torch.profiler, "profile", Profiler)


def on_a_gpu(launching: str, order: ProfileOperators = PREFILL) -> OperatorProfile:
    """The pass of a model that is said to run on a GPU in that way."""
    from agent.engines import operator_pass
    from agent.engines.transformers_modes import Launching

    engine = loaded(tiny(), Setting())
    engine._mode.launching = lambda phase: Launching[launching]
    on = operator_pass.Pass(engine._model, engine._mode, True, lambda: None)
    return operator_pass.profile(on, order, lambda: None)


def test_a_kernel_is_traced_to_its_launch_by_the_operation_or_by_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks that the profiler copies to the device are no kernels; busy and elapsed are of the pass without ranges."""
    bare = [event._replace(took_ns=event.took_ns - 5) for event in DEVICE[:2]]
    script(monkeypatch, bare, [*HOST, *DEVICE])
    profile = on_a_gpu("ONE_BY_ONE")
    assert [(one.operator, one.device_ns) for one in profile.operators] == [("qkv_proj", 50), ("other", 10)]
    assert (profile.busy_ns, profile.elapsed_ns, profile.unattributed_ns, profile.reason) == (50, 65, 0, None)


def test_events_that_were_dropped_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch whose kernel is not in the trace."""
    script(monkeypatch, DEVICE[:1], [*HOST, *DEVICE[:1]])
    assert on_a_gpu("ONE_BY_ONE").reason == "truncated: 1 of 2 launches have no kernel in the trace"


def test_a_kernel_that_nobody_launched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unattributed, and not guessed by its name."""
    stranger = Event("mystery_kernel_sm999", 1100, 30, 99, gpu=True)
    script(monkeypatch, [*DEVICE[:2], stranger], [*HOST, *DEVICE, stranger])
    profile = on_a_gpu("ONE_BY_ONE")
    assert profile.unattributed_ns == 30
    assert [one.name for one in profile.unattributed] == ["mystery_kernel_sm999"]


def test_a_replay_has_its_operators_by_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own times, the operators of the same kernels launched one by one."""
    graph = Event("cudaGraphLaunch", 10, 5, 80)
    replayed = [
        event._replace(took_ns=event.took_ns * 2, at_ns=event.at_ns * 2, number=80, linked=0) for event in DEVICE[:2]
    ]
    script(monkeypatch, [graph, *replayed], [*HOST, *DEVICE])
    profile = on_a_gpu("REPLAYED", DECODE)
    assert [(one.operator, one.device_ns) for one in profile.operators] == [("qkv_proj", 100), ("other", 20)]
    assert profile.reason is None


def test_a_replay_of_other_kernels_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they part, and no operator."""
    replayed = [DEVICE[0], DEVICE[1]._replace(named="another")]
    script(monkeypatch, replayed, [*HOST, *DEVICE])
    profile = on_a_gpu("REPLAYED", DECODE)
    assert profile.operators == () and profile.unattributed_ns == profile.busy_ns == 60
    assert profile.reason == (
        "replayed: other kernels than where they are launched one by one: of 2 the 2. is 'another' and not 'triton_add'"
    )


def test_a_phase_in_which_nothing_was_seen_has_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the profiler has no access to the GPU."""
    script(monkeypatch, [], HOST)
    with pytest.raises(EngineFailed, match="the profiler saw no kernel: its access to the GPU may be restricted"):
        on_a_gpu("ONE_BY_ONE")


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_of_an_8b_model_the_parts_are_the_whole(mode: str) -> None:
    """Unattributed at most 3 %, and all operators within 5 % of the busy time of repetitions without ranges."""
    engine: Any = create("transformers")
    shape = models.named("llama-3-8b")
    order = Load(
        architecture=shape, weights="random:7", dtype="bfloat16", mode=mode, attention="sdpa", accelerator="cuda"
    )
    engine.load(order)
    engine.plan(Prompt(seed=1, batch=1, tokens=2048, threads=None, room=2100))
    running = Phases(engine, lambda count: prompt.token_ids(1, 1, count, shape.vocab_size), 1, 2048)
    asked = {
        Phase.PREFILL: ProfileOperators(phase=Phase.PREFILL, repetitions=3, kv_start=0, kv_end=2048),
        Phase.DECODE: ProfileOperators(
            phase=Phase.DECODE, repetitions=1, kv_start=600, kv_end=616, depth=600, steps=16
        ),
    }
    for phase, wanted in asked.items():
        bare = running.profile(Profile(phase=phase, repetitions=3, depth=wanted.depth, steps=wanted.steps))
        profile = running.operators(wanted).profile
        assert bare.busy_ns is not None, bare.reason
        known_ns = sum(one.device_ns for one in profile.operators)
        assert profile.unattributed_ns <= 0.03 * (known_ns + profile.unattributed_ns), profile.unattributed
        assert known_ns / wanted.repetitions == pytest.approx(statistics.median(bare.busy_ns), rel=0.05)
    engine.close()
