"""What a parameter is called in transformers and in a GGUF file, and how llama's rotary rows are ordered in each. Pure.

Source: llama.cpp, gguf-py/gguf/constants.py and convert_hf_to_gguf.py (LlamaModel.permute).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from phasewatt.work import Architecture

PERMUTED = ("llama",)  # families whose query and key rows are kept in pairs of neighbours, not in halves
_OUTER: Mapping[str, str] = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INNER: Mapping[str, str] = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER_BACK = {theirs: ours for ours, theirs in _OUTER.items()}
_INNER_BACK = {theirs: ours for ours, theirs in _INNER.items()}
_LAYER = re.compile(r"model\.layers\.(?P<layer>[0-9]+)\.(?P<part>.+)\.(?P<kind>weight|bias)")
_BLOCK = re.compile(r"blk\.(?P<layer>[0-9]+)\.(?P<part>.+)\.(?P<kind>weight|bias)")


def gguf_name(name: str) -> str | None:
    """A parameter's name in a GGUF file; None: no model here has one of that name."""
    return _OUTER.get(name) or _inner(name, _LAYER, _INNER, "blk.{layer}.{part}.{kind}")


def parameter_name(name: str) -> str | None:
    """A GGUF tensor's name in transformers; None: no model here has one of that name."""
    return _OUTER_BACK.get(name) or _inner(name, _BLOCK, _INNER_BACK, "model.layers.{layer}.{part}.{kind}")


def rotary_heads(name: str, shape: Architecture) -> int | None:
    """Of a parameter whose rows are ordered otherwise in a GGUF file, its number of heads; None for all the others."""
    if shape.family not in PERMUTED:
        return None
    return {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(name.split(".")[-2])


def _inner(name: str, pattern: re.Pattern[str], parts: Mapping[str, str], form: str) -> str | None:
    found = pattern.fullmatch(name)
    part = parts.get(found["part"]) if found else None
    return None if found is None or part is None else form.format(layer=found["layer"], part=part, kind=found["kind"])
