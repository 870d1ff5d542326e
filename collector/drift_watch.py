"""Looks at the canaries now and then, keeps what it finds, and tells of what is new."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from collector import drift_words
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
        self._period_s = period_s
        self._seen = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look that is going on."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_TIMEOUT_S)

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

    def _run(self) -> None:
        while not self._stopping.wait(self._period_s):
            self._look_or_note()

    def _look_or_note(self) -> None:
        try:
            self.look()
        except StoreUnavailable as error:
            logger.warning("drift is not looked for: %s", error)
        except Exception:  # what fails here must not end it for good
            logger.exception("drift is not looked for")
