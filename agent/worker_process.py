"""The parent's end of the worker: starts the child, puts questions to it, and survives its death."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from typing import TypeVar

import msgspec

from agent import out_of_memory
from agent.last_words import LastWords
from agent.orders import Answer, Question, Refused
from agent.stopping import Stop
from phasewatt.errors import DoesNotFit, EngineAbsent, EngineFailed

_POLL_S = 0.5
_SIGKILL = -9
_LONGEST_WORDS = 300  # characters of a line

Expected = TypeVar("Expected")


class WorkerProcess:
    """One child process with one engine; waiting for it ends at `stop`."""

    def __init__(self, engine: str, stop: Stop) -> None:
        self._engine = engine
        self._stop = stop
        self._decoder = msgspec.json.Decoder(Answer)
        self._pending = bytearray()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "agent.worker", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"},
        )
        assert self._child.stderr is not None
        self._last_words = LastWords(self._child.stderr)

    def ask(self, question: Question, answer: type[Expected], limit_s: float) -> Expected:
        """The worker's answer.

        Raises:
            EngineAbsent: its engine is not installed.
            EngineFailed: it refused, died, or did not answer within `limit_s`.
            DoesNotFit: memory was the cause.
            Stopped: asked to end meanwhile.
        """
        line = self._exchange(msgspec.json.encode(question) + b"\n", time.monotonic() + limit_s)
        reply = self._decoder.decode(line)
        if isinstance(reply, Refused):
            raise _told(reply)
        if not isinstance(reply, answer):
            raise EngineFailed(f"engine {self._engine} answered {type(reply).__name__}, not {answer.__name__}")
        return reply

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def close(self) -> None:
        """End the child at once; it keeps nothing that is worth waiting for."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # an order that was never read
                    pipe.close()
        self._last_words.close()

    def _exchange(self, order: bytes, deadline: float) -> bytes:
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            self._child.stdin.write(order)
            self._child.stdin.flush()
        except OSError as error:
            raise self._died() from error
        while b"\n" not in self._pending:
            self._stop.pause(0)
            if time.monotonic() > deadline:
                raise EngineFailed(f"engine {self._engine} did not answer in time")
            ready, _, _ = select.select([self._child.stdout], [], [], _POLL_S)
            if ready:
                self._receive(self._child.stdout.fileno())
        line, _, self._pending = self._pending.partition(b"\n")
        return bytes(line)

    def _receive(self, pipe: int) -> None:
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            raise self._died()
        self._pending += chunk

    def _died(self) -> EngineFailed:
        code = self._child.wait()
        said = self._last_words.text()
        if sign := out_of_memory.sign_in(said):
            return DoesNotFit(f"the engine's process ended, {out_of_memory.reason_here(sign[:_LONGEST_WORDS])}")
        if code == _SIGKILL:
            return DoesNotFit("the engine's process was killed, as the kernel does when memory runs out")
        last = said.splitlines()[-1][:_LONGEST_WORDS] if said else ""
        return EngineFailed(f"the engine's process ended with code {code}" + (f": {last}" if last else ""))


def _told(reply: Refused) -> EngineFailed:
    """The error that the worker met, by the reaction that it calls for."""
    if reply.absent:
        return EngineAbsent(reply.message)
    return EngineFailed(reply.message) if reply.fits else DoesNotFit(reply.message)
