"""Architecture presets, by their published configurations, and the reading of a Hugging Face `config.json`.

Only the shape counts here. Rotary scaling of long-context variants is left out: it changes constants, not work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasewatt.errors import ConfigInvalid
from phasewatt.records import Architecture

FAMILIES = ("llama", "qwen2", "qwen3")

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
)  # fmt: skip

PRESETS: Mapping[str, Architecture] = {row.name: row for row in _ROWS}


def preset(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        ConfigInvalid: no such preset; the message lists them.
    """
    if name not in PRESETS:
        raise ConfigInvalid(f"model: no preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def from_config_file(path: Path) -> Architecture:
    """The architecture that a Hugging Face `config.json` describes.

    Raises:
        ConfigInvalid: unreadable, incomplete, or of a family that no engine here runs.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return _from_config(path.parent.name, config)
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"model: cannot read {path}: {error}") from error
    except KeyError as error:
        raise ConfigInvalid(f"model: {path} has no {error}; expected a decoder's config.json") from error


def _from_config(name: str, config: Mapping[str, Any]) -> Architecture:
    family = config["model_type"]
    if family not in FAMILIES:
        raise ConfigInvalid(f"model: family {family!r} of {name} is not supported; known: {', '.join(FAMILIES)}")
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    return Architecture(
        name=name,
        family=family,
        hidden_size=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        intermediate_size=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        max_position=config["max_position_embeddings"],
        tied_embeddings=config.get("tie_word_embeddings", False),
        qkv_bias=family == "qwen2" or bool(config.get("attention_bias")),
        qk_norm=family == "qwen3",
        rope_theta=config.get("rope_theta") or rope.get("rope_theta", 10000.0),
        norm_eps=config.get("rms_norm_eps", 1e-6),
    )
