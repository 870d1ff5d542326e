"""Ranks: the processes that share a model with the engine's own, which leads them.

Each holds its part of the model and runs the same forward passes in the same order, for every pass waits for the sums
of all. The leader tells them each call as a JSON line before it makes it itself; a call that takes its time is
answered. They talk over this host's loopback and its GPUs' own links alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import torch
import torch.distributed

from agent.engines.rank_calls import (
    LOOPBACK,
    AskPeak,
    Cropped,
    Done,
    Emptied,
    Planned,
    Prefilled,
    Prompted,
    Stepped,
    Told,
    meet,
)
from agent.engines.tensor_parallel import Rank
from agent.engines.transformers_modes import Launching, Mode, Plan
from agent.rank import Join
from phasewatt.errors import DoesNotFit, EngineFailed
from phasewatt.fields import Phase

_SIGKILL = -9


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
            meet(Rank(0, count), accelerator, meeting)
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


def _words(rank: Rank, code: int) -> str:
    """How a rank ended."""
    how = "was killed, as the kernel does when memory runs out" if code == _SIGKILL else f"ended with code {code}"
    return f"rank {rank.number} of {rank.of} {how}"


def _started(rank: Rank, accelerator: str, meeting: str) -> subprocess.Popen[bytes]:
    order = msgspec.json.encode(Join(rank.number, rank.of, accelerator, meeting, os.getpid())).decode()
    command = [sys.executable, "-m", "agent.rank", order]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | LOOPBACK)
