"""Whether anything comes: a connection that stands may carry nothing, so progress is watched and not the connection."""

from __future__ import annotations

import time
from collections.abc import Callable

_LONGEST_S = 3600.0


class Progress:
    """Time since something was heard; each remedy that did not help is tried again after twice the time."""

    def __init__(self, silence_s: float, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._first_s = self._patience_s = silence_s
        self._stopwatch = stopwatch
        self._heard_s = self._tried_s = stopwatch()

    @property
    def silent_s(self) -> float:
        """Seconds since something was heard, or since the beginning."""
        return self._stopwatch() - self._heard_s

    def begin(self) -> None:
        """Note that from now on something may come."""
        self._tried_s = self._stopwatch()

    def heard(self) -> None:
        """Note that something came."""
        self._heard_s = self._tried_s = self._stopwatch()
        self._patience_s = self._first_s

    def is_overdue(self) -> bool:
        """Whether it is time to do something."""
        return self._stopwatch() - self._tried_s > self._patience_s

    def tried(self) -> None:
        """Note that something was done about it."""
        self._tried_s = self._stopwatch()
        self._patience_s = min(2 * self._patience_s, max(_LONGEST_S, self._first_s))
