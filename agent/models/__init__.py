"""Architectures: presets by their published configurations, and a user's own `config.json`.

Only the shape counts here. Rotary scaling of long-context variants is left out: it changes constants, not work.
Source: each model's own config.json on its Hugging Face page; docs/engines.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.models.config_file import FAMILIES, from_config_file
from phasewatt.errors import ConfigInvalid
from phasewatt.work import Architecture, Experts

__all__ = ["FAMILIES", "PRESETS", "from_config_file", "named", "preset"]

_ROWS = (
    Architecture(
        name="stories15m", family="llama", hidden_size=288, layers=6, heads=6, kv_heads=6, head_dim=48,
        intermediate_size=768, vocab_size=32000, max_position=2048, tied_embeddings=True,
    ),
    Architecture(
        name="smollm2-135m", family="llama", hidden_size=576, layers=30, heads=9, kv_heads=3, head_dim=64,
        intermediate_size=1536, vocab_size=49152, max_position=8192, tied_embeddings=True, rope_theta=100000.0,
    ),
    Architecture(
        name="qwen2.5-0.5b", family="qwen2", hidden_size=896, layers=24, heads=14, kv_heads=2, head_dim=64,
        intermediate_size=4864, vocab_size=151936, max_position=32768, tied_embeddings=True, qkv_bias=True,
        rope_theta=1000000.0, norm_eps=1e-6,
    ),
    Architecture(
        name="llama-3.2-1b", family="llama", hidden_size=2048, layers=16, heads=32, kv_heads=8, head_dim=64,
        intermediate_size=8192, vocab_size=128256, max_position=131072, tied_embeddings=True, rope_theta=500000.0,
    ),
    Architecture(
        name="qwen2.5-1.5b", family="qwen2", hidden_size=1536, layers=28, heads=12, kv_heads=2, head_dim=128,
        intermediate_size=8960, vocab_size=151936, max_position=131072, tied_embeddings=True, qkv_bias=True,
        rope_theta=1000000.0, norm_eps=1e-6,
    ),
    Architecture(
        name="qwen2.5-7b", family="qwen2", hidden_size=3584, layers=28, heads=28, kv_heads=4, head_dim=128,
        intermediate_size=18944, vocab_size=152064, max_position=131072, qkv_bias=True, rope_theta=1000000.0,
        norm_eps=1e-6,
    ),
    Architecture(
        name="llama-3-8b", family="llama", hidden_size=4096, layers=32, heads=32, kv_heads=8, head_dim=128,
        intermediate_size=14336, vocab_size=128256, max_position=8192, rope_theta=500000.0,
    ),
    Architecture(
        name="qwen3-8b", family="qwen3", hidden_size=4096, layers=36, heads=32, kv_heads=8, head_dim=128,
        intermediate_size=12288, vocab_size=151936, max_position=40960, qk_norm=True, rope_theta=1000000.0,
        norm_eps=1e-6,
    ),
    Architecture(
        name="qwen2.5-32b", family="qwen2", hidden_size=5120, layers=64, heads=40, kv_heads=8, head_dim=128,
        intermediate_size=27648, vocab_size=152064, max_position=131072, qkv_bias=True, rope_theta=1000000.0,
        norm_eps=1e-6,
    ),
    Architecture(
        name="olmoe-1b-7b", family="olmoe", hidden_size=2048, layers=16, heads=16, kv_heads=16, head_dim=128,
        intermediate_size=1024, vocab_size=50304, max_position=4096, qk_norm=True, qk_norm_joint=True,
        experts=Experts(count=64, per_token=8, intermediate_size=1024),
    ),
    Architecture(
        name="qwen1.5-moe-a2.7b", family="qwen2_moe", hidden_size=2048, layers=24, heads=16, kv_heads=16, head_dim=128,
        intermediate_size=5632, vocab_size=151936, max_position=8192, qkv_bias=True, rope_theta=1000000.0,
        norm_eps=1e-6,
        experts=Experts(count=60, per_token=4, intermediate_size=1408, shared_intermediate_size=5632),
    ),
    Architecture(
        name="qwen3-30b-a3b", family="qwen3_moe", hidden_size=2048, layers=48, heads=32, kv_heads=4, head_dim=128,
        intermediate_size=6144, vocab_size=151936, max_position=40960, qk_norm=True, rope_theta=1000000.0,
        norm_eps=1e-6, experts=Experts(count=128, per_token=8, intermediate_size=768, norm_topk_prob=True),
    ),
    Architecture(
        name="mixtral-8x7b", family="mixtral", hidden_size=4096, layers=32, heads=32, kv_heads=8, head_dim=128,
        intermediate_size=14336, vocab_size=32000, max_position=32768, rope_theta=1000000.0,
        experts=Experts(count=8, per_token=2, intermediate_size=14336, norm_topk_prob=True),
    ),
)  # fmt: skip

PRESETS: Mapping[str, Architecture] = {row.name: row for row in _ROWS}


def named(model: str) -> Architecture:
    """The preset of that name, or the architecture in that file where it ends in ".json".

    Raises:
        ConfigInvalid: neither.
    """
    return from_config_file(Path(model).expanduser()) if model.endswith(".json") else preset(model)


def preset(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        ConfigInvalid: no such preset; the message lists them.
    """
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise ConfigInvalid(f"model: no preset {name!r}; known: {known}; or the path of a config.json")
    return PRESETS[name]
