"""A Hugging Face `config.json` as an architecture; what no engine here would run as it says is refused by its key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from phasewatt.errors import ConfigInvalid
from phasewatt.work import Architecture

FAMILIES = ("llama", "qwen2", "qwen3", "olmoe", "qwen2_moe", "qwen3_moe", "mixtral")

_BIASED = ("qwen2", "qwen2_moe")  # queries, keys and values always are
_NORMED = ("qwen3", "qwen3_moe", "olmoe")
_LARGEST_BYTES = 1 << 20
# Keys whose other values would be another computation: key, values that are run, what the other ones would need.
_PLAIN: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("hidden_act", (None, "silu"), "the activation silu"),
    ("mlp_bias", (None, False), "feed-forward products without bias"),
    ("clip_qkv", (None,), "queries, keys and values that are not clipped"),
    ("use_sliding_window", (None, False), "attention over the whole context"),
    ("decoder_sparse_step", (None, 1), "experts in every layer"),
    ("mlp_only_layers", (None, []), "experts in every layer"),
    ("partial_rotary_factor", (None, 1, 1.0), "rotary embedding of whole heads"),
    ("quantization_config", (None,), "weights that are not quantized"),
)


def from_config_file(path: Path) -> Architecture:
    """The architecture that a Hugging Face `config.json` describes.

    Raises:
        ConfigInvalid: unreadable, incomplete, or of a model that no engine here runs; the key is named.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigInvalid(f"model: {path} is larger than any config.json")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigInvalid(f"model: cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise ConfigInvalid(f"model: {path} is no JSON object; expected a decoder's config.json")
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    try:
        return _architecture(name[:256], config)
    except KeyError as error:
        raise ConfigInvalid(f"model: {path} has no {error}; expected a decoder's config.json") from error
    except (TypeError, msgspec.ValidationError) as error:
        raise ConfigInvalid(f"model: {path}: {error}") from error
    except ConfigInvalid as error:
        raise ConfigInvalid(f"model: {path}: {error}") from error


def _architecture(name: str, config: Mapping[str, Any]) -> Architecture:
    family = config["model_type"]
    if family not in FAMILIES:
        raise ConfigInvalid(f"model_type: family {family!r} is not supported; known: {', '.join(FAMILIES)}")
    _check_plain(family, config)
    heads, hidden_size = _count(config, "num_attention_heads"), _count(config, "hidden_size")
    described = {
        "name": name,
        "family": family,
        "hidden_size": hidden_size,
        "layers": _count(config, "num_hidden_layers"),
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or hidden_size // heads,
        "intermediate_size": _count(config, "intermediate_size"),
        "vocab_size": _count(config, "vocab_size"),
        "max_position": _count(config, "max_position_embeddings"),
        "tied_embeddings": config.get("tie_word_embeddings", False),
        "qkv_bias": family in _BIASED or bool(config.get("attention_bias")),
        "qk_norm": family in _NORMED,
        "rope_theta": config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 10000.0),
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "experts": _experts(family, config),
        "qk_norm_joint": family == "olmoe",
        "output_bias": family not in _BIASED and bool(config.get("attention_bias")),
    }
    shape = msgspec.convert(described, Architecture)
    _check_shape(shape)
    return shape


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigInvalid(f"{key}: expected a whole number above 0, got {value!r}")
    return value


def _experts(family: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The mixture of a family that has one; each family has keys of its own."""
    if family == "mixtral":
        return {
            "count": _count(config, "num_local_experts"),
            "per_token": _count(config, "num_experts_per_tok"),
            "intermediate_size": _count(config, "intermediate_size"),
            "norm_topk_prob": True,  # always, in this family
        }
    if family not in ("olmoe", "qwen2_moe", "qwen3_moe"):
        return None
    width = "intermediate_size" if family == "olmoe" else "moe_intermediate_size"
    return {
        "count": _count(config, "num_experts"),
        "per_token": _count(config, "num_experts_per_tok"),
        "intermediate_size": _count(config, width),
        "shared_intermediate_size": _count(config, "shared_expert_intermediate_size") if family == "qwen2_moe" else 0,
        "norm_topk_prob": config.get("norm_topk_prob", False),
    }


def _check_plain(family: str, config: Mapping[str, Any]) -> None:
    for key, run, needed in _PLAIN:
        if config.get(key) not in run:
            raise ConfigInvalid(f"{key}: {config[key]!r} is not supported; only {needed}")
    if family == "mixtral" and config.get("sliding_window") is not None:
        raise ConfigInvalid(f"sliding_window: {config['sliding_window']!r} is not supported; only the whole context")
    if others := set(config.get("layer_types") or ()) - {"full_attention"}:
        raise ConfigInvalid(f"layer_types: {min(map(str, others))} is not supported; only full_attention")


def _check_shape(shape: Architecture) -> None:
    if shape.heads % shape.kv_heads:
        raise ConfigInvalid(f"num_attention_heads: {shape.heads} is no multiple of {shape.kv_heads} key heads")
    if shape.head_dim % 2:
        raise ConfigInvalid(f"head_dim: expected an even number for the rotary embedding, got {shape.head_dim}")
    if shape.experts is not None and shape.experts.per_token > shape.experts.count:
        asked, count = shape.experts.per_token, shape.experts.count
        raise ConfigInvalid(f"num_experts_per_tok: {asked} is more than the {count} experts")
