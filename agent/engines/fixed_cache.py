"""A KV cache of fixed size in one place, as captured graphs and compiled code need it.

The library's own StaticCache counts in each layer by itself and lets a prompt attend to its empty part too. Here all
layers share one position, kept on the device, and a prompt sees no more than what is filled.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, StaticCache
from transformers.cache_utils import StaticLayer

Storage = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values a layer, each [batch, kv_heads, room, head_dim]


def storage(config: Any, batch: int, room: int, dtype: torch.dtype, device: torch.device) -> Storage:
    """Zeroed keys and values of every layer."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (batch, config.num_key_value_heads, room, width)
    return [
        (torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device))
        for _ in range(config.num_hidden_layers)
    ]


class Filled:
    """How many tokens a prompt's earlier passes have left in the cache."""

    def __init__(self) -> None:
        self.tokens = 0


class _PromptLayer(StaticLayer):  # type: ignore[no-untyped-call]
    """Writes a pass of many tokens behind those that are filled; attention sees these and no more."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, filled: Filled) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values = self._kept = keys, values
        self._filled = filled
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [batch, kv_heads, tokens, head_dim]; all keys and values up to there."""
        start = self._filled.tokens
        end = start + key_states.shape[2]
        keys, values = self._kept
        keys[:, :, start:end].copy_(key_states)
        values[:, :, start:end].copy_(value_states)
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self) -> int:
        """Tokens before this pass."""
        return self._filled.tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that this pass sees."""
        return self._filled.tokens + query_length, 0


class _StepLayer(StaticLayer):  # type: ignore[no-untyped-call]
    """Writes one token at a position that the device knows; attention sees all of the cache, and masks the rest."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values = self._kept = keys, values
        self._position = position
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [batch, kv_heads, 1, head_dim]; all keys and values, empty ones too."""
        keys, values = self._kept
        keys.index_copy_(2, self._position, key_states)
        values.index_copy_(2, self._position, value_states)
        return keys, values


class PromptCache(Cache):
    """For passes over a prompt; set `filled.tokens` before each."""

    def __init__(self, kept: Storage, filled: Filled) -> None:
        super().__init__(layers=[_PromptLayer(keys, values, filled) for keys, values in kept])

    @property
    def is_compileable(self) -> bool:
        """Told not to be, so that a whole prompt may go without a mask, as with a cache that grows."""
        return False


class StepCache(StaticCache):
    """For one token a pass, at `position`, int64 [1]; masks and positions are the caller's."""

    def __init__(self, kept: Storage, position: torch.Tensor) -> None:
        Cache.__init__(self, layers=[_StepLayer(keys, values, position) for keys, values in kept])
