"""How often the same thing is told: whoever can cause a line in the log must not be able to fill the disk with it."""

from __future__ import annotations

REPEATED_S = 60.0
_MOST_REMEMBERED = 1000  # of different things: who makes up names must not fill the memory either


class Repeats:
    """What was told, and how often it happened since."""

    def __init__(self, repeated_s: float = REPEATED_S) -> None:
        self._repeated_s = repeated_s
        self._told_s: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def due(self, key: str, now_s: float) -> str | None:
        """What to add to a line about `key`, that it came more often; None: it was told a moment ago."""
        if now_s - self._told_s.get(key, float("-inf")) < self._repeated_s:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return None
        if len(self._told_s) >= _MOST_REMEMBERED:
            self._told_s.clear()
            self._held_back.clear()
        self._told_s[key] = now_s
        more = self._held_back.pop(key, 0)
        return f" ({more} more like it before)" if more else ""
