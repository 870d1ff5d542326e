"""NVTX ranges around the operators of a model, so that ncu can tell whose a kernel is.

Each range is named `PHASE.OPERATOR`. A kernel belongs to the innermost range around its launch, so a part's own range
holds what its inner parts leave: of an attention the cache and the core, of a feed-forward the activation's product,
of the whole model residual sums and masks, and of a phase what is outside of the model, which is sampling.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from phasewatt.fields import Phase
from phasewatt.operators import Operator

_ROTARY = "apply_rotary_pos_emb"  # a function of a family's module, which attention looks up when it is called
# By the last part of a module's name, in the families that transformers has here and in `transformers_fused`.
_OPERATORS: Mapping[str, Operator] = {
    "embed_tokens": Operator.EMBEDDING,
    "rotary_emb": Operator.ROTARY,
    **dict.fromkeys(("input_layernorm", "post_attention_layernorm", "norm", "q_norm", "k_norm"), Operator.NORM),
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "qkv_proj"), Operator.QKV_PROJ),
    "self_attn": Operator.ATTN_CORE,
    "o_proj": Operator.O_PROJ,
    **dict.fromkeys(("gate_proj", "up_proj", "gate_up_proj"), Operator.FFN_UP),
    **dict.fromkeys(("act_fn", "mlp", "shared_expert"), Operator.ACT),
    "down_proj": Operator.FFN_DOWN,
    **dict.fromkeys(("gate", "shared_expert_gate"), Operator.ROUTER),
    "experts": Operator.EXPERTS,
    "lm_head": Operator.LM_HEAD,
    "": Operator.OTHER,  # the model itself
}


class Marker(Protocol):
    """Opens and closes ranges, as `torch.cuda.nvtx` does."""

    def range_push(self, name: str) -> object:
        """Open a range within those that are open."""

    def range_pop(self) -> object:
        """Close the innermost one."""


class Ranges:
    """Marks the operators of one phase after another."""

    def __init__(self, marker: Marker) -> None:
        self._marker = marker
        self._phase: Phase | None = None

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Everything in the block is of `phase`; what no part of the model does is sampling."""
        self._marker.range_push(phase.value)
        self._phase = phase
        self._push(Operator.SAMPLING)
        try:
            yield
        finally:
            self._pop()
            self._phase = None
            self._marker.range_pop()

    @contextmanager
    def within(self, model: Any) -> Iterator[None]:
        """Mark the parts of `model` as long as the block lasts."""
        with ExitStack() as marked:
            for name, part in model.named_modules():
                operator = operator_of(name, part)
                if operator is not None:
                    self._hook(part, operator, marked)
            for module in _with_rotary(model):
                self._wrap(module, marked)
            yield

    def _hook(self, part: Any, operator: Operator, marked: ExitStack) -> None:
        def before(*_: object) -> None:
            self._push(operator)

        def after(*_: object) -> None:
            self._pop()

        marked.callback(part.register_forward_pre_hook(before).remove)
        marked.callback(part.register_forward_hook(after, always_call=True).remove)

    def _wrap(self, module: Any, marked: ExitStack) -> None:
        turn: Callable[..., Any] = getattr(module, _ROTARY)

        def marked_turn(*args: Any, **keywords: Any) -> Any:
            self._push(Operator.ROTARY)
            try:
                return turn(*args, **keywords)
            finally:
                self._pop()

        setattr(module, _ROTARY, marked_turn)
        marked.callback(setattr, module, _ROTARY, turn)

    def _push(self, operator: Operator) -> None:
        if self._phase is not None:
            self._marker.range_push(range_name(self._phase, operator))

    def _pop(self) -> None:
        if self._phase is not None:
            self._marker.range_pop()


def range_name(phase: Phase, operator: Operator) -> str:
    """Name of the range of an operator in a phase."""
    return f"{phase.value}.{operator.value}"


def range_names(phases: tuple[Phase, ...]) -> tuple[str, ...]:
    """The names of all ranges that there may be in some phases."""
    return tuple(name for phase in phases for name in (phase.value, *(range_name(phase, each) for each in Operator)))


def operator_of(name: str, part: Any) -> Operator | None:
    """The operator that a part of a model is, by its dotted name; None: it belongs to the part around it."""
    if ".experts." in name:
        return None  # what is inside of them is theirs
    if hasattr(part, "experts") and name.endswith("mlp"):
        return Operator.DISPATCH
    return _OPERATORS.get(name.rpartition(".")[2])


def _with_rotary(model: Any) -> list[Any]:
    """The Python modules whose rotary function the attentions of `model` call."""
    names = {type(part).__module__ for name, part in model.named_modules() if name.endswith("self_attn")}
    names.add("transformers.models.llama.modeling_llama")  # that of fused weights
    found = [sys.modules[name] for name in sorted(names) if name in sys.modules]
    return [module for module in found if hasattr(module, _ROTARY)]
