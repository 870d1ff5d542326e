"""Ranks: the processes that share a model with the engine's own, which leads them.

Each holds its part of the model and runs the same forward passes in the same order, for every pass waits for the sums
of all. The leader tells them each call as a JSON line before it makes it itself; a call that takes its time is
answered. They talk over this host's loopback and its GPUs' own links alone.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import msgspec
import torch
import torch.distributed

from agent import memory, out_of_memory
from agent.engines import transformers_attention, transformers_modes
from agent.engines.tensor_parallel import Rank
from agent.engines.transformers_model import build
from agent.engines.transformers_modes import Launching, Mode, Plan
from agent.orders import Load, Order
from agent.rank import Join
from phasewatt.errors import DoesNotFit, EngineFailed
from phasewatt.fields import Phase

_JOIN_S = 600.0  # importing torch from a slow disk, and building the model
_SIGKILL = -9
_PATIENCE_S = 10.0  # with a leader that was told what went wrong, and should end its ranks
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # all ranks are on this host
_BACKENDS = {"cuda": "nccl", "cpu": "gloo"}


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
_ANSWERED = Load | Planned | Prompted | AskPeak


class Ranks:
    """The other ranks, seen from the leader, which is rank 0."""

    def __init__(self, count: int, accelerator: str, folder: str | None = None) -> None:
        """Start them and join them; they meet in `folder`, or in one of their own.

        Raises:
            EngineFailed: they do not come together.
        """
        self.count = count
        self._encoder = msgspec.json.Encoder()
        self._answers = msgspec.json.Decoder(Done)
        self._closing = False
        self._folder = None if folder else tempfile.TemporaryDirectory(prefix="phasewatt-ranks-")
        meeting = str(Path(folder or self._folder.name, secrets.token_hex(8)))  # type: ignore[union-attr]
        self._followers = [_started(Rank(number, count), accelerator, meeting) for number in range(1, count)]
        for number, follower in enumerate(self._followers, start=1):
            threading.Thread(target=self._watch, args=(number, follower), daemon=True).start()
        try:
            _join(Rank(0, count), accelerator, meeting)
        except RuntimeError as error:
            self.close()
            raise EngineFailed(f"{count} ranks did not come together: {str(error).splitlines()[0]}") from error

    @property
    def pids(self) -> tuple[int, ...]:
        """Their process ids."""
        return tuple(follower.pid for follower in self._followers)

    def tell(self, call: Told) -> None:
        """Let every rank make that call.

        Raises:
            EngineFailed: one of them is no more.
        """
        line = self._encoder.encode(call) + b"\n"
        for number, follower in enumerate(self._followers, start=1):
            assert follower.stdin is not None
            try:
                follower.stdin.write(line)
                follower.stdin.flush()
            except OSError as error:
                code = follower.wait()
                kind = DoesNotFit if code == _SIGKILL else EngineFailed
                raise kind(_words(Rank(number, self.count), code)) from error

    @contextlib.contextmanager
    def together(self, call: Told) -> Iterator[list[Done]]:
        """Let every rank make a call that is answered while the leader makes it in the block; the answers.

        Raises:
            EngineFailed: one of them could not.
        """
        answers: list[Done] = []
        self.tell(call)
        yield answers
        for number, follower in enumerate(self._followers, start=1):
            assert follower.stdout is not None
            answer = self._answers.decode(follower.stdout.readline() or b'{"type":"Done","error":"it ended"}')
            if answer.error is not None:
                raise (EngineFailed if answer.fits else DoesNotFit)(f"rank {number} of {self.count}: {answer.error}")
            answers.append(answer)

    def peak(self) -> list[Done]:
        """Peak memory of each of the other ranks."""
        with self.together(AskPeak()) as answers:
            pass
        return answers

    def close(self) -> None:
        """End them."""
        self._closing = True
        for follower in self._followers:
            follower.kill()
            follower.wait()
            for pipe in (follower.stdin, follower.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if self._folder is not None:
            self._folder.cleanup()

    def _watch(self, number: int, follower: subprocess.Popen[bytes]) -> None:
        """A rank that ends takes the engine's process with it: the leader may wait for its sum for ever."""
        code = follower.wait()
        if not self._closing:
            sys.stderr.write(_words(Rank(number, self.count), code) + "\n")
            sys.stderr.flush()
            os._exit(1)


class Led:
    """See `Mode`: the leader's own, with every call told to the others first."""

    def __init__(self, mode: Mode, ranks: Ranks) -> None:
        self._mode = mode
        self._ranks = ranks
        self._first: torch.Tensor | None = None
        self._last: torch.Tensor | None = None

    @property
    def logits(self) -> torch.Tensor | None:
        """See `Mode`."""
        return self._mode.logits

    def plan(self, plan: Plan) -> int | None:
        """See `Mode.plan`."""
        with self._ranks.together(Planned(**plan._asdict(), threads=torch.get_num_threads())):
            return self._mode.plan(plan)

    def set_prompt(self, ids: torch.Tensor) -> None:
        """See `Mode.set_prompt`."""
        with self._ranks.together(Prompted(ids=tuple(ids.flatten().tolist()), batch=ids.shape[0])):
            self._mode.set_prompt(ids)

    def reset(self) -> None:
        """See `Mode.reset`."""
        self._ranks.tell(Emptied())
        self._mode.reset()

    def prefill(self) -> torch.Tensor:
        """See `Mode.prefill`."""
        self._ranks.tell(Prefilled())
        self._first = self._mode.prefill()
        return self._first

    def decode_one(self, token: torch.Tensor) -> torch.Tensor:
        """See `Mode.decode_one`; the token is that of the last prefill or of the last step."""
        of_prefill = token is self._first
        if not of_prefill and token is not self._last:
            raise EngineFailed("ranks hold no token but that of the last prefill and of the last step")
        self._ranks.tell(Stepped(of_prefill=of_prefill))
        self._last = self._mode.decode_one(token)
        return self._last

    def crop(self, depth: int) -> None:
        """See `Mode.crop`."""
        self._ranks.tell(Cropped(depth=depth))
        self._mode.crop(depth)

    def launching(self, phase: Phase) -> Launching:
        """See `Mode.launching`."""
        return self._mode.launching(phase)

    def one_by_one(self) -> AbstractContextManager[None]:
        """Not here: nothing that runs on several ranks is taken apart."""
        raise EngineFailed("a model on several ranks is not taken apart")


class _Follower:
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

    def _answered(self, call: _ANSWERED) -> Done:
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


def _words(rank: Rank, code: int) -> str:
    """How a rank ended."""
    how = "was killed, as the kernel does when memory runs out" if code == _SIGKILL else f"ended with code {code}"
    return f"rank {rank.number} of {rank.of} {how}"


def _started(rank: Rank, accelerator: str, meeting: str) -> subprocess.Popen[bytes]:
    order = msgspec.json.encode(Join(rank.number, rank.of, accelerator, meeting, os.getpid())).decode()
    command = [sys.executable, "-m", "agent.rank", order]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | _LOOPBACK)


def _join(rank: Rank, accelerator: str, meeting: str) -> torch.device:
    """Meet the others; the rank's device."""
    device = torch.device(f"cuda:{rank.number}" if accelerator == "cuda" else accelerator)
    if accelerator == "cuda":
        torch.cuda.set_device(device)
    os.environ.update(_LOOPBACK)
    torch.distributed.init_process_group(
        _BACKENDS[accelerator],
        init_method=f"file://{meeting}",
        rank=rank.number,
        world_size=rank.of,
        timeout=datetime.timedelta(seconds=_JOIN_S),
    )
    return device


def serve(join: Join, calls: IO[bytes], answers: IO[bytes]) -> None:
    """Be a rank until there are no more calls."""
    torch.set_grad_enabled(False)
    transformers_attention.register()
    rank = Rank(join.number, join.of)
    device = _join(rank, join.accelerator, join.meeting)
    _follow(_Follower(rank, device), calls, answers)


def _follow(follower: _Follower, calls: IO[bytes], answers: IO[bytes]) -> None:
    """Make every call until there are no more; what fails in one that is not answered ends the process."""
    decoder = msgspec.json.Decoder(Told)
    for line in calls:
        call = decoder.decode(line)
        try:
            answer = follower.make(call)
        except Exception as error:
            if not isinstance(call, _ANSWERED):
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
