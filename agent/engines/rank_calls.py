"""What the ranks of a model tell each other, one JSON line each, and how they meet."""

from __future__ import annotations

import datetime
import os

import torch
import torch.distributed

from agent.engines.tensor_parallel import Rank
from agent.orders import Load, Order

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # all ranks are on this host
_BACKENDS = {"cuda": "nccl", "cpu": "gloo"}
_JOIN_S = 600.0  # importing torch from a slow disk, and building the model


class Planned(Order, frozen=True):
    """`Mode.plan`, on so many CPU threads; answered."""

    batch: int
    tokens: int
    room: int
    chunk: int | None
    threads: int


class Prompted(Order, frozen=True):
    """`Mode.set_prompt`: token ids, row-major [batch, tokens]; answered."""

    ids: tuple[int, ...]
    batch: int


class Emptied(Order, frozen=True):
    """`Mode.reset`."""


class Prefilled(Order, frozen=True):
    """`Mode.prefill`."""


class Stepped(Order, frozen=True):
    """`Mode.decode_one` of the token of the last prefill, or else of the last step."""

    of_prefill: bool


class Cropped(Order, frozen=True):
    """`Mode.crop`."""

    depth: int


class ResetPeak(Order, frozen=True):
    """Count peak memory from now on."""


class AskPeak(Order, frozen=True):
    """Peak memory since then; answered."""


class Done(Order, frozen=True):
    """An answer: what went wrong, or nothing; and peak memory, where that was asked."""

    error: str | None = None
    fits: bool = True  # False: memory was the cause
    host_bytes: int | None = None
    gpu_bytes: int = 0


Told = Load | Planned | Prompted | Emptied | Prefilled | Stepped | Cropped | ResetPeak | AskPeak
ANSWERED = Load | Planned | Prompted | AskPeak


def meet(rank: Rank, accelerator: str, meeting: str) -> torch.device:
    """Meet the others; the rank's device."""
    device = torch.device(f"cuda:{rank.number}" if accelerator == "cuda" else accelerator)
    if accelerator == "cuda":
        torch.cuda.set_device(device)
    os.environ.update(LOOPBACK)
    torch.distributed.init_process_group(
        _BACKENDS[accelerator],
        init_method=f"file://{meeting}",
        rank=rank.number,
        world_size=rank.of,
        timeout=datetime.timedelta(seconds=_JOIN_S),
    )
    return device
