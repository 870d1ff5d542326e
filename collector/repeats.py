"""How often the same thing is told: whoever can cause a line in the log must not be able to fill the disk with it."""

from __future__ import annotations

REPEATED_S = 60.0
_MOST_REMEMBERED = 1000  # of different things: who makes up names must not fill the memory either


class Repeats:
    """Lets the first `burst` of a kind through in every stretch of `stretch_s`, and counts the others."""

    def __init__(self, stretch_s: float = REPEATED_S, burst: int = 1) -> None:
        self._stretch_s = stretch_s
        self._burst = burst
        self._since_s: dict[str, float] = {}
        self._came: dict[str, int] = {}

    def due(self, key: str, now_s: float) -> str | None:
        """What to add to a line about `key`, that others were left out before it; None: leave it out."""
        if now_s - self._since_s.get(key, now_s) < self._stretch_s and key in self._since_s:
            self._came[key] += 1
            return "" if self._came[key] <= self._burst else None
        left_out = max(0, self._came.get(key, 0) - self._burst)
        if len(self._since_s) >= _MOST_REMEMBERED:
            self._since_s.clear()
            self._came.clear()
        self._since_s[key], self._came[key] = now_s, 1
        return f" ({left_out} more like it before)" if left_out else ""
