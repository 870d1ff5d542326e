"""The timed loops: each phase by itself, with nothing inside a span but model calls, a sync and the clock."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agent.engines import Engine, TellsOperators
from agent.orders import OperatorsProfiled, Profile, Profiled, ProfileOperators, Repeat, Repeated, no_operators
from phasewatt.errors import EngineFailed
from phasewatt.fields import Phase

_MOST_REPETITIONS = 4096  # keeps a trial's columns within one message


class Stopwatch:
    """Start, marks and end of one span, on the monotonic clock."""

    def __init__(self) -> None:
        self.start_ns = 0
        self.end_ns = 0
        self.marks_ns: list[int] = []

    def mark(self) -> None:
        """Note the time of a token."""
        self.marks_ns.append(time.monotonic_ns())

    @contextmanager
    def span(self) -> Iterator[None]:
        """Time the block."""
        self.start_ns = time.monotonic_ns()
        yield
        self.end_ns = time.monotonic_ns()


class Phases:
    """Runs the phases of one prompt on one engine."""

    def __init__(self, engine: Engine, context: Callable[[int], array[int]], batch: int, tokens: int) -> None:
        """`context(n)` gives n token ids a sequence, [batch, n]; its first use is the prompt of `tokens`."""
        self._engine = engine
        self._context = context
        self._batch = batch
        self._tokens = tokens
        self._placed = 0
        self._prepared: tuple[tuple[Phase, int, int], Callable[[], Stopwatch]] | None = None
        self._place(tokens)

    def repeat(self, order: Repeat) -> Repeated:
        """Repetitions back to back."""
        watches: list[Stopwatch] = []
        with self._engine.guarded(), _no_garbage_collection():
            once = self._ready(order.phase, order.depth, order.steps)
            began = time.monotonic()
            while _go_on(order, len(watches), time.monotonic() - began):
                watches.append(once())
        return _answer(order.phase, watches)

    def profile(self, order: Profile) -> Profiled:
        """Device-busy time, in a pass of its own."""
        try:
            with self._engine.guarded():
                once = self._ready(order.phase, order.depth, order.steps)
                busy_ns = tuple(self._engine.device_busy_ns(once) for _ in range(order.repetitions))
        except EngineFailed as error:
            self._prepared = None  # it may have ended half-way, at another depth
            return Profiled(busy_ns=None, reason=str(error))
        return Profiled(busy_ns=busy_ns, reason=None)

    def operators(self, order: ProfileOperators) -> OperatorsProfiled:
        """Device time by operator, in a pass of its own."""
        if not isinstance(self._engine, TellsOperators):
            return no_operators(order, "the engine does not tell which operator a kernel of its own is of")
        try:
            with self._engine.guarded():
                once = self._ready(order.phase, order.depth, order.steps)
                return OperatorsProfiled(profile=self._engine.operator_profile(order, once))
        except EngineFailed as error:
            self._prepared = None  # as above
            return no_operators(order, str(error))

    def prefill_once(self) -> Stopwatch:
        """One prefill of the whole prompt on an empty cache."""
        engine, watch = self._engine, Stopwatch()
        engine.reset()
        engine.sync()
        with watch.span():
            engine.prefill()
            engine.sync()
        return watch

    def decode_once(self, token: Any, depth: int, steps: int) -> Stopwatch:
        """`steps` decode steps that begin with `token` on `depth` tokens in the cache; cropped back afterwards."""
        engine, watch = self._engine, Stopwatch()
        with watch.span():
            for _ in range(steps):
                token = engine.decode_one(token)  # [batch, 1]
            engine.sync()
        engine.crop(depth)
        return watch

    def request_once(self, steps: int) -> Stopwatch:
        """One request of `steps` output tokens, each waited for, as a streaming client would."""
        engine, watch = self._engine, Stopwatch()
        engine.reset()
        engine.sync()
        with watch.span():
            token = engine.prefill()
            engine.sync()
            watch.mark()
            for _ in range(steps - 1):
                token = engine.decode_one(token)  # [batch, 1]
                engine.sync()
                watch.mark()
        return watch

    def _ready(self, phase: Phase, depth: int, steps: int) -> Callable[[], Stopwatch]:
        """One repetition, ready to begin: a stretch that follows another of its kind begins without delay."""
        key = (phase, depth, steps)
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None
            self._prepared = key, self._made_ready(phase, depth, steps)
        return self._prepared[1]

    def _made_ready(self, phase: Phase, depth: int, steps: int) -> Callable[[], Stopwatch]:
        if phase is Phase.DECODE:
            self._place(depth)
            first = self._engine.prefill()
            self._engine.sync()
            return lambda: self.decode_once(first, depth, steps)
        self._place(self._tokens)
        return self.prefill_once if phase is Phase.PREFILL else lambda: self.request_once(steps)

    def _place(self, tokens: int) -> None:
        """Make `tokens` ids a sequence the engine's prompt."""
        if tokens != self._placed:
            self._engine.set_prompt(self._context(tokens), self._batch)
            self._placed = tokens
        self._engine.reset()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _go_on(order: Repeat, done: int, elapsed_s: float) -> bool:
    most = _MOST_REPETITIONS // max(1, order.steps if order.phase is Phase.REQUEST else 1)
    if done >= max(most, order.repetitions) or (done and elapsed_s >= order.limit_s):
        return False
    return done < order.repetitions or elapsed_s < order.seconds


def _answer(phase: Phase, watches: list[Stopwatch]) -> Repeated:
    first: list[int] = []
    gaps: list[tuple[int, ...]] = []
    if phase is Phase.REQUEST:
        first = [watch.marks_ns[0] - watch.start_ns for watch in watches]
        gaps = [tuple(b - a for a, b in zip(w.marks_ns, w.marks_ns[1:], strict=False)) for w in watches]
    return Repeated(
        starts_ns=tuple(watch.start_ns for watch in watches),
        durations_ns=tuple(watch.end_ns - watch.start_ns for watch in watches),
        first_token_ns=tuple(first),
        gaps_ns=tuple(gaps),
    )
