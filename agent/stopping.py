"""Being asked to end, by a signal or by whoever handed the work over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

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
        if self._event.wait(seconds):
            raise Stopped("stopped while a cell was measured; the finished ones are kept")

    def on_signals(self) -> None:
        """Let Ctrl-C and SIGTERM set it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.set())
