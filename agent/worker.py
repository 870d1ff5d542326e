"""The child process that holds the engine: reads orders, runs them, answers. The daemon never imports torch; this does.

Orders come as JSON lines on standard input; answers go to the descriptor that was standard output, which libraries
that print can no longer reach.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from array import array
from typing import IO

import msgspec

from agent import engines, out_of_memory
from agent.orders import (
    Answer,
    Burn,
    CeilingMeasured,
    Load,
    MeasureCeiling,
    MeasureMemory,
    Memory,
    ProfileOperators,
    Prompt,
    Question,
    Ready,
    Refused,
    Repeat,
    Resolve,
)
from agent.phases import Phases
from phasewatt import prompt
from phasewatt.errors import DoesNotFit, EngineAbsent, EngineFailed, PhasewattError

_PR_SET_PDEATHSIG = 1


class Worker:
    """Carries out orders on one engine."""

    def __init__(self, engine: engines.Engine | engines.Remote) -> None:
        self._engine = engine
        self._vocab_size = 0
        self._phases: engines.PhaseRunner | None = None
        self._own_threads: int | None = None

    def answer(self, order: Question) -> Answer:
        """What came of `order`.

        Raises:
            PhasewattError: it could not be carried out.
        """
        if isinstance(order, Resolve):
            return self._engine.describe(order)
        if isinstance(order, Load):
            self._vocab_size = order.architecture.vocab_size
            with self._engine.guarded():
                return self._engine.load(order)
        if isinstance(order, Prompt):
            return self._set_prompt(order)
        if isinstance(order, MeasureMemory):
            return Memory(use=self._engine.memory())
        if isinstance(order, Burn):
            with self._engine.guarded():
                return self._engine.burn(order)
        if isinstance(order, MeasureCeiling):
            return self._ceiling(order)
        if self._phases is None:
            raise EngineFailed("a phase was asked for before a prompt was set")
        if isinstance(order, Repeat):
            return self._phases.repeat(order)
        if isinstance(order, ProfileOperators):
            return self._phases.operators(order)
        return self._phases.profile(order)

    def _ceiling(self, order: MeasureCeiling) -> CeilingMeasured:
        if not isinstance(self._engine, engines.HasCeilings):
            raise EngineFailed("this engine measures no ceilings; run suite ceilings")
        self._set_threads(order.threads)  # the next prompt sets them again
        with self._engine.guarded():
            return self._engine.ceiling(order)

    def _set_prompt(self, order: Prompt) -> Ready:
        def context(tokens: int) -> array[int]:
            return prompt.token_ids(order.seed, order.batch, tokens, self._vocab_size)

        threads = self._set_threads(order.threads)
        self._engine.reset_peak_memory()
        self._phases = None  # its prompt and cache are gone, whatever comes of this
        with self._engine.guarded():
            if isinstance(self._engine, engines.Remote):
                cache_tokens = None  # the server's own matter
                self._phases = self._engine.phases(context, order.batch, order.tokens)
            else:
                cache_tokens = self._engine.plan(order)
                self._phases = Phases(self._engine, context, order.batch, order.tokens)
        return Ready(threads=threads, cache_tokens=cache_tokens)

    def _set_threads(self, asked: int | None) -> int | None:
        """CPU threads that are used from now on, the engine's choice where none is asked for; None without torch."""
        if isinstance(self._engine, engines.OwnThreads):
            with self._engine.guarded():
                return self._engine.set_threads(asked)
        torch = sys.modules.get("torch")
        if torch is None:
            return asked
        if self._own_threads is None:
            self._own_threads = torch.get_num_threads()
        torch.set_num_threads(asked or self._own_threads)
        count: int = torch.get_num_threads()
        return count


def serve(engine_name: str, orders: IO[bytes], answers: IO[bytes]) -> None:
    """Answer orders until the stream ends."""
    decoder = msgspec.json.Decoder(Question)
    worker: Worker | None = None
    for line in orders:
        try:
            worker = worker or Worker(engines.create(engine_name))
            answer = worker.answer(decoder.decode(line))
        except PhasewattError as error:
            answer = _refused(error)
        except Exception as error:  # noqa: BLE001 - an engine's library may raise anything; the campaign goes on
            said = str(error).strip() or "no message"
            fits = not isinstance(error, MemoryError) and out_of_memory.sign_in(said) is None
            answer = Refused(message=f"{type(error).__name__}: {said.splitlines()[0]}", fits=fits)
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()


def _refused(error: PhasewattError) -> Refused:
    return Refused(message=str(error), fits=not isinstance(error, DoesNotFit), absent=isinstance(error, EngineAbsent))


def main() -> None:
    """Entry point of the child: `python -m agent.worker ENGINE`."""
    for number in (signal.SIGINT, signal.SIGTERM):  # these reach the whole group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphan keeps a GPU
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
