"""What each operator of a forward pass asks of the hardware: FLOPs and bytes, from the architecture alone. Pure.

FLOPs are those of matrix products, two for a multiply-add, as torch's FLOP counter counts them; operators that only
move and change elements have none, and are what their bytes are. Bytes are the least that operators which are not
fused with each other move: weights once a pass, inputs read once, outputs written once, keys and values of the cache
read once.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from phasewatt.roofline import element_bytes, experts_met
from phasewatt.work import Architecture


class Operator(enum.Enum):
    """The parts of a decoder that are told apart; the study's seven among them."""

    EMBEDDING = "embedding"
    NORM = "norm"
    QKV_PROJ = "qkv_proj"
    ROTARY = "rotary"
    ATTN_CORE = "attn_core"  # scores, softmax, values; and the cache, read and appended to
    O_PROJ = "o_proj"
    FFN_UP = "ffn_up"  # gate and up; of a mixture, those of the shared expert
    ACT = "act"
    FFN_DOWN = "ffn_down"
    ROUTER = "router"
    DISPATCH = "dispatch"  # tokens brought to their experts, and their results back together
    EXPERTS = "experts"  # routed ones, up to down
    LM_HEAD = "lm_head"
    SAMPLING = "sampling"
    OTHER = "other"  # residual sums


class Group(enum.Enum):
    """What operators are summed to."""

    ATTENTION = "attention"
    FFN = "ffn"
    REST = "rest"


_ATTENTION = (Operator.QKV_PROJ, Operator.ROTARY, Operator.ATTN_CORE, Operator.O_PROJ)
_FFN = (Operator.FFN_UP, Operator.ACT, Operator.FFN_DOWN, Operator.ROUTER, Operator.DISPATCH, Operator.EXPERTS)


_BY_NAME: Mapping[str, Operator] = {operator.value: operator for operator in Operator}


def named(name: str) -> Operator | None:
    """The operator that a profile calls `name`; None: a newer agent's, which is not known here."""
    return _BY_NAME.get(name)


def group_of(operator: Operator) -> Group:
    """The group that `operator` is summed to."""
    if operator in _ATTENTION:
        return Group.ATTENTION
    return Group.FFN if operator in _FFN else Group.REST


class Cost(NamedTuple):
    """What an operator asks for in all layers together."""

    flops: float
    weight_bytes: float
    activation_bytes: float
    cache_bytes: float = 0.0

    @property
    def moved_bytes(self) -> float:
        """All bytes."""
        return self.weight_bytes + self.activation_bytes + self.cache_bytes

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flops / self.moved_bytes

    def plus(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Pass(NamedTuple):
    """One forward pass: `new` tokens a sequence on `depth` that are in the cache."""

    batch: int
    new: int
    depth: int
    causal: bool = True  # False: every new token meets all of them, as attention with a mask computes it

    @property
    def tokens(self) -> int:
        """New tokens of all sequences."""
        return self.batch * self.new

    @property
    def pairs(self) -> int:
        """How many (query, key) pairs attention works on, all sequences together."""
        if not self.causal:
            return self.batch * self.new * (self.depth + self.new)
        return self.batch * (self.new * self.depth + self.new * (self.new + 1) // 2)


def passes(batch: int, kv_start: int, kv_end: int, a_pass: int) -> Iterable[Pass]:
    """The passes that take the cache from `kv_start` to `kv_end` by at most `a_pass` tokens each."""
    for depth in range(kv_start, kv_end, a_pass):
        yield Pass(batch=batch, new=min(a_pass, kv_end - depth), depth=depth)


def total(shape: Architecture, dtype: str, several: Iterable[Pass]) -> Mapping[Operator, Cost]:
    """The costs of some passes, by operator.

    Raises:
        ConfigInvalid: unknown dtype.
    """
    summed: dict[Operator, Cost] = {}
    for one in several:
        for operator, cost in costs(shape, dtype, one).items():
            summed[operator] = summed[operator].plus(cost) if operator in summed else cost
    return summed


def costs(shape: Architecture, dtype: str, asked: Pass) -> Mapping[Operator, Cost]:
    """FLOPs and bytes of one pass, by operator; what the architecture does not have is left out.

    Raises:
        ConfigInvalid: unknown dtype.
    """
    size = element_bytes(dtype)
    found = {**_attention(shape, size, asked), **_ends(shape, size, asked)}
    feed_forward = _dense(shape, shape.intermediate_size, size, asked) if shape.experts is None else {}
    found |= feed_forward | (_mixture(shape, size, asked) if shape.experts is not None else {})
    return {operator: found[operator] for operator in Operator if operator in found}


def _attention(shape: Architecture, size: int, asked: Pass) -> dict[Operator, Cost]:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layers, tokens = shape.layers, asked.tokens
    bias = queries + 2 * keys if shape.qkv_bias else 0
    out_bias = shape.hidden_size if shape.output_bias else 0
    kept = asked.batch * (asked.depth + 2 * asked.new) * 2 * keys  # old and new ones read, new ones written
    turned = queries + keys
    return {
        Operator.QKV_PROJ: _linear(shape.hidden_size, queries + 2 * keys, layers, size, tokens, bias),
        Operator.ROTARY: Cost(0, 0, layers * tokens * 2 * turned * size),
        Operator.ATTN_CORE: Cost(
            4 * layers * queries * asked.pairs, 0, layers * tokens * 2 * queries * size, layers * kept * size
        ),
        Operator.O_PROJ: _linear(queries, shape.hidden_size, layers, size, tokens, out_bias),
    }


def _ends(shape: Architecture, size: int, asked: Pass) -> dict[Operator, Cost]:
    """Embedding, head, norms and residual sums: what every layer or pass has whatever its feed-forward part."""
    hidden, tokens, layers = shape.hidden_size, asked.tokens, shape.layers
    norms = 2 * layers + 1
    inner = layers * shape.head_dim * (shape.heads + shape.kv_heads) if shape.qk_norm else 0
    spans = (shape.heads + shape.kv_heads) if shape.qk_norm_joint else 2
    inner_weights = layers * spans * shape.head_dim if shape.qk_norm else 0
    return {
        Operator.EMBEDDING: Cost(0, tokens * hidden * size, tokens * hidden * size),
        Operator.NORM: Cost(0, (norms * hidden + inner_weights) * size, 2 * tokens * (norms * hidden + inner) * size),
        Operator.LM_HEAD: _linear(hidden, shape.vocab_size, 1, size, asked.batch),
        Operator.SAMPLING: Cost(0, 0, asked.batch * shape.vocab_size * size),
        Operator.OTHER: Cost(0, 0, 2 * layers * 3 * tokens * hidden * size),
    }


def _dense(shape: Architecture, width: int, size: int, asked: Pass) -> dict[Operator, Cost]:
    tokens, layers = asked.tokens, shape.layers
    return {
        Operator.FFN_UP: _linear(shape.hidden_size, 2 * width, layers, size, tokens),
        Operator.ACT: Cost(0, 0, layers * tokens * 3 * width * size),
        Operator.FFN_DOWN: _linear(width, shape.hidden_size, layers, size, tokens),
    }


def _mixture(shape: Architecture, size: int, asked: Pass) -> dict[Operator, Cost]:
    assert shape.experts is not None
    mixture, hidden, layers, tokens = shape.experts, shape.hidden_size, shape.layers, asked.tokens
    shared = mixture.shared_intermediate_size
    routed = tokens * mixture.per_token
    matrices = 3 * hidden * mixture.intermediate_size
    met = experts_met(mixture, tokens)
    moved = routed * (hidden + 6 * mixture.intermediate_size + hidden)  # in; gate, up and product, each twice; out
    found = _dense(shape, shared, size, asked) if shared else {}
    found[Operator.ROUTER] = _linear(hidden, mixture.count + (1 if shared else 0), layers, size, tokens)
    found[Operator.DISPATCH] = Cost(0, 0, layers * (3 * routed + 2 * tokens) * hidden * size)
    found[Operator.EXPERTS] = Cost(
        2 * layers * routed * matrices, layers * met * matrices * size, layers * moved * size
    )
    return found


def _linear(inputs: int, outputs: int, layers: int, size: int, tokens: int, bias: int = 0) -> Cost:
    return Cost(
        2 * layers * tokens * inputs * outputs,
        layers * (inputs * outputs + bias) * size,
        layers * tokens * (inputs + outputs) * size,
    )


def grouped(by_operator: Mapping[Operator, float]) -> Mapping[Group, float]:
    """Any figure by operator, summed to attention, FFN and rest."""
    summed: Counter[Group] = Counter(dict.fromkeys(Group, 0))
    for operator, value in by_operator.items():
        summed[group_of(operator)] += value  # type: ignore[assignment]  # a Counter sums floats as well
    return dict(summed)
