"""Roofline: parameters as published, and FLOPs and bytes of a shape small enough to count by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatt import roofline
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Phase
from phasewatt.work import Architecture, Experts
from tests.fixtures.records import architecture, changed, task

PUBLISHED = {
    # Each count is that of the model's safetensors on its own page.
    "Llama-3-8B": (
        Architecture(
            name="", family="llama", hidden_size=4096, layers=32, heads=32, kv_heads=8, head_dim=128,
            intermediate_size=14336, vocab_size=128256, max_position=8192,
        ),
        8_030_261_248,
    ),
    "Qwen2.5-0.5B, tied, biased": (
        Architecture(
            name="", family="qwen2", hidden_size=896, layers=24, heads=14, kv_heads=2, head_dim=64,
            intermediate_size=4864, vocab_size=151936, max_position=32768, tied_embeddings=True, qkv_bias=True,
        ),
        494_032_768,
    ),
    "SmolLM2-135M, tied": (
        Architecture(
            name="", family="llama", hidden_size=576, layers=30, heads=9, kv_heads=3, head_dim=64,
            intermediate_size=1536, vocab_size=49152, max_position=8192, tied_embeddings=True,
        ),
        134_515_008,
    ),
    "Qwen3-0.6B, head_dim of its own, normed queries and keys": (
        Architecture(
            name="", family="qwen3", hidden_size=1024, layers=28, heads=16, kv_heads=8, head_dim=128,
            intermediate_size=3072, vocab_size=151936, max_position=40960, tied_embeddings=True, qk_norm=True,
        ),
        596_049_920,
    ),
    "Mixtral-8x7B, a mixture": (
        Architecture(
            name="", family="mixtral", hidden_size=4096, layers=32, heads=32, kv_heads=8, head_dim=128,
            intermediate_size=14336, vocab_size=32000, max_position=32768,
            experts=Experts(count=8, per_token=2, intermediate_size=14336),
        ),
        46_702_792_704,
    ),
    "Qwen1.5-MoE-A2.7B, a mixture with a shared expert": (
        Architecture(
            name="", family="qwen2_moe", hidden_size=2048, layers=24, heads=16, kv_heads=16, head_dim=128,
            intermediate_size=5632, vocab_size=151936, max_position=8192, qkv_bias=True,
            experts=Experts(count=60, per_token=4, intermediate_size=1408, shared_intermediate_size=5632),
        ),
        14_315_784_192,
    ),
}  # fmt: skip

# The tiny shape by hand: queries 8x8, keys and values 2 x 8x4, output 8x8; gate, up and down 8x16 each; two layers.
ATTENTION = 64 + 2 * 32 + 64
FFN = 3 * 128
LAYERS = 2 * (ATTENTION + FFN)
HEAD = 8 * 32


@pytest.mark.parametrize(("shape", "parameters"), PUBLISHED.values(), ids=PUBLISHED)
def test_parameters_are_as_published(shape, parameters):
    assert roofline.parameter_count(shape) == parameters


def test_parameters_of_the_tiny_shape():
    """Two embeddings of 32 x 8, two norms a layer, one at the end."""
    assert roofline.parameter_count(architecture()) == 2 * HEAD + LAYERS + 2 * 16 + 8
    assert roofline.parameter_count(architecture(tied_embeddings=True)) == HEAD + LAYERS + 2 * 16 + 8


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_weights_and_cache_in_bytes(dtype, size):
    shape = architecture()
    assert roofline.weight_bytes(shape, dtype) == size * roofline.parameter_count(shape)
    assert roofline.kv_bytes_per_token(shape, dtype) == 2 * 2 * 1 * 4 * size  # K and V, two layers, one head of four


def test_parameters_beside_the_products_are_counted():
    """Norms over all heads at once, 8 + 4 instead of 4 + 4 a layer, and a bias of 8 in the output product."""
    plain = roofline.parameter_count(architecture(qk_norm=True))
    assert roofline.parameter_count(architecture(qk_norm=True, qk_norm_joint=True)) == plain + 2 * (8 + 4 - 2 * 4)
    assert roofline.parameter_count(architecture(output_bias=True)) == roofline.parameter_count(architecture()) + 2 * 8


def test_a_token_meets_all_but_the_other_experts():
    """Three of four, each three products of 8 x 16, in two layers."""
    shape = architecture(experts=Experts(count=4, per_token=1, intermediate_size=16))
    assert roofline.parameter_count(shape) - roofline.active_parameter_count(shape) == 2 * 3 * FFN
    assert roofline.active_parameter_count(architecture()) == roofline.parameter_count(architecture())


def test_unknown_dtype_is_named_with_those_known():
    with pytest.raises(ConfigInvalid, match=r"float32.*bfloat16.*'int3'"):
        roofline.element_bytes("int3")


def test_flops_of_a_prefill_by_hand():
    """Four tokens: each multiplies the layers' matrices; token i meets i keys and i values; one meets the head."""
    attention = 2 * 2 * (2 * 4) * (1 + 2 + 3 + 4) * 2  # 2 FLOPs, scores and values, 2 heads of 4, pairs, 2 layers
    expected = 2 * LAYERS * 4 + attention + 2 * HEAD
    assert roofline.phase_flops(task(), Phase.PREFILL, 0, 4) == expected


def test_flops_of_decode_steps_by_hand():
    """Three steps on four tokens: they meet 5, 6 and 7, and each meets the head."""
    attention = 2 * 2 * (2 * 4) * (5 + 6 + 7) * 2
    expected = 2 * LAYERS * 3 + attention + 2 * HEAD * 3
    assert roofline.phase_flops(task(), Phase.DECODE, 4, 7) == expected


def test_bytes_of_a_prefill_by_hand():
    """The matrices once, and the keys and values of four tokens written."""
    assert roofline.phase_bytes(task(), "bfloat16", Phase.PREFILL, 0, 4) == 2 * (LAYERS + HEAD) + 4 * 32


def test_bytes_of_decode_steps_by_hand():
    """The matrices once a step; 4, 5 and 6 tokens read; three written."""
    expected = 3 * 2 * (LAYERS + HEAD) + (4 + 5 + 6 + 3) * 32
    assert roofline.phase_bytes(task(), "bfloat16", Phase.DECODE, 4, 7) == expected


def test_batch_multiplies_the_work_and_the_cache_but_not_the_weights():
    one, four = task(), task(batch=4)
    assert roofline.phase_flops(four, Phase.DECODE, 4, 7) == 4 * roofline.phase_flops(one, Phase.DECODE, 4, 7)
    weights = 3 * 4 * (LAYERS + HEAD)
    cache = roofline.phase_bytes(one, "float32", Phase.DECODE, 4, 7) - weights
    assert roofline.phase_bytes(four, "float32", Phase.DECODE, 4, 7) == weights + 4 * cache


def test_a_token_of_a_mixture_meets_its_own_experts_only():
    """One of four experts, width 16 as the dense shape: the same work and the router's 8 x 4 a layer."""
    mixture = task(architecture=architecture(experts=Experts(count=4, per_token=1, intermediate_size=16)))
    router = 2 * 2 * (8 * 4) * 4
    dense = roofline.phase_flops(task(), Phase.PREFILL, 0, 4)
    assert roofline.phase_flops(mixture, Phase.PREFILL, 0, 4) == dense + router


def mixture_bytes(batch, phase, kv_start, kv_end):
    """Bytes in units of experts of both layers, less what is read of the rest: one of four, width 16."""
    shape = architecture(experts=Experts(count=4, per_token=1, intermediate_size=16))
    asked = task(architecture=shape, batch=batch)
    rest = 2 * (2 * (ATTENTION + 8 * 4) + HEAD)
    cache = batch * 32 * (4 if phase is Phase.PREFILL else kv_start + 1)
    return (roofline.phase_bytes(asked, "bfloat16", phase, kv_start, kv_end) - rest - cache) / (2 * 2 * FFN)


def test_a_pass_reads_the_experts_that_its_tokens_are_expected_to_meet():
    """One token, one; two tokens, one and three quarters; a prompt of four, 4 - 4 x (3/4)^4; many, all."""
    assert mixture_bytes(1, Phase.DECODE, 4, 5) == 1
    assert mixture_bytes(2, Phase.DECODE, 4, 5) == pytest.approx(1.75, abs=1e-3)
    assert mixture_bytes(1, Phase.PREFILL, 0, 4) == pytest.approx(4 - 4 * 0.75**4, abs=1e-3)
    assert mixture_bytes(500, Phase.DECODE, 4, 5) == pytest.approx(4, abs=1e-3)


@given(st.integers(1, 200), st.integers(1, 200))
def test_decode_in_two_stretches_is_decode_in_one(first, second):
    stretches = [(0, first), (first, first + second)]
    whole = (0, first + second)
    for count in (
        lambda start, end: roofline.phase_flops(task(), Phase.DECODE, start, end),
        lambda start, end: roofline.phase_bytes(task(), "float16", Phase.DECODE, start, end),
    ):
        assert sum(count(*stretch) for stretch in stretches) == count(*whole)


@pytest.mark.parametrize("phase", [Phase.REQUEST, Phase.IDLE])
def test_a_mixture_of_phases_has_no_single_figure(phase):
    with pytest.raises(ValueError, match=phase.value):
        roofline.phase_flops(task(), phase, 0, 4)


def test_needed_memory_holds_weights_cache_and_activations():
    asked = task(batch=2)
    weights_and_cache = roofline.weight_bytes(architecture(), "float32") + 2 * (4 + 3) * 64
    needed = roofline.needed_bytes(asked, "float32")
    assert weights_and_cache < needed < weights_and_cache + 4 * 2 * 4 * 100
    assert roofline.needed_bytes(task(batch=4), "float32") > needed


def test_needed_memory_knows_chunks_scores_and_experts():
    """A chunk bounds the activations; scores of every pair widen them; each expert gets a copy of its token."""
    long = task(prompt_tokens=4000)
    whole = roofline.needed_bytes(long, "float32")
    assert roofline.needed_bytes(long, "float32", chunk=500) < whole
    assert roofline.needed_bytes(long, "float32", chunk=9999) == whole
    assert roofline.needed_bytes(long, "float32", scores=True) > whole + 4 * 2 * 4000 * 4000
    mixture = architecture(experts=Experts(count=4, per_token=4, intermediate_size=16))
    wider = roofline.needed_bytes(changed(long, architecture=mixture), "float32")
    assert wider - roofline.weight_bytes(mixture, "float32") > whole - roofline.weight_bytes(architecture(), "float32")
