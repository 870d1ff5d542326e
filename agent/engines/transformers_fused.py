"""Fused weights: query, key and value in one product, gate and up in another, with the logits that the split ones give.

A decode step is bound by reading weights, and few large products read faster than many small ones.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

from phasewatt.errors import EngineFailed

LLAMA: Any = modeling_llama  # whose functions the other families repeat; they carry no types
_FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "olmoe",
    "qwen2_moe",
    "qwen3_moe",
    "mixtral",
)  # their attention is computed alike


def fuse(model: Any) -> None:
    """Fuse the weights of `model` in place, layer by layer, so that no more than one is held twice.

    Raises:
        EngineFailed: its family computes attention in another way.
    """
    family = model.config.model_type
    if family not in _FAMILIES:
        raise EngineFailed(f"fused_weights: not for {family}; known: {', '.join(_FAMILIES)}")
    for layer in model.base_model.layers:
        _fuse_attention(layer.self_attn)
        for part in (layer.mlp, getattr(layer.mlp, "shared_expert", None)):
            if hasattr(part, "gate_proj"):
                _fuse_gate(part)


def _fuse_attention(part: Any) -> None:
    products = part.q_proj, part.k_proj, part.v_proj
    part.widths = [product.out_features for product in products]
    part.qkv_proj = _joined(*products)
    part.heads_normed_apart = hasattr(part, "q_norm") and part.q_norm.weight.numel() == part.head_dim
    del part.q_proj, part.k_proj, part.v_proj
    part.forward = types.MethodType(_attend, part)


def _fuse_gate(part: Any) -> None:
    part.gate_up_proj = _joined(part.gate_proj, part.up_proj)
    del part.gate_proj, part.up_proj
    part.forward = types.MethodType(_feed_forward, part)


def _joined(*products: torch.nn.Linear) -> torch.nn.Linear:
    """One product whose output is those of `products` side by side."""
    weight = torch.cat([product.weight.data for product in products])
    bias_of: list[Any] = [product.bias for product in products]  # None where there is none
    biases = [bias.data for bias in bias_of if bias is not None]
    joined = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bool(biases), device="meta", dtype=weight.dtype)
    joined.weight = torch.nn.Parameter(weight, requires_grad=False)
    if biases:
        joined.bias = torch.nn.Parameter(torch.cat(biases), requires_grad=False)
    return joined


def _attend(
    self: Any,
    hidden_states: torch.Tensor,  # [batch, tokens, hidden]
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """Stands for the attention's own `forward`."""
    lead = hidden_states.shape[:-1]
    query, key, value = _heads(self, self.qkv_proj(hidden_states).split(self.widths, dim=-1), lead)
    query, key = LLAMA.apply_rotary_pos_emb(query, key, *position_embeddings)
    if past_key_values is not None:
        key, value = past_key_values.update(key, value, self.layer_idx)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, LLAMA.eager_attention_forward)
    mixed, shares = attend(self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
    return self.o_proj(mixed.reshape(*lead, -1).contiguous()), shares


def _heads(self: Any, projected: tuple[torch.Tensor, ...], lead: torch.Size) -> list[torch.Tensor]:
    """Query, key and value, [batch, heads, tokens, head_dim], normed where the family norms them."""
    query, key, value = projected
    if hasattr(self, "q_norm") and not self.heads_normed_apart:
        query, key = self.q_norm(query), self.k_norm(key)
    query, key, value = (part.view(*lead, -1, self.head_dim) for part in (query, key, value))
    if self.heads_normed_apart:
        query, key = self.q_norm(query), self.k_norm(key)
    return [part.transpose(1, 2) for part in (query, key, value)]


def _feed_forward(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Stands for the feed-forward part's own `forward`."""
    gate, up = self.gate_up_proj(hidden_states).chunk(2, dim=-1)
    fed: torch.Tensor = self.down_proj(self.act_fn(gate) * up)
    return fed
