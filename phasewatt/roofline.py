"""What an architecture asks of the hardware: parameters, memory, and per phase FLOPs and bytes. Pure.

A multiply-add counts as two FLOPs. Attention is counted causally, so each new token meets itself and all before it;
the language-model head runs for the last position only, as every engine here asks of it. Norms, rotary embedding and
activation functions are left out (under 1 % of the FLOPs of any preset). A token of a mixture multiplies the experts
that it is routed to; how many different ones a pass must read depends on the routing, so it is an expectation.
"""

from __future__ import annotations

from collections.abc import Mapping

from phasewatt import quantization
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Phase
from phasewatt.work import Architecture, Experts, Task

BYTES_PER_ELEMENT: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}


def element_bytes(dtype: str) -> int:
    """Bytes of one element of `dtype`.

    Raises:
        ConfigInvalid: unknown dtype.
    """
    if dtype not in BYTES_PER_ELEMENT:
        raise ConfigInvalid(f"dtype: expected one of {', '.join(BYTES_PER_ELEMENT)}, got {dtype!r}")
    return BYTES_PER_ELEMENT[dtype]


def parameter_count(shape: Architecture) -> int:
    """All parameters, tied embeddings counted once."""
    embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tied_embeddings else 2)
    return embeddings + shape.layers * (_attention(shape) + _ffn_total(shape) + _norms(shape)) + shape.hidden_size


def active_parameter_count(shape: Architecture) -> int:
    """Parameters that one token meets: all but a mixture's other experts."""
    return parameter_count(shape) - shape.layers * (_ffn_total(shape) - _ffn_active(shape))


def weight_bytes(shape: Architecture, dtype: str) -> int:
    """Memory of all parameters in bytes."""
    return parameter_count(shape) * element_bytes(dtype)


def kv_bytes_per_token(shape: Architecture, dtype: str) -> int:
    """Memory that one token of one sequence takes in the KV cache, in bytes."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * element_bytes(dtype)


def needed_bytes(task: Task, dtype: str, chunk: int | None = None, scores: bool = False) -> int:
    """Memory that a task needs at least: weights, KV cache, and the widest activations of its prefill.

    `chunk` prompt tokens go through a pass, all if None; `scores`: attention keeps its whole matrix, as "eager" does.
    """
    shape = task.architecture
    tokens = min(chunk or task.prompt_tokens, task.prompt_tokens)
    sequences = task.batch * (task.prompt_tokens + task.output_tokens)
    widest = max(_ffn_width(shape), (shape.heads + 2 * shape.kv_heads) * shape.head_dim)
    if scores:
        widest = max(widest, 2 * shape.heads * task.prompt_tokens)  # before and after the softmax
    activations = task.batch * tokens * (widest + 2 * shape.hidden_size) + task.batch * shape.vocab_size
    return (
        weight_bytes(shape, dtype) + sequences * kv_bytes_per_token(shape, dtype) + activations * element_bytes(dtype)
    )


def embedding_bytes(shape: Architecture, dtype: str) -> int:
    """Of the table that tokens are looked up in."""
    return shape.vocab_size * shape.hidden_size * element_bytes(dtype)


def phase_flops(task: Task, phase: Phase, kv_start: int, kv_end: int) -> int:
    """FLOPs of one repetition of `phase` that takes every sequence's KV cache from `kv_start` to `kv_end` tokens."""
    shape = task.architecture
    tokens = kv_end - kv_start
    passes = _passes(phase, tokens, task)
    linear = 2 * (shape.layers * (_attention(shape) + _ffn_active(shape))) * tokens
    context = (kv_start + 1 + kv_end) * tokens // 2  # sum of kv_start + 1 ... kv_end
    attention = 4 * shape.layers * shape.heads * shape.head_dim * context
    head = 2 * shape.hidden_size * shape.vocab_size * passes
    return task.batch * (linear + attention + head)


def weight_element_bytes(dtype: str, quantized: str | None) -> float | None:
    """Bytes that a pass reads of one weight, `quantized` as a trial's work says; None: that is not known here."""
    if dtype not in BYTES_PER_ELEMENT:
        return None
    if quantized is None:
        return element_bytes(dtype)
    scheme = quantization.by_words(quantized)
    return None if scheme is None else scheme.bytes_per_weight(element_bytes(dtype))


def phase_bytes(
    task: Task, dtype: str, phase: Phase, kv_start: int, kv_end: int, weight_width: float | None = None
) -> int:
    """Bytes that one repetition must move at least: weights once a pass, the KV cache read and its new part written.

    Of a mixture those experts count that a pass is expected to meet where all are equally likely. `weight_width` is
    of one weight, where it is not that of `dtype`.
    """
    shape = task.architecture
    tokens = kv_end - kv_start
    passes = _passes(phase, tokens, task)
    per_pass = tokens // passes
    matrices = shape.layers * (_attention(shape) + _ffn_met(shape, task.batch * per_pass))
    width = weight_width or element_bytes(dtype)
    weights = round((matrices + shape.hidden_size * shape.vocab_size) * width) * passes
    read = sum(kv_start + per_pass * index for index in range(passes))
    cache = kv_bytes_per_token(shape, dtype) * task.batch * (read + tokens)
    return weights + cache


def _passes(phase: Phase, tokens: int, task: Task) -> int:
    """Forward passes of one repetition."""
    if phase is Phase.PREFILL:
        return 1
    if phase is Phase.DECODE:
        return tokens
    raise ValueError(f"{phase.value} is a mixture of passes; count its phases")


def _attention(shape: Architecture) -> int:
    heads = shape.heads * shape.head_dim
    kv = 2 * shape.kv_heads * shape.head_dim
    bias = (heads + kv if shape.qkv_bias else 0) + (shape.hidden_size if shape.output_bias else 0)
    return shape.hidden_size * (heads + kv) + bias + heads * shape.hidden_size


def experts_met(mixture: Experts, tokens: int) -> float:
    """How many experts of a layer a pass of `tokens` tokens is expected to meet where all are equally likely."""
    missed = (1 - mixture.per_token / mixture.count) ** tokens  # the chance of one expert, by all of them
    return mixture.count * (1 - missed)


def _ffn_total(shape: Architecture) -> int:
    return round(_ffn(shape, None if shape.experts is None else shape.experts.count))


def _ffn_active(shape: Architecture) -> int:
    """Feed-forward parameters that one token meets."""
    return round(_ffn(shape, None if shape.experts is None else shape.experts.per_token))


def _ffn_met(shape: Architecture, tokens: int) -> float:
    """Feed-forward parameters that a pass of `tokens` tokens is expected to meet."""
    if shape.experts is None:
        return _ffn_total(shape)
    return _ffn(shape, experts_met(shape.experts, tokens))


def _ffn(shape: Architecture, experts: float | None) -> float:
    """Parameters of one layer's feed-forward part, `experts` of a mixture counted."""
    if shape.experts is None or experts is None:
        return 3 * shape.hidden_size * shape.intermediate_size
    mixture = shape.experts
    shared_gate = shape.hidden_size if mixture.shared_intermediate_size else 0
    router = shape.hidden_size * mixture.count + shared_gate
    widths = experts * mixture.intermediate_size + mixture.shared_intermediate_size
    return router + 3 * shape.hidden_size * widths


def _ffn_width(shape: Architecture) -> int:
    """Widest activations of one token in the feed-forward part: of a mixture each of its experts gets a copy of it."""
    if shape.experts is None:
        return 2 * shape.intermediate_size
    mixture = shape.experts
    routed = mixture.per_token * (2 * mixture.intermediate_size + shape.hidden_size)
    return max(routed, 2 * mixture.shared_intermediate_size)


def _norms(shape: Architecture) -> int:
    if not shape.qk_norm:
        return 2 * shape.hidden_size
    heads = (shape.heads + shape.kv_heads) if shape.qk_norm_joint else 2
    return 2 * shape.hidden_size + heads * shape.head_dim
