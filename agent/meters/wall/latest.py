"""The latest values of a source that is slow or pushes by itself: written by its thread, read without waiting."""

from __future__ import annotations

import itertools
import logging
import math
import statistics
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.meters.wall.spec import Quantity

logger = logging.getLogger(__name__)

MIN_STALE_S = 10.0
STALE_INTERVALS = 5  # of its usual ones: a source that missed so many is silent, not slow
_REMEMBERED = 9
_HIGHEST = {"W": 1e6, "J": 9e12}  # no host takes a megawatt; a trace's column ends at 9.2e12 J


class _Held(NamedTuple):
    value: float
    until_ns: int


class Latest:
    """One value a quantity, in W or J, each until it is stale; and how many were dropped, by reason."""

    def __init__(self, origin: str, quantities: Sequence[Quantity], clock_ns: Callable[[], int]) -> None:
        self.dropped: Counter[str] = Counter()
        self.complete = threading.Event()  # every quantity came at least once
        self._origin = origin
        self._quantities = tuple(quantities)
        self._clock_ns = clock_ns
        self._held: list[_Held | None] = [None] * len(self._quantities)
        self._arrivals_ns: list[deque[int]] = [deque(maxlen=_REMEMBERED) for _ in self._quantities]

    def take(self, values: Sequence[float | None]) -> None:
        """Keep what came just now, in the source's units; None where it holds no such value."""
        for index, value in enumerate(values):
            if value is not None:
                self._take_one(index, value * self._quantities[index].factor)
        if None not in self._held:
            self.complete.set()

    def drop(self, reason: str) -> None:
        """Count something that came and is no reading; the first of a kind is logged."""
        self.dropped[reason] += 1
        if self.dropped[reason] == 1:
            logger.warning("%s: dropped %s; more of these are only counted", self._origin, reason)

    def now(self) -> tuple[float | None, ...]:
        """The values, None where none came or the last one is stale."""
        now_ns = self._clock_ns()
        return tuple(None if held is None or now_ns > held.until_ns else held.value for held in self._held)

    def _take_one(self, index: int, value: float) -> None:
        unit = self._quantities[index].unit
        if not math.isfinite(value) or abs(value) > _HIGHEST[unit]:
            self.drop(f"a value in {unit} that is not finite, or beyond {_HIGHEST[unit]:g}")
        elif unit == "W" and value < 0:
            self.drop("a negative power")
        else:
            now_ns = self._clock_ns()
            self._arrivals_ns[index].append(now_ns)
            self._held[index] = _Held(value, now_ns + _stale_ns(self._arrivals_ns[index]))


def _stale_ns(arrivals_ns: Sequence[int]) -> int:
    """How long the last arrival may be the latest; the median, so that one outage makes no slow source."""
    intervals_ns = [after - before for before, after in itertools.pairwise(arrivals_ns)]
    usual_ns = statistics.median(intervals_ns) if intervals_ns else 0
    return round(max(MIN_STALE_S * 1e9, STALE_INTERVALS * usual_ns))
