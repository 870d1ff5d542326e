"""The phases of a served model: one-token requests for prefill, long ones for decode, whole ones as a client sees them.

There is no hot path of calls here: what is timed is the arrival of each chunk, by the threads that wait for them.
"""

from __future__ import annotations

import gc
import secrets
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from agent.orders import OperatorsProfiled, Profile, Profiled, ProfileOperators, Repeat, Repeated, no_operators
from agent.served.client import Client
from agent.served.reading import Asked, Timed, timed
from agent.served.server import Server
from agent.served.slices import Slices, slices_of
from phasewatt.errors import EngineFailed
from phasewatt.fields import Phase

_PATH = "/v1/completions"
_MOST_TIMES = 4096  # keeps a trial's columns within one message
_SPARE = 1.15  # of the steps that a window should take: a stream cannot be made longer once it runs
_MOST_TRIES = 3  # of a decode window, each longer than the one before
_PATIENCE_S = 60.0  # for all sequences to be ready to begin together


class _NotTogether(EngineFailed):
    """Another sequence failed before this one began."""


class ServedPhases:
    """Runs the phases of one prompt a sequence, all sequences at once, on one server."""

    def __init__(
        self, client: Client, server: Server, context: Callable[[int], array[int]], batch: int, tokens: int
    ) -> None:
        """`context(n)` gives n token ids a sequence, [batch, n]."""
        self._client = client
        self._server = server
        self._context = context
        self._batch = batch
        self._tokens = tokens
        self._step_s: float | None = None  # of the last decode window
        self._placed: tuple[int, list[list[int]]] = (0, [])

    def repeat(self, order: Repeat) -> Repeated:
        """Repetitions of a phase; of decode, slices of one long stream.

        Raises:
            EngineFailed: the server fails, or its counts do not hold.
        """
        run = {Phase.PREFILL: self._prefill, Phase.DECODE: self._decode, Phase.REQUEST: self._requests}
        with _no_garbage_collection():
            return run[order.phase](order)

    def profile(self, order: Profile) -> Profiled:
        """No device time: a server's kernels are not seen from outside."""
        return Profiled(busy_ns=None, reason="a served model's device time is not seen from outside its server")

    def operators(self, order: ProfileOperators) -> OperatorsProfiled:
        """None: see `profile`."""
        return no_operators(order, "a served model's operators are not seen from outside its server")

    def complete(self, prompt: Sequence[int], output_tokens: int, ready: Callable[[], object] = lambda: None) -> Timed:
        """One request, checked."""
        asked = Asked(self._server.model, len(prompt), output_tokens)
        reply = self._client.stream(_PATH, self._request(prompt, output_tokens), ready)
        return timed(reply, asked, self._server.dialect)

    def _request(self, prompt: Sequence[int], output_tokens: int) -> dict[str, Any]:
        dialect = self._server.dialect
        return {
            "model": self._server.model,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **dialect.fields,
            **({dialect.salt: secrets.token_urlsafe(32)} if dialect.salt else {}),
        }

    def _prefill(self, order: Repeat) -> Repeated:
        """One-token requests, all sequences at once, over and over."""
        prompts = self._prompts(self._tokens)
        bursts: list[list[Timed]] = []
        began_s = time.monotonic()
        while _go_on(order, len(bursts), time.monotonic() - began_s, _MOST_TIMES):
            bursts.append(self._together(prompts, 1))
        starts_ns = tuple(min(stream.start_ns for stream in burst) for burst in bursts)
        ends_ns = [max(stream.arrivals_ns[-1] for stream in burst) for burst in bursts]
        return Repeated(
            starts_ns=starts_ns,
            durations_ns=tuple(max(1, end - start) for start, end in zip(starts_ns, ends_ns, strict=True)),
        )

    def _decode(self, order: Repeat) -> Repeated:
        """One long request a sequence, made longer until the window that they share is long enough."""
        prompts, room = self._prompts(order.depth), self._room(order.depth, order.steps)
        wanted = min(room, max(order.repetitions, self._slices_in(order.seconds, order)))
        for _ in range(_MOST_TRIES):
            streams = self._together(prompts, 1 + wanted * order.steps)
            found = slices_of(streams, order.steps)
            self._learn(found, order.steps)
            enough = max(order.repetitions, self._slices_in(order.seconds, order))
            if wanted >= room or (len(found.starts_ns) >= order.repetitions and wanted * _SPARE >= enough):
                break
            wanted = min(room, max(2 * wanted, enough))
        self._check_shared(found)
        return Repeated(
            starts_ns=found.starts_ns,
            durations_ns=found.durations_ns,
            kv_ahead=found.ahead,
            kv_advance=order.steps,
        )

    def _requests(self, order: Repeat) -> Repeated:
        """Each sequence asked for anew as soon as it is done: as many in flight as there are sequences."""
        prompts = self._prompts(self._tokens)
        least = max(order.repetitions, self._batch * (2 if self._batch > 1 and order.seconds else 1))
        most = max(_MOST_TIMES // order.steps, least)
        done: list[Timed] = []
        lock, began_s, begun = threading.Lock(), time.monotonic(), 0

        def may_go_on() -> bool:
            nonlocal begun
            with lock:
                passed_s = time.monotonic() - began_s
                go = (
                    begun < most
                    and (begun < least or passed_s < order.seconds)
                    and not (begun and passed_s >= order.limit_s)
                )
                begun += go
                return go

        def client(prompt: list[int]) -> None:
            nonlocal begun
            while may_go_on():
                try:
                    finished = self.complete(prompt, order.steps)
                except EngineFailed:
                    begun = most  # nobody begins another
                    raise
                with lock:
                    done.append(finished)

        self._each(prompts, client)
        return _as_requests(sorted(done, key=lambda stream: stream.start_ns), self._batch)

    def _together(self, prompts: Sequence[list[int]], output_tokens: int) -> list[Timed]:
        """One request a sequence, all begun at once."""
        barrier = threading.Barrier(len(prompts))

        def one(prompt: list[int]) -> Timed:
            try:
                return self.complete(prompt, output_tokens, lambda: barrier.wait(_PATIENCE_S))
            except threading.BrokenBarrierError as error:
                raise _NotTogether("the sequences could not be begun together") from error
            except EngineFailed:
                barrier.abort()
                raise

        return self._each(prompts, one)

    def _each(self, prompts: Sequence[list[int]], work: Callable[[list[int]], Any]) -> list[Any]:
        if len(prompts) == 1:
            return [work(prompts[0])]
        with ThreadPoolExecutor(len(prompts)) as pool:
            waiting = [pool.submit(work, prompt) for prompt in prompts]
        failures = [error for future in waiting if (error := future.exception()) is not None]
        if failures:
            raise next((error for error in failures if not isinstance(error, _NotTogether)), failures[0])
        return [future.result() for future in waiting]

    def _prompts(self, tokens: int) -> list[list[int]]:
        if self._placed[0] != tokens:
            ids = self._context(tokens)
            self._placed = tokens, [list(ids[row * tokens : (row + 1) * tokens]) for row in range(self._batch)]
        return self._placed[1]

    def _room(self, depth: int, steps: int) -> int:
        """Slices that fit between `depth` and the end of a sequence."""
        if self._server.context is None:
            return _MOST_TIMES
        room = (self._server.context - depth - 1) // steps
        if room < 1:
            raise EngineFailed(
                f"the server takes {self._server.context} tokens a sequence: no room for {steps} steps at depth {depth}"
            )
        return min(room, _MOST_TIMES)

    def _slices_in(self, seconds: float, order: Repeat) -> int:
        """How many slices of steps fill the seconds, with some to spare."""
        if self._step_s is None:
            return 0
        return int(min(seconds, order.limit_s) * _SPARE / (self._step_s * order.steps)) + 1

    def _learn(self, found: Slices, steps: int) -> None:
        if found.durations_ns:
            self._step_s = sum(found.durations_ns) * 1e-9 / (len(found.durations_ns) * steps)

    def _check_shared(self, found: Slices) -> None:
        if not found.starts_ns:
            slots = f"; it has {self._server.slots} slots" if self._server.slots else ""
            raise EngineFailed(
                f"the server never decoded all {self._batch} sequences at once{slots}: "
                "let it take more at a time, or choose a smaller batch"
            )


def _as_requests(streams: Sequence[Timed], in_flight: int) -> Repeated:
    several = any(stream.tokens is None or max(stream.tokens) > 1 for stream in streams)
    return Repeated(
        starts_ns=tuple(stream.start_ns for stream in streams),
        durations_ns=tuple(stream.duration_ns for stream in streams),
        first_token_ns=tuple(stream.first_ns for stream in streams),
        gaps_ns=tuple(stream.gaps_ns for stream in streams),
        several_to_a_chunk=several,
        in_flight=in_flight,
    )


def _go_on(order: Repeat, done: int, elapsed_s: float, most: int) -> bool:
    if done >= max(most, order.repetitions) or (done and elapsed_s >= order.limit_s):
        return False
    return done < order.repetitions or elapsed_s < order.seconds


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
