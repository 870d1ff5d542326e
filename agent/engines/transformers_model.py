"""A model as the library builds it: from a preset's shape, or from a directory or repository with its own files."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.initialization import no_init_weights

from agent.engines import tensor_parallel, weights
from agent.engines.sources import snapshot
from agent.engines.tensor_parallel import Rank
from agent.orders import Load
from phasewatt.errors import ConfigInvalid, EngineFailed
from phasewatt.work import Architecture


class Built(NamedTuple):
    """A model, and what is known of its weights."""

    model: Any
    digest: str | None
    drawn_on: str | None
    parameters: int  # of the whole model


def build(order: Load, device: torch.device, rank: Rank | None = None) -> Built:
    """The model on `device`, filled; of a model that several share, what `rank` holds.

    Raises:
        EngineFailed: its files cannot be loaded, or the library knows no such model or setting.
    """
    how = {"dtype": getattr(torch, order.dtype), "attn_implementation": order.attention}
    if order.experts is not None:
        how["experts_implementation"] = order.experts
    kind, _, _ = order.weights.partition(":")
    if kind == "random":
        return _random(order, device, how, rank)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            snapshot(order.weights), use_safetensors=True, trust_remote_code=False, **how
        )
    except (OSError, ValueError) as error:
        raise EngineFailed(f"weights {order.weights} cannot be loaded: {str(error).splitlines()[0]}") from error
    built = Built(model, weights.digest(model), None, _parameters(model))
    _bring(model, rank, device)
    return built


def _random(order: Load, device: torch.device, how: dict[str, Any], rank: Rank | None) -> Built:
    """Made where it stays; or, where it is to be cut, in memory of the host that nobody has written to yet."""
    config = config_of(order.architecture)
    seed = _seed(order.weights.partition(":")[2])
    try:
        with no_init_weights(), torch.device(device if rank is None else "cpu"):
            model: Any = AutoModelForCausalLM.from_config(config, **how)  # type: ignore[no-untyped-call]
    except (ImportError, ValueError) as error:  # an implementation that it does not know or cannot load
        raise EngineFailed(f"{order.architecture.name} cannot be built: {str(error).splitlines()[0]}") from error
    model.tie_weights()
    parameters = _parameters(model)
    if rank is not None and not weights.are_drawn_on_cpu(model):
        weights.fill_on_device(model, seed, tensor_parallel.cut(model, rank, device, values=False))
        return Built(model, None, "device", parameters)
    digest, drawn_on = weights.fill(model, seed)
    _bring(model, rank, device)
    return Built(model, digest, drawn_on, parameters)


def _bring(model: Any, rank: Rank | None, device: torch.device) -> None:
    """Bring `model` to `device`, or what `rank` holds of it."""
    if rank is None:
        model.to(device)
    else:
        tensor_parallel.cut(model, rank, device, values=True)


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def config_of(shape: Architecture) -> Any:
    """The Hugging Face configuration of an architecture."""
    extra = _biases(shape) | _mixture(shape)
    try:
        return AutoConfig.for_model(
            shape.family,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            intermediate_size=shape.intermediate_size,
            vocab_size=shape.vocab_size,
            max_position_embeddings=shape.max_position,
            tie_word_embeddings=shape.tied_embeddings,
            rms_norm_eps=shape.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
            **extra,
        )
    except (TypeError, ValueError) as error:
        raise EngineFailed(f"transformers {transformers.__version__} cannot build {shape.name}: {error}") from error


def _biases(shape: Architecture) -> dict[str, Any]:
    """One key switches the biases of all four products, but in families where it cannot be switched."""
    if shape.family in ("qwen2", "qwen2_moe", "mixtral"):
        return {}
    if shape.qkv_bias != shape.output_bias:
        raise EngineFailed(f"{shape.name}: {shape.family} has biases in all attention products or in none")
    return {"attention_bias": shape.qkv_bias}


def _mixture(shape: Architecture) -> dict[str, Any]:
    """The experts, in the keys of their family."""
    mixture = shape.experts
    if mixture is None:
        return {}
    if shape.family == "mixtral":
        return {"num_local_experts": mixture.count, "num_experts_per_tok": mixture.per_token}
    keys: dict[str, Any] = {"num_experts": mixture.count, "num_experts_per_tok": mixture.per_token}
    keys["norm_topk_prob"] = mixture.norm_topk_prob
    if shape.family != "olmoe":
        keys["moe_intermediate_size"] = mixture.intermediate_size
    if shape.family == "qwen2_moe":
        keys["shared_expert_intermediate_size"] = mixture.shared_intermediate_size
    return keys


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise ConfigInvalid(f"weights: expected random:SEED with a whole number, got 'random:{text}'")
    return int(text)
