"""Mode `eager`: every operation is launched by itself, with a cache that grows."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import DynamicCache

from agent.engines.transformers_modes import Launching, Plan, chunks
from phasewatt.fields import Phase


class Eager:
    """See `Mode`."""

    def __init__(self, model: Any) -> None:
        self.logits: torch.Tensor | None = None
        self._model = model
        self._chunk: int | None = None
        self._prompt: tuple[torch.Tensor, ...] = ()
        self._cache: Any = None

    def plan(self, plan: Plan) -> None:
        """See `Mode.plan`."""
        self._chunk = plan.chunk

    def set_prompt(self, ids: torch.Tensor) -> None:
        """See `Mode.set_prompt`."""
        self._prompt = chunks(ids, self._chunk)
        self.reset()

    def reset(self) -> None:
        """See `Mode.reset`."""
        self._cache = DynamicCache(config=self._model.config)

    def prefill(self) -> torch.Tensor:
        """See `Mode.prefill`."""
        *before, last = self._prompt
        for piece in before:
            self._model.base_model(input_ids=piece, past_key_values=self._cache, use_cache=True)
        return self._forward(last)

    def decode_one(self, token: torch.Tensor) -> torch.Tensor:
        """See `Mode.decode_one`."""
        return self._forward(token)

    def crop(self, depth: int) -> None:
        """See `Mode.crop`."""
        surplus = self._cache.get_seq_length() - depth
        if surplus > 0:
            self._cache.crop(-surplus)

    def launching(self, phase: Phase) -> Launching:
        """See `Mode.launching`."""
        return Launching.ONE_BY_ONE

    def one_by_one(self) -> AbstractContextManager[None]:
        """See `Mode.one_by_one`: so it is."""
        return contextlib.nullcontext()

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1).logits
        self.logits = logits
        token: torch.Tensor = logits[:, -1].argmax(-1, keepdim=True)  # [batch, vocabulary] -> [batch, 1]
        return token
