"""Looks at the canaries now and then, keeps what it finds, and tells of what is new."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from collector import drift_words
from collector.periodic import Periodic
from collector.store import Store
from phasewatt import codec, topics
from phasewatt.errors import StoreUnavailable

PERIOD_S = 300.0
_STOP_TIMEOUT_S = 60.0

logger = logging.getLogger(__name__)


class DriftWatch:
    """A thread that compares each device's canaries with its own history; what is found is stored, then published."""

    def __init__(
        self,
        store: Store,
        publish: Callable[[str, bytes], object],
        name: str,
        *,
        clock: Callable[[], float] = time.time,
        period_s: float = PERIOD_S,
    ) -> None:
        self._store = store
        self._publish = publish
        self._name = name
        self._clock = clock
        self._seen = 0
        self._looks = Periodic(self.look, _note, name="drift", period_s=period_s, patience_s=_STOP_TIMEOUT_S)

    def start(self) -> None:
        """Begin."""
        self._looks.start()

    def stop(self) -> None:
        """End after the look that is going on."""
        self._looks.stop()

    def look(self) -> None:
        """Look once; nothing is computed where no canary has come since.

        Raises:
            StoreUnavailable: the database failed.
        """
        canaries = self._store.jobs.canaries()
        if len(canaries) == self._seen:
            return
        for series in drift_words.watched(canaries):
            for found in series.changes:
                if self._store.jobs.note_drift(found, self._clock()):
                    logger.warning("%s: %s", found.device, drift_words.sentence(found))
                    self._publish(topics.drift(self._name), codec.pack(codec.encode(found)))
        self._seen = len(canaries)


def _note(error: Exception) -> None:
    if isinstance(error, StoreUnavailable):
        logger.warning("drift is not looked for: %s", error)
    else:
        logger.error("drift is not looked for", exc_info=error)
