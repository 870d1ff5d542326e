"""Tensor parallelism: each of several ranks holds a part of every product, and two sums a layer put them together.

Queries, keys, values, gate and up are cut by their outputs, O-Proj and down by their inputs, so that a layer needs one
sum over the ranks after attention and one after the feed-forward part. Source: Shoeybi et al., Megatron-LM
(arXiv 1909.08053), section 3. The head is cut by its outputs where it has weights of its own, and gathered.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed

from agent.orders import Load
from phasewatt.errors import EngineFailed
from phasewatt.work import Architecture

FAMILIES = ("llama", "qwen2", "qwen3")  # their layers are cut alike
MODES = ("eager", "graph")
_BY_OUTPUT = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
_BY_INPUT = ("o_proj", "down_proj")
_HEAD = "lm_head"
_GATHERS = ("all_gather_single", "all_gather_into_tensor")  # one call, from torch 2.13 on and before


class Rank(NamedTuple):
    """One of those that share a model."""

    number: int
    of: int


class Cut(NamedTuple):
    """The part of a parameter that a rank holds."""

    whole: tuple[int, ...]  # shape of the whole parameter
    axis: int
    start: int
    length: int

    def of(self, whole: torch.Tensor) -> torch.Tensor:
        """That part of the whole parameter."""
        return whole.narrow(self.axis, self.start, self.length)


def check_shape(shape: Architecture, ranks: int) -> None:
    """Raise EngineFailed where so many ranks cannot share a model of that shape, with the reason."""
    if ranks == 1:
        return
    if not torch.distributed.is_available():
        raise EngineFailed(f"tensor_parallel: torch {torch.__version__} was built without torch.distributed")
    if shape.experts is not None or shape.family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise EngineFailed(f"tensor_parallel: not for {shape.name}; known are dense models of the families {known}")
    for name, count in _shared(shape):
        if count % ranks:
            raise EngineFailed(
                f"tensor_parallel = {ranks}: {shape.name} has {count} {name}, which {ranks} do not divide"
            )


def check(order: Load) -> None:
    """Raise EngineFailed where the model of `order` cannot be shared in that way, with the reason."""
    if order.tensor_parallel == 1:
        return
    check_shape(order.architecture, order.tensor_parallel)
    if order.mode not in MODES:
        raise EngineFailed(f"tensor_parallel: not in mode {order.mode}; choose {' or '.join(MODES)}")
    if order.quantization != "none":
        raise EngineFailed("tensor_parallel: not with quantized weights; leave quantization out")
    if order.fused_weights:
        raise EngineFailed("tensor_parallel: not with fused_weights; leave one of them out")


def cut(model: Any, rank: Rank, device: torch.device, values: bool) -> dict[str, Cut]:
    """Leave of `model` what `rank` holds, on `device`, and let its ranks sum up; the cuts by name of the parameter.

    With `values` they come along; without, the parameters on `device` are still to be filled.

    Raises:
        EngineFailed: it has a bias that cannot be summed.
    """
    cuts: dict[str, Cut] = {}
    config = model.config
    config.head_dim = getattr(model.base_model.layers[0].self_attn, "head_dim", None)  # told before heads are fewer
    for name, part in list(model.named_modules()):
        last = name.rpartition(".")[2]
        if last in _BY_OUTPUT:
            cuts |= _cut(name, part, 0, rank, device, values)
        elif last in _BY_INPUT:
            cuts |= _cut(name, part, 1, rank, device, values)
            part.register_forward_hook(_summed)
    if not config.tie_word_embeddings and model.lm_head.weight.shape[0] % rank.of == 0:
        cuts |= _cut(_HEAD, model.lm_head, 0, rank, device, values)
        model.lm_head.register_forward_hook(_gathered)
    config.num_attention_heads //= rank.of
    config.num_key_value_heads //= rank.of
    model.to(device)
    return cuts


def _shared(shape: Architecture) -> tuple[tuple[str, int], ...]:
    return (
        ("query heads", shape.heads),
        ("key and value heads", shape.kv_heads),
        ("units in its feed-forward part", shape.intermediate_size),
    )


def _cut(name: str, part: torch.nn.Linear, axis: int, rank: Rank, device: torch.device, values: bool) -> dict[str, Cut]:
    """Cut the weight of `part` along `axis`, and its bias with it."""
    has_bias = "bias" in dict(part.named_parameters())
    if has_bias and axis == 1:
        raise EngineFailed(f"tensor_parallel: {name} has a bias, which a sum over ranks would take several times")
    cuts = {f"{name}.weight": _cut_one(part, "weight", axis, rank, device, values)}
    if has_bias:
        cuts[f"{name}.bias"] = _cut_one(part, "bias", 0, rank, device, values)
    part.out_features, part.in_features = part.weight.shape
    return cuts


def _cut_one(part: torch.nn.Linear, name: str, axis: int, rank: Rank, device: torch.device, values: bool) -> Cut:
    whole: torch.Tensor = getattr(part, name).data
    length = whole.shape[axis] // rank.of
    found = Cut(tuple(whole.shape), axis, rank.number * length, length)
    mine = found.of(whole)
    kept = torch.empty(mine.shape, dtype=mine.dtype, device=device)
    if values:
        kept.copy_(mine)
    setattr(part, name, torch.nn.Parameter(kept, requires_grad=False))
    return found


def _summed(part: torch.nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
    torch.distributed.all_reduce(output)
    return output


def _gathered(part: torch.nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
    """Logits [batch, tokens, vocabulary] of their parts [batch, tokens, vocabulary / ranks]."""
    ranks = torch.distributed.get_world_size()
    parts = output.new_empty((ranks * output.shape[0], *output.shape[1:]))  # those of a rank one after another
    gather = next(getattr(torch.distributed, name) for name in _GATHERS if hasattr(torch.distributed, name))
    gather(parts, output.contiguous())
    return parts.view(ranks, *output.shape).movedim(0, -2).flatten(-2)
