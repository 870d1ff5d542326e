"""Where weights come from that are no random ones: a directory, or a repository of the hub. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent import models
from agent.orders import Resolve
from phasewatt.errors import EngineFailed
from phasewatt.work import Architecture

DRAWN_ON_CPU_LIMIT = 1_500_000_000 * 11 // 10  # random weights; "1.5B" models have up to a tenth more
WEIGHT_FILES = ("*.safetensors", "*.json")


def architecture(order: Resolve) -> Architecture:
    """The architecture that `order` asks for.

    Raises:
        ConfigInvalid: there is none, or it is of a kind that is not supported.
        EngineFailed: it could not be fetched.
    """
    if order.weights.startswith("random:"):
        return models.named(order.model)
    return models.from_config_file(snapshot(order.weights, ("config.json",)) / "config.json")


def snapshot(weights: str, wanted: Sequence[str] = WEIGHT_FILES) -> Path:
    """Directory of a model's files, those `wanted` fetched from the hub if that is where it is.

    Raises:
        EngineFailed: they could not be fetched.
    """
    kind, _, where = weights.partition(":")
    if kind == "path":
        return Path(where).expanduser()
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only hub: weights need it

    repository, _, revision = where.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(wanted)))
    except Exception as error:  # the hub's client has no common root for its own and its transport's errors
        cause = str(error).strip().splitlines()
        raise EngineFailed(f"weights {kind}:{where} could not be fetched: {cause[0] if cause else error!r}") from error
