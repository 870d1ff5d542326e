"""A look at the whole fleet in the store, for `devices` once and for pages again and again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from collector import enrolled
from collector.enrolled import Enrolled
from collector.fleet import DRIFT_TOLD_S, Devices, Fleet, When, devices_of, shown_of
from collector.store import Store

KEPT_S = 5.0  # a look is shown again for so long: many may look, and the store has other work
RECENT_S = 600.0  # telemetry of a board that is older says nothing of now


def devices(store: Store, known: Enrolled, now_unix_s: float, when: When) -> Devices:
    """All boards; `when` writes a time.

    Raises:
        StoreUnavailable: the database fails.
    """
    found = store.jobs.drifts(now_unix_s - DRIFT_TOLD_S)
    return devices_of(store.devices(), store.refusals(), found, known, now_unix_s, when)


class FleetLook:
    """The fleet as it was within the last `KEPT_S`; may be called from several threads.

    Raises:
        StoreUnavailable: the database fails.
        ConfigInvalid: the authority's list in `folder` is damaged.
    """

    def __init__(self, store: Store, folder: Path, when: When, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._folder = folder
        self._when = when
        self._clock = clock
        self._looking = threading.Lock()
        self._kept: tuple[float, Fleet] | None = None

    def __call__(self) -> Fleet:
        """The fleet."""
        with self._looking:
            now_unix_s = self._clock()
            if self._kept is None or not 0 <= now_unix_s - self._kept[0] < KEPT_S:
                self._kept = now_unix_s, self._look(now_unix_s)
            return self._kept[1]

    def _look(self, now_unix_s: float) -> Fleet:
        known = enrolled.load(self._folder)
        boards = devices(self._store, known, now_unix_s, self._when)
        newest = self._store.newest_telemetry([each.device for each in boards.devices], now_unix_s - RECENT_S)
        shown = {device: each for device, record in newest.items() if (each := shown_of(record)) is not None}
        changed = Counter(found.device for found in self._store.jobs.drifts(now_unix_s - DRIFT_TOLD_S))
        jobs = Counter(execution.standing.state for execution in self._store.jobs.executions(open_only=True))
        return Fleet(boards, shown, known.ends_unix_s(), changed, jobs)
