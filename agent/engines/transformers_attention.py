"""Attention implementations: which there are, what each needs, and one of our own for single tokens.

`grouped` computes a decode step's attention by key heads, without a copy of keys and values a query head, in operations
that a compiler joins into few kernels; passes of many tokens go to `sdpa`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from phasewatt.errors import EngineFailed

# Name, and the Python package that it needs beside torch.
ATTENTIONS: Mapping[str, str | None] = {
    "eager": None,
    "sdpa": None,
    "grouped": None,
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
}

MaskOf = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def check(attention: str, mode: str, accelerator: str, dtype: str) -> None:
    """Raise EngineFailed where `attention` cannot be run so, with the reason."""
    if attention not in ATTENTIONS:
        raise EngineFailed(f"engine transformers has no attention {attention!r}; known: {', '.join(ATTENTIONS)}")
    package = ATTENTIONS[attention]
    if package is None:
        return
    if accelerator != "cuda":
        raise EngineFailed(f"attention {attention} needs an NVIDIA GPU; choose sdpa")
    if importlib.util.find_spec(package) is None:
        raise EngineFailed(f"attention {attention} needs the package {package}, which is not installed; choose sdpa")
    if dtype == "float32":
        raise EngineFailed(f"attention {attention} has no float32; choose another dtype, or sdpa")
    if mode != "eager":
        raise EngineFailed(f"attention {attention} takes no mask, as mode {mode} needs; choose sdpa or grouped")


def register() -> None:
    """Make `grouped` known to the library."""
    AttentionInterface.register("grouped", grouped)
    AttentionMaskInterface.register("grouped", sdpa_mask)


def step_mask(attention: str, dtype: torch.dtype) -> MaskOf:
    """Makes the mask of a decode step, [1, 1, 1, room], from slot numbers, [room], and the position, [1]."""
    if attention != "eager":
        return lambda slots, position: (slots <= position)[None, None, None]
    closed = torch.finfo(dtype).min
    return lambda slots, position: ((slots > position).to(dtype) * closed)[None, None, None]


def grouped(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention output, [batch, tokens, heads, head_dim], of queries [batch, heads, tokens, head_dim]."""
    if query.shape[2] != 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    batch, heads, _, width = query.shape
    queries = query.reshape(batch, key.shape[1], -1, width)  # [batch, kv_heads, queries a key head, head_dim]
    scale = width**-0.5 if scaling is None else scaling
    scores = _scores(queries, key) * scale
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    mixed = _mixed(torch.softmax(scores, dim=-1), value)
    return mixed.reshape(batch, heads, 1, width).transpose(1, 2), None


def _scores(queries: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """[batch, kv_heads, queries, tokens], in float32."""
    if torch.compiler.is_compiling() and queries.is_cuda:  # a sum is joined with what surrounds it; a product is not
        return (queries.unsqueeze(3).float() * key.unsqueeze(2).float()).sum(-1)
    return (queries @ key.transpose(-1, -2)).float()


def _mixed(shares: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """[batch, kv_heads, queries, head_dim], in the values' dtype."""
    if torch.compiler.is_compiling() and value.is_cuda:
        return (shares.unsqueeze(-1) * value.unsqueeze(2).float()).sum(-2).to(value.dtype)
    return shares.to(value.dtype) @ value
