"""What is computed: an architecture, a task of it, and the weights that fill it."""

from __future__ import annotations

from phasewatt.fields import Count, Label, Positive, Record


class Experts(Record, frozen=True):
    """The mixture-of-experts part of an architecture."""

    count: Positive
    per_token: Positive
    intermediate_size: Positive
    shared_intermediate_size: Count = 0
    norm_topk_prob: bool = False  # the weights of a token's experts are scaled to sum to one


class Architecture(Record, frozen=True):
    """The shape of a decoder-only transformer; `name` is a label and no part of its identity."""

    name: Label
    family: Label  # the Hugging Face model_type
    hidden_size: Positive
    layers: Positive
    heads: Positive
    kv_heads: Positive
    head_dim: Positive
    intermediate_size: Positive
    vocab_size: Positive
    max_position: Positive
    tied_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    experts: Experts | None = None
    qk_norm_joint: bool = False  # the norms of queries and keys span all heads at once
    output_bias: bool = False  # of the attention's output projection


class Task(Record, frozen=True):
    """What is asked of any model of one architecture; see `identity.task_id`."""

    architecture: Architecture
    batch: Positive
    prompt_tokens: Positive
    prompt_digest: Label  # sha256 over the token ids, see prompt.digest
    output_tokens: Positive  # forced: no early end of text


class Weights(Record, frozen=True):
    """Which numbers fill the architecture."""

    source: Label  # "random:SEED", "path:DIR", "hub:OWNER/NAME@REVISION", or the engine's own word
    parameters: Positive
    digest: Label | None = None  # sha256 over names and values; None: drawn on the device, or not read
    drawn_on: Label | None = None  # "cpu": identical everywhere; "device": same distribution only


class Work(Record, frozen=True):
    """A task with its weights and their representation; see `identity.work_id`."""

    task: Task
    weights: Weights
    dtype: Label
    quantization: Label | None = None
