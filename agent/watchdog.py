"""Feeds the service manager's watchdog, and only by progress: a part that hangs ends the feeding.

A daemon whose main thread sleeps well while the thread that samples waits for a dead disk would look alive for months.
So each part says when it gets on, and has a time within which it must.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.service_manager import ServiceManager

logger = logging.getLogger(__name__)

TELEMETRY_S = 90.0  # a sample a second; a commit to a slow SD card, or a meter that is opened again, takes a while
DELIVERY_S = 240.0  # turns of 15 s, pauses of 60 s; a name server that does not answer takes up to a minute
SUITE_S = 900.0  # asks twice a second whether to stop; between, a commit, a survey of meters, the end of a worker

Beat = Callable[[], None]


def unwatched() -> None:
    """A beat that nobody listens to."""


class Progress:
    """Parts of the daemon, and when each last got on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._parts: dict[str, tuple[float, float]] = {}  # name: last beat, and the limit after it, in seconds

    def part(self, name: str, limit_s: float) -> Beat:
        """What a part calls when it gets on; it must within every `limit_s` from now."""

        def beat() -> None:
            self._parts[name] = self._clock(), limit_s

        beat()
        return beat

    @contextmanager
    def during(self, name: str, limit_s: float) -> Iterator[Beat]:
        """The same for a part that comes and goes."""
        try:
            yield self.part(name, limit_s)
        finally:
            self._parts.pop(name, None)

    def stalled(self) -> str | None:
        """The first part that is overdue, in words; None: all get on."""
        now_s = self._clock()
        for name, (last_s, limit_s) in list(self._parts.items()):
            if now_s - last_s > limit_s:
                return f"{name}: no progress for {now_s - last_s:.0f} s, expected within {limit_s:.0f} s"
        return None


class Watchdog:
    """The thread that feeds; it is not started where the manager has no watchdog."""

    def __init__(self, manager: ServiceManager, progress: Progress) -> None:
        self._manager = manager
        self._progress = progress
        self._said: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to feed, where it is asked for."""
        if self._manager.watchdog_s is not None:
            self._thread.start()

    def stop(self) -> None:
        """End; what stops is given the manager's time for stopping instead."""
        self._stopping.set()

    def feed(self) -> None:
        """Say that the daemon lives, if all its parts get on; else say what does not, once."""
        stalled = self._progress.stalled()
        if stalled is None:
            self._manager.alive()
        elif self._said is None:
            logger.error("%s; the service manager will start this agent again", stalled)
            self._manager.status(stalled)
        self._said = stalled

    def _run(self) -> None:
        assert self._manager.watchdog_s is not None
        while not self._stopping.wait(self._manager.watchdog_s / 4):
            self.feed()
