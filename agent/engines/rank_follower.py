"""A rank that follows: in its own process (agent/rank.py) it makes the calls that the leader tells it (ranks.py)."""

from __future__ import annotations

import sys
import time
from array import array
from typing import IO, Any

import msgspec
import torch

from agent import memory, out_of_memory
from agent.engines import transformers_attention, transformers_modes
from agent.engines.rank_calls import (
    ANSWERED,
    AskPeak,
    Cropped,
    Done,
    Emptied,
    Planned,
    Prefilled,
    Prompted,
    ResetPeak,
    Stepped,
    Told,
    meet,
)
from agent.engines.tensor_parallel import Rank
from agent.engines.transformers_model import build
from agent.engines.transformers_modes import Plan
from agent.rank import Join

_PATIENCE_S = 10.0  # with a leader that was told what went wrong, and should end its ranks


class Follower:
    """Another rank, in its own process: makes the calls that it is told."""

    def __init__(self, rank: Rank, device: torch.device) -> None:
        self._rank = rank
        self._device = device
        self._model: Any = None
        self._mode: Any = None
        self._first = self._last = torch.empty(0)

    def make(self, call: Told) -> Done | None:
        """What is answered; None: nothing is."""
        if isinstance(call, Stepped):
            self._last = self._mode.decode_one(self._first if call.of_prefill else self._last)
        elif isinstance(call, Prefilled):
            self._first = self._mode.prefill()
        elif isinstance(call, Cropped):
            self._mode.crop(call.depth)
        elif isinstance(call, Emptied):
            self._mode.reset()
        elif isinstance(call, ResetPeak):
            memory.reset_peak()
            if self._device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
        else:
            return self._answered(call)
        return None

    def _answered(self, call: ANSWERED) -> Done:
        if isinstance(call, AskPeak):
            on_gpu = torch.cuda.max_memory_allocated() if self._device.type == "cuda" else 0
            return Done(host_bytes=memory.peak_bytes(), gpu_bytes=on_gpu)
        if isinstance(call, Planned):
            torch.set_num_threads(call.threads)
            self._mode.plan(Plan(call.batch, call.tokens, call.room, call.chunk))
        elif isinstance(call, Prompted):
            ids = torch.tensor(array("q", call.ids), dtype=torch.int64)
            self._mode.set_prompt(ids.reshape(call.batch, -1).to(self._device))
        else:
            torch.set_float32_matmul_precision("high" if call.tf32 else "highest")
            self._mode = None
            if self._model is None:  # of one model at a time: another one has ranks of its own
                self._model = build(call, self._device, self._rank).model.eval()
            self._mode = transformers_modes.create(call.mode, self._model)
        return Done()


def serve(join: Join, calls: IO[bytes], answers: IO[bytes]) -> None:
    """Be a rank until there are no more calls."""
    torch.set_grad_enabled(False)
    transformers_attention.register()
    rank = Rank(join.number, join.of)
    device = meet(rank, join.accelerator, join.meeting)
    _follow(Follower(rank, device), calls, answers)


def _follow(follower: Follower, calls: IO[bytes], answers: IO[bytes]) -> None:
    """Make every call until there are no more; what fails in one that is not answered ends the process."""
    decoder = msgspec.json.Decoder(Told)
    for line in calls:
        call = decoder.decode(line)
        try:
            answer = follower.make(call)
        except Exception as error:
            if not isinstance(call, ANSWERED):
                raise
            said = str(error).strip() or "no message"
            fits = not isinstance(error, torch.OutOfMemoryError) and out_of_memory.sign_in(said) is None
            answer = Done(error=f"{type(error).__name__}: {said.splitlines()[0]}", fits=fits)
        if answer is not None:
            answers.write(msgspec.json.encode(answer) + b"\n")
            answers.flush()
            if answer.error is not None:  # the leader may wait in a sum, where it reads no answer
                time.sleep(_PATIENCE_S)
                sys.exit(answer.error)
