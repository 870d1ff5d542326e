"""What the modes `graph` and `compiled` share: a cache of fixed size, and a decode step that feeds itself.

One step takes a token from a buffer, puts the next one there, and moves the position on, all on the device: a loop of
steps needs neither a copy nor a wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch

from agent.engines.fixed_cache import Filled, PromptCache, StepCache, storage
from agent.engines.transformers_attention import step_mask
from agent.engines.transformers_modes import Launching, Plan, chunks
from phasewatt.errors import EngineFailed
from phasewatt.fields import Phase

Step = Callable[[], torch.Tensor]  # gives the logits, [batch, 1, vocabulary]
Pass = Callable[[torch.Tensor], torch.Tensor]  # ids [batch, tokens] -> the last token's logits, [batch, 1, vocabulary]


class Maker(NamedTuple):
    """What a mode makes of the plain functions."""

    step: Callable[[Step, torch.Tensor], Step]  # of a step and the position that it moves on
    whole: Callable[[Pass], Pass]  # of a pass over the whole prompt, or its first chunk
    later: Callable[[Pass], Pass]  # of a pass over a later chunk
    making: Callable[[str], AbstractContextManager[None]]  # around the first run of what was made, named in words
    steps_are: Launching
    passes_are: Launching


class Static:
    """See `Mode`; `maker` tells the modes apart."""

    def __init__(self, model: Any, maker: Maker) -> None:
        self.logits: torch.Tensor | None = None
        self._model = model
        self._maker = maker
        self._plan: Plan | None = None
        self._placed: _Placed | None = None
        self._prompt: tuple[torch.Tensor, ...] = ()
        self._whole: Pass = _nothing_placed
        self._later: Pass = _nothing_placed
        self._step: Step = _no_step
        self._depth = self._room = 0

    def plan(self, plan: Plan) -> int:
        """See `Mode.plan`."""
        self._plan = plan
        return plan.room

    def set_prompt(self, ids: torch.Tensor) -> None:
        """See `Mode.set_prompt`: here caches are placed, graphs captured and code compiled."""
        plan = self._plan or Plan(ids.shape[0], ids.shape[1], 2 * ids.shape[1], None)
        if ids.shape[1] > plan.room:
            raise EngineFailed(f"a prompt of {ids.shape[1]} tokens in a cache of fixed size for {plan.room}")
        key = (*plan, torch.get_num_threads())
        if self._placed is None or self._placed.key != key:
            self._let_go()
            placed = _Placed(self._model, plan, ids.device, key)
            self._step = self._maker.step(placed.step, placed.position)
            self._placed, self._room, self._depth = placed, plan.room, 0  # whole, or not at all
        self._prompt = chunks(ids, plan.chunk)
        self._ready_passes(self._placed, is_timed=ids.shape[1] == plan.tokens)
        self.reset()

    def reset(self) -> None:
        """See `Mode.reset`."""
        self.crop(0)

    def prefill(self) -> torch.Tensor:
        """See `Mode.prefill`."""
        placed = self._placed
        assert placed is not None and self._prompt
        placed.filled.tokens = 0
        logits = self._whole(self._prompt[0])
        for before, piece in zip(self._prompt, self._prompt[1:], strict=False):
            placed.filled.tokens += before.shape[1]
            logits = self._later(piece)
        self.logits = logits
        self._depth = placed.filled.tokens + self._prompt[-1].shape[1]
        placed.position.fill_(self._depth)
        return logits[:, -1].argmax(-1, keepdim=True)  # [batch, vocabulary] -> [batch, 1]

    def decode_one(self, token: torch.Tensor) -> torch.Tensor:
        """See `Mode.decode_one`; the token is the same buffer after every step."""
        placed = self._placed
        assert placed is not None
        if self._depth >= self._room:
            raise EngineFailed(f"the cache of fixed size is full: {self._room} tokens")
        if token is not placed.token:
            placed.token.copy_(token)
        self.logits = self._step()
        self._depth += 1
        return placed.token

    def crop(self, depth: int) -> None:
        """See `Mode.crop`."""
        if self._placed is not None and depth < self._depth:
            self._placed.position.fill_(depth)
            self._depth = depth

    def launching(self, phase: Phase) -> Launching:
        """See `Mode.launching`."""
        return self._maker.passes_are if phase is Phase.PREFILL else self._maker.steps_are

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """See `Mode.one_by_one`: the step as it was before anything was made of it."""
        assert self._placed is not None
        made, self._step = self._step, self._placed.step
        try:
            yield
        finally:
            self._step = made

    def _let_go(self) -> None:
        """Of caches, graphs and what they gave, so that their memory is free before new ones are placed."""
        self._placed, self.logits = None, None
        self._step, self._whole, self._later = _no_step, _nothing_placed, _nothing_placed

    def _ready_passes(self, placed: _Placed, is_timed: bool) -> None:
        """The passes of the prompt that is timed, as the mode makes them; those that only fill the cache are plain."""
        if not is_timed:
            self._whole = self._later = placed.run
            return
        if placed.made is None:
            self._whole, self._later = self._maker.whole(placed.run), self._maker.later(placed.run)
            with self._maker.making("prefill"):
                self.prefill()
            placed.made = self._whole, self._later
        self._whole, self._later = placed.made


class _Placed:
    """Buffers on the device for one plan, and the plain functions that work on them."""

    def __init__(self, model: Any, plan: Plan, device: torch.device, key: tuple[int | None, ...]) -> None:
        self.key = key
        self.made: tuple[Pass, Pass] | None = None  # the passes as the mode makes them
        self.token = torch.zeros((plan.batch, 1), dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.filled = Filled()
        kept = storage(model.config, plan.batch, plan.room, model.dtype, device)
        self.run = _pass_over(model, PromptCache(kept, self.filled))
        slots = torch.arange(plan.room, device=device)
        self.step = _step_on(model, StepCache(kept, self.position), self.token, self.position, slots)


def _pass_over(model: Any, cache: PromptCache) -> Pass:
    def run(ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return logits

    return run


def _step_on(model: Any, cache: StepCache, token: torch.Tensor, position: torch.Tensor, slots: torch.Tensor) -> Step:
    mask_of = step_mask(model.config._attn_implementation, model.dtype)

    def step() -> torch.Tensor:
        logits: torch.Tensor = model(
            input_ids=token,
            position_ids=position.unsqueeze(0),  # [1, 1]
            attention_mask=mask_of(slots, position),  # [1, 1, 1, room]
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        token.copy_(logits[:, -1].argmax(-1, keepdim=True))
        position.add_(1)
        return logits

    return step


def _no_step() -> torch.Tensor:
    raise EngineFailed("no prompt is set, or its decode step could not be made")


def _nothing_placed(ids: torch.Tensor) -> torch.Tensor:
    raise EngineFailed("no prompt is set, or its prefill could not be made")
