"""A look at the whole fleet in the store, for `devices` once and for pages again and again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from collector import enrolled
from collector.enrolled import Enrolled
from collector.fleet import DRIFT_TOLD_S, Device, Devices, Fleet, When, devices_of, shown_of
from collector.presence import SILENT_AFTER
from collector.store import Store
from phasewatt.errors import PhasewattError

KEPT_S = 5.0  # a look is shown again for so long: many may look, and the store has other work
RECENT_S = 600.0  # what was received before says nothing of now, unless the board sends more seldom


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
        self._kept: tuple[float, Fleet | PhasewattError] | None = None

    def __call__(self) -> Fleet:
        """The fleet; a failure is kept as well, since to fail again may take as long as a database's time-out."""
        with self._looking:
            if self._kept is None or not 0 <= self._clock() - self._kept[0] < KEPT_S:
                found = self._look_or_failure()
                self._kept = self._clock(), found
            found = self._kept[1]
        if isinstance(found, PhasewattError):
            raise found
        return found

    def _look_or_failure(self) -> Fleet | PhasewattError:
        try:
            return self._look(self._clock())
        except PhasewattError as error:
            return error

    def _look(self, now_unix_s: float) -> Fleet:
        known = enrolled.load(self._folder)
        boards = devices(self._store, known, now_unix_s, self._when)
        recent = {board.device: now_unix_s - _recent_s(board) for board in boards.devices}
        newest = self._store.newest_telemetry(recent)
        return Fleet(
            devices=boards,
            shown={device: each for device, record in newest.items() if (each := shown_of(record)) is not None},
            certificate_ends_unix_s=known.ends_unix_s(),
            revoked=known.revoked(),
            changed=Counter(found.device for found in self._store.jobs.drifts(now_unix_s - DRIFT_TOLD_S)),
            jobs=Counter(each.standing.state for each in self._store.jobs.executions(open_only=True)),
        )


def _recent_s(board: Device) -> float:
    return max(RECENT_S, SILENT_AFTER * (board.telemetry_interval_s or 0.0))
