"""Ranges that say which operator is running, around the parts of a model: put on for a profile, and taken off again.

What a range is, those who profile say: of torch's own profiler (`recorded`), or NVTX (agent.counters.ranges). Which
operator a part is, is told here alone.

A part's `forward` is wrapped on the instance alone, so that timed passes run what they always ran. What a part does
besides its inner parts is its own: an attention's products, norms and rotation have ranges of their own, and what is
left of it is the core with its cache; what is left of a feed-forward part is the activation with its product.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from agent.engines.transformers_fused import LLAMA
from phasewatt.operators import Operator

Opening = Callable[[Operator], AbstractContextManager[object]]  # what is within it, is of the operator

PREFIX = "phasewatt:"
_ROTATION = "apply_rotary_pos_emb"
_PRODUCTS = frozenset({"linear", "mm", "bmm", "matmul", "grouped_mm", "_grouped_mm", "grouped_mm_fallback"})
_GATED = frozenset({"mul", "__mul__", "__rmul__"})
_OF_ATTENTION = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "qkv_proj"), Operator.QKV_PROJ),
    **dict.fromkeys(("q_norm", "k_norm"), Operator.NORM),
    "o_proj": Operator.O_PROJ,
}
_OF_FEED_FORWARD = {
    **dict.fromkeys(("gate_proj", "up_proj", "gate_up_proj"), Operator.FFN_UP),
    "down_proj": Operator.FFN_DOWN,
}
_OF_MIXTURE = {"gate": Operator.ROUTER, "shared_expert_gate": Operator.ROUTER, "experts": Operator.DISPATCH}


@contextmanager
def ranges(model: Any, opened: Opening) -> Iterator[None]:
    """Within it, every part of `model` runs in the range of its operator, as `opened` opens one."""
    with ExitStack() as stack:
        for part, operator in parts(model):
            stack.enter_context(_wrapped(part, operator, opened))
        for layer in model.base_model.layers:
            if (experts := getattr(layer.mlp, "experts", None)) is not None:
                stack.enter_context(_told_apart(experts, opened))
        for module in _rotating(model):
            stack.enter_context(_rotation(module, opened))
        yield


def parts(model: Any) -> list[tuple[torch.nn.Module, Operator]]:
    """The parts of `model` that have an operator, outer ones before inner ones, each once."""
    base = model.base_model
    found = [(model, Operator.OTHER), (base, Operator.OTHER)]
    ends = {"embed_tokens": Operator.EMBEDDING, "rotary_emb": Operator.ROTARY, "norm": Operator.NORM}
    found += [*_named(base, ends), *_named(model, {"lm_head": Operator.LM_HEAD})]
    for layer in base.layers:
        found += _named(layer, dict.fromkeys(("input_layernorm", "post_attention_layernorm"), Operator.NORM))
        found += [(layer.self_attn, Operator.ATTN_CORE), *_named(layer.self_attn, _OF_ATTENTION)]
        found += _feed_forward(layer.mlp)
    return list({id(part): (part, operator) for part, operator in found}.values())


def recorded(operator: Operator) -> AbstractContextManager[object]:
    """A range of torch's profiler."""
    return torch.profiler.record_function(PREFIX + operator.value)


def operator_of(range_name: str) -> Operator | None:
    """The operator that a range is named after; None: the range is not one of these."""
    return Operator(range_name.removeprefix(PREFIX)) if range_name.startswith(PREFIX) else None


def _feed_forward(part: Any) -> list[tuple[torch.nn.Module, Operator]]:
    if not hasattr(part, "experts"):
        return [(part, Operator.ACT), *_named(part, _OF_FEED_FORWARD)]
    found = [(part, Operator.DISPATCH), *_named(part, _OF_MIXTURE)]
    shared = getattr(part, "shared_expert", None)
    return found if shared is None else [*found, *_feed_forward(shared)]


def _named(part: Any, operators: dict[str, Operator]) -> list[tuple[torch.nn.Module, Operator]]:
    """The modules of `part` under these names; a family has not all of them."""
    found = ((getattr(part, name, None), operator) for name, operator in operators.items())
    return [(module, operator) for module, operator in found if isinstance(module, torch.nn.Module)]


@contextmanager
def _wrapped(part: torch.nn.Module, operator: Operator, opened: Opening) -> Iterator[None]:
    plain = part.forward
    with _replaced(part, "forward", _in_range(plain, operator, opened)):
        yield


def _in_range(plain: Callable[..., Any], operator: Operator, opened: Opening) -> Callable[..., Any]:
    def ranged(*args: Any, **kwargs: Any) -> Any:
        with opened(operator):
            return plain(*args, **kwargs)

    return ranged


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner` with another attribute of that name, and afterwards as it was; one of its class is not its own."""
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _rotating(model: Any) -> list[Any]:
    """The library's modules whose function rotates queries and keys: the family's own, and that of fused weights."""
    family = sys.modules[type(model.base_model.layers[0].self_attn).__module__]
    return [module for module in {id(m): m for m in (family, LLAMA)}.values() if hasattr(module, _ROTATION)]


@contextmanager
def _rotation(module: Any, opened: Opening) -> Iterator[None]:
    with _replaced(module, _ROTATION, _in_range(getattr(module, _ROTATION), Operator.ROTARY, opened)):
        yield


@contextmanager
def _told_apart(experts: Any, opened: Opening) -> Iterator[None]:
    """Experts and dispatch apart within one `forward`, whichever of the library's ways computes it."""
    mode = _Experts(experts, opened)
    with _replaced(experts, "forward", mode.watched(experts.forward)), ExitStack() as stack:
        if isinstance(getattr(experts, "act_fn", None), torch.nn.Module):
            stack.enter_context(_replaced(experts.act_fn, "forward", mode.noted(experts.act_fn.forward)))
        yield


class _Experts(TorchFunctionMode):
    """Opens the range of the experts around their products, what selects their weights, and the gated activation.

    Whatever else happens among them sorts tokens, brings them to their experts, or brings results back.
    """

    def __init__(self, experts: Any, opened: Opening) -> None:
        super().__init__()
        self._opened = opened
        self._weights = {id(weight) for weight in experts.parameters(recurse=False)}
        self._activated: Any = None

    def watched(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """The experts' `forward`, with this mode on."""

        @functools.wraps(plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            with self:
                return plain(*args, **kwargs)

        return forward

    def noted(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """The activation's `forward`, in its range; the product with what it gives follows."""
        ranged = _in_range(plain, Operator.EXPERTS, self._opened)

        @functools.wraps(plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            self._activated = ranged(*args, **kwargs)
            return self._activated

        return forward

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See torch: called in place of every function on tensors."""
        is_theirs = self._is_theirs(getattr(func, "__name__", ""), args)
        call = _in_range(func, Operator.EXPERTS, self._opened) if is_theirs else func
        return call(*args, **(kwargs or {}))

    def _is_theirs(self, name: str, args: tuple[Any, ...]) -> bool:
        if name in _GATED and args[0] is self._activated:
            self._activated = None
            return True
        return name in _PRODUCTS or (name == "__getitem__" and id(args[0]) in self._weights)
