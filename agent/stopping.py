"""Being asked to end, by a signal or by whoever handed the work over."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from agent.signals import on_signals
from phasewatt.errors import Stopped


class Stop:
    """Set once, from any thread or a signal; whoever waits learns of it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.paused: Callable[[], None] | None = None  # called at each `pause`: whoever makes one gets on

    def set(self) -> None:
        """Ask to end."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for it, at most `seconds`; whether somebody asked."""
        return self._event.wait(seconds)

    def pause(self, seconds: float) -> None:
        """Wait `seconds`.

        Raises:
            Stopped: asked to end meanwhile.
        """
        if self.paused is not None:
            self.paused()
        if self.wait(seconds):
            raise Stopped("stopped while a cell was measured; the finished ones are kept")

    def on_signals(self) -> None:
        """Let Ctrl-C and SIGTERM set it."""
        on_signals(self.set, signal.SIGINT, signal.SIGTERM)


class Until(Stop):
    """Set when `other` is, or when `seconds` have passed."""

    def __init__(self, other: Stop, seconds: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._other = other
        self._clock_s = clock_s
        self._end_s = clock_s() + seconds
        self.paused = other.paused

    @property
    def left_s(self) -> float:
        """Time until its end."""
        return max(0.0, self._end_s - self._clock_s())

    @property
    def is_over(self) -> bool:
        """Whether the time has passed, and nobody asked before."""
        return not self.left_s and not self._other.is_set()

    def set(self) -> None:
        """Ask to end, whoever listens to the other one too."""
        self._other.set()

    def is_set(self) -> bool:
        """Whether somebody asked, or the time has passed."""
        return self._other.is_set() or not self.left_s

    def wait(self, seconds: float | None = None) -> bool:
        """As `Stop.wait`; ends with the time too."""
        left_s = self.left_s
        return self._other.wait(left_s if seconds is None else min(seconds, left_s)) or not self.left_s
