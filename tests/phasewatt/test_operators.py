"""FLOPs and bytes by operator: exactly what torch counts, and bytes of a shape small enough for a table by hand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import models
from phasewatt import roofline
from phasewatt.fields import Phase
from phasewatt.operators import Cost, Group, Operator, Pass, costs, group_of, grouped, passes, total
from phasewatt.work import Experts
from tests.fixtures.records import architecture, task

# Two sequences of three new tokens on four, in bfloat16: 6 tokens, hidden 8, 2 heads and 1 KV head of 4, FFN 16.
BY_HAND = {
    Operator.EMBEDDING: Cost(0, 2 * 6 * 8, 2 * 6 * 8),
    Operator.NORM: Cost(0, 2 * 5 * 8, 2 * 2 * 6 * 5 * 8),  # five norms, read and written
    Operator.QKV_PROJ: Cost(2 * 2 * 6 * 8 * 16, 2 * 2 * 8 * 16, 2 * 2 * 6 * (8 + 16)),
    Operator.ROTARY: Cost(0, 0, 2 * 2 * 6 * 2 * (8 + 4)),
    # pairs: each of two sequences 3 x 4 old ones and 1 + 2 + 3; keys and values: 4 + 3 read, 3 written, 2 x 4 wide
    Operator.ATTN_CORE: Cost(4 * 2 * 8 * 2 * (12 + 6), 0, 2 * 2 * 6 * 2 * 8, 2 * 2 * 2 * (7 + 3) * 8),
    Operator.O_PROJ: Cost(2 * 2 * 6 * 8 * 8, 2 * 2 * 8 * 8, 2 * 2 * 6 * 16),
    Operator.FFN_UP: Cost(2 * 2 * 6 * 8 * 32, 2 * 2 * 8 * 32, 2 * 2 * 6 * (8 + 32)),
    Operator.ACT: Cost(0, 0, 2 * 2 * 6 * 3 * 16),
    Operator.FFN_DOWN: Cost(2 * 2 * 6 * 16 * 8, 2 * 2 * 16 * 8, 2 * 2 * 6 * 24),
    Operator.LM_HEAD: Cost(2 * 2 * 8 * 32, 2 * 8 * 32, 2 * 2 * 40),  # the last position of each sequence
    Operator.SAMPLING: Cost(0, 0, 2 * 2 * 32),
    Operator.OTHER: Cost(0, 0, 2 * 2 * 2 * 3 * 6 * 8),  # two sums a layer: two read, one written
}
MIXTURE = Experts(count=4, per_token=2, intermediate_size=16, shared_intermediate_size=8)


def test_flops_and_bytes_of_the_tiny_shape_by_hand():
    assert costs(architecture(), "bfloat16", Pass(batch=2, new=3, depth=4)) == BY_HAND


def test_a_mixture_has_a_router_dispatch_and_experts_beside_its_shared_one():
    mixture = architecture(experts=MIXTURE)
    found = costs(mixture, "float32", Pass(batch=1, new=1, depth=4))
    assert found[Operator.ROUTER] == Cost(2 * 2 * 8 * 5, 4 * 2 * 8 * 5, 4 * 2 * (8 + 5))  # and the shared one's gate
    assert found[Operator.FFN_UP].flops == 2 * 2 * 8 * 2 * 8
    experts = found[Operator.EXPERTS]
    assert experts.flops == 2 * 2 * 2 * 3 * 8 * 16
    assert experts.weight_bytes == pytest.approx(4 * 2 * 2 * 3 * 8 * 16)  # one token meets two of four
    assert found[Operator.DISPATCH].flops == 0 and found[Operator.DISPATCH].activation_bytes > 0


def test_many_tokens_meet_all_experts():
    mixture = Experts(count=8, per_token=2, intermediate_size=4)
    assert roofline.experts_met(mixture, 1) == pytest.approx(2)
    assert roofline.experts_met(mixture, 2) == pytest.approx(8 * (1 - 0.75**2))
    assert roofline.experts_met(mixture, 1000) == pytest.approx(8)


def test_attention_with_a_mask_works_on_every_pair():
    masked, causal = (costs(architecture(), "float16", Pass(1, 4, 2, causal=each)) for each in (False, True))
    assert masked[Operator.ATTN_CORE].flops == 4 * 2 * 8 * 4 * 6
    assert causal[Operator.ATTN_CORE].flops == 4 * 2 * 8 * (3 + 4 + 5 + 6)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))
def test_operators_sum_to_what_the_roofline_counts_of_a_phase(batch, depth, steps):
    asked = task(batch=batch)
    shape = asked.architecture
    prefill = total(shape, "float16", passes(batch, 0, depth, depth))
    decode = total(shape, "float16", passes(batch, depth, depth + steps, 1))
    for found, phase, reach in ((prefill, Phase.PREFILL, (0, depth)), (decode, Phase.DECODE, (depth, depth + steps))):
        assert sum(cost.flops for cost in found.values()) == roofline.phase_flops(asked, phase, *reach)
    matrices = sum(decode[each].weight_bytes for each in decode if each not in {Operator.EMBEDDING, Operator.NORM})
    assert matrices == steps * 2 * (sum(BY_HAND[each].weight_bytes for each in _MATRICES) // 2)


_MATRICES = (Operator.QKV_PROJ, Operator.O_PROJ, Operator.FFN_UP, Operator.FFN_DOWN, Operator.LM_HEAD)


def test_a_prompt_in_chunks_is_the_same_arithmetic_with_more_reading():
    """The head, which runs once a pass, set aside."""
    whole = total(architecture(), "float16", passes(1, 0, 12, 12))
    chunked = total(architecture(), "float16", passes(1, 0, 12, 5))
    layers = [operator for operator in whole if operator is not Operator.LM_HEAD]
    assert sum(whole[each].flops for each in layers) == sum(chunked[each].flops for each in layers)
    assert chunked[Operator.QKV_PROJ].weight_bytes == 3 * whole[Operator.QKV_PROJ].weight_bytes


def test_groups_hold_every_operator_once():
    shares = grouped(dict.fromkeys(Operator, 1.0))
    assert shares == {Group.ATTENTION: 4, Group.FFN: 6, Group.REST: 5}
    assert group_of(Operator.LM_HEAD) is Group.REST


def test_intensity_is_flops_per_byte_moved():
    assert Cost(flops=12, weight_bytes=2, activation_bytes=1, cache_bytes=1).intensity == 3


@pytest.mark.timeout(300)  # the first one imports torch and transformers
@pytest.mark.parametrize("name", models.PRESETS)
def test_flops_are_those_that_torch_counts(name):
    """In a prefill and a decode step of one layer, on tensors without memory; with a mask, torch counts all pairs."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM, DynamicCache

    from agent.engines.transformers import config_of

    shape = msgspec.structs.replace(models.preset(name), layers=1)
    how = {"dtype": torch.bfloat16, "attn_implementation": "eager"}
    how |= {"experts_implementation": "batched_mm"} if shape.experts else {}  # torch counts no other one
    with FakeTensorMode(), torch.no_grad():
        model = AutoModelForCausalLM.from_config(config_of(shape), **how)
        cache = DynamicCache(config=model.config)
        for asked in (Pass(2, 16, 0, causal=False), Pass(2, 1, 16, causal=False)):
            ids = torch.zeros(asked.batch, asked.new, dtype=torch.long)
            with FlopCounterMode(display=False) as counter:
                model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            assert sum(cost.flops for cost in costs(shape, "bfloat16", asked).values()) == counter.get_total_flops()
