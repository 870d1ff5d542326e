"""What a profiled phase asked for: which attention is counted, and what is not known and said so."""

from __future__ import annotations

import pytest

from phasewatt.fields import Phase
from phasewatt.operators import Operator, Pass, costs
from phasewatt.profiled_work import FAMILIES, demands
from tests.fixtures.profiled import profile, profiled
from tests.fixtures.records import changed
from tests.fixtures.trials import SHAPE, conditions, measured, work

DONE = work(prompt_tokens=64)


def asked(phase=Phase.PREFILL, done=DONE, steps=16, **how):
    under = conditions(**{"accelerator": "cuda", "processor": "Example GPU", **how})
    seen = profile(DONE, phase, steps=steps)
    return demands(profiled(measured(done=done, under=under).stored, seen).trial, seen)


def attention_flops(one: Pass) -> float:
    return costs(SHAPE, "bfloat16", one)[Operator.ATTN_CORE].flops


@pytest.mark.parametrize("attention", ["sdpa", "grouped", "flash_attention_2", "flash_attention_3"])
def test_kernels_that_know_causality_are_counted_causally(attention):
    found = asked(attention=attention)
    assert found.by_operator[Operator.ATTN_CORE].flops == attention_flops(Pass(1, 64, 0))
    assert found.attention == "causal: each token on those before it" and found.reason is None


def test_eager_attention_computes_every_pair():
    found = asked(attention="eager")
    assert found.by_operator[Operator.ATTN_CORE].flops == attention_flops(Pass(1, 64, 0, causal=False))
    assert found.by_operator[Operator.ATTN_CORE].flops == 4 * SHAPE.layers * SHAPE.heads * SHAPE.head_dim * 64 * 64
    assert found.attention.startswith("full")


def test_later_chunks_go_under_a_mask():
    found = asked(attention="sdpa", prefill_chunk=48)
    first, later = Pass(1, 48, 0), Pass(1, 16, 48, causal=False)
    assert found.by_operator[Operator.ATTN_CORE].flops == attention_flops(first) + attention_flops(later)
    assert "later chunks in full" in found.attention
    flash = asked(attention="flash_attention_2", prefill_chunk=48)
    assert flash.by_operator[Operator.ATTN_CORE].flops == attention_flops(Pass(1, 64, 0))


def test_decode_counts_each_step_at_its_depth():
    found = asked(Phase.DECODE, steps=2)
    expected = attention_flops(Pass(1, 1, 64)) + attention_flops(Pass(1, 1, 65))
    assert found.by_operator[Operator.ATTN_CORE].flops == expected


def test_a_cache_of_fixed_size_is_worked_on_to_its_end():
    found = asked(Phase.DECODE, steps=2, cache_tokens=256, mode="graph")
    assert found.by_operator[Operator.ATTN_CORE].flops == 2 * attention_flops(Pass(1, 1, 255))
    assert found.attention == "all 256 slots of a cache of fixed size"


@pytest.mark.parametrize("how", [{"engine": "onnxruntime"}, {"attention": "paged"}, {"attention": None}])
def test_an_attention_that_is_not_known_here_has_no_flops(how):
    found = asked(**how)
    core = found.by_operator[Operator.ATTN_CORE]
    assert core.flops is None and core.moved_bytes and "is not known here" in core.reason
    assert found.by_operator[Operator.O_PROJ].flops and found.by_operator[Operator.O_PROJ].reason is None
    assert found.whole.flops is None and "is not known here" in found.whole.reason
    assert asked(Phase.DECODE, **how).by_operator[Operator.ATTN_CORE].flops  # one token has nothing to mask


def test_quantized_matrices_are_read_in_their_own_width():
    plain = asked().by_operator
    eight = asked(
        done=changed(DONE, quantization="int8 weight-only, head included, symmetric, a scale a row")
    ).by_operator
    saved = plain[Operator.FFN_UP].moved_bytes - eight[Operator.FFN_UP].moved_bytes
    assert saved == pytest.approx(SHAPE.layers * 2 * SHAPE.hidden_size * SHAPE.intermediate_size)  # 2 bytes became 1
    assert eight[Operator.EMBEDDING] == plain[Operator.EMBEDDING]


def test_an_unknown_quantization_has_flops_and_no_bytes():
    found = asked(done=changed(DONE, quantization="Q4_K_M"))
    up = found.by_operator[Operator.FFN_UP]
    assert up.flops and up.moved_bytes is None and up.reason == "the bytes of weights in 'Q4_K_M' are not known here"
    assert found.by_operator[Operator.NORM].moved_bytes


@pytest.mark.parametrize(
    ("done", "reason"),
    [
        (changed(DONE, dtype="float8"), "the size of an element of 'float8' is not known here"),
        (work(shape=changed(SHAPE, family="mamba")), "there is no formula for the family 'mamba' of llama-tiny"),
    ],
)
def test_what_has_no_formula_says_so(done, reason):
    assert asked(done=done).reason == reason and not asked(done=done).by_operator
    assert asked(done=done).whole.reason == reason and asked(done=done).whole.flops is None


def test_a_mixture_of_passes_and_a_trial_without_work_say_so():
    stored = measured(done=DONE).stored.trial
    seen = profile(DONE, Phase.PREFILL)
    assert "mixture of passes" in demands(stored, changed(seen, phase=Phase.REQUEST)).reason
    assert "does not say what was computed" in demands(changed(stored, work=None), seen).reason
    assert "how many tokens" in demands(stored, changed(seen, kv_start=0, kv_end=0)).reason


def test_every_family_that_engines_run_has_a_formula():
    from agent import models

    assert set(models.FAMILIES) == FAMILIES
