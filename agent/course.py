"""Clock, temperature and throttling while long phases run: a look every few seconds, from a thread of the agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from agent.host import Observation
from phasewatt.conditions import Course

_JOIN_S = 10.0


class Watch:
    """Calls `look` every `every_s` while it is entered, and keeps what it saw in columns; 0 s: never."""

    def __init__(
        self,
        look: Callable[[], Observation],
        every_s: float,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._look = look
        self._every_s = every_s
        self._clock_ns = clock_ns
        self._seen: list[tuple[int, Observation]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="course", daemon=True)

    def __enter__(self) -> Watch:
        """Begin to look."""
        if self._every_s > 0:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Look no longer."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    @property
    def course(self) -> Course | None:
        """What was seen; None: nothing was looked at."""
        if not self._seen:
            return None
        times, seen = zip(*self._seen, strict=True)
        return Course(
            at_ns=times,
            clock_hz=tuple(each.clock_hz for each in seen),
            temperature_c=tuple(each.temperature_c for each in seen),
            throttled=tuple(None if each.throttled is None else bool(each.throttled) for each in seen),
        )

    def _run(self) -> None:
        while True:
            self._seen.append((self._clock_ns(), self._look()))
            if self._over.wait(self._every_s):
                return
