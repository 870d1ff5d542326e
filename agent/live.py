"""Who watches this board now, and the sample that they are owed: nothing is made for them while nobody does."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from phasewatt import codec
from phasewatt.errors import RecordRejected
from phasewatt.messages import Watch
from phasewatt.traces import Telemetry

logger = logging.getLogger(__name__)

_WATCH_BYTES = 1024  # no honest one is longer


class Audience:
    """Watchers of one board. The link hears of them, the telemeter shows them what it samples.

    Of samples that the network does not take in time the newest is kept: a late one is of no use to a watcher.
    """

    def __init__(self, shown: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._shown = shown
        self._clock = clock
        self._until_s = float("-inf")
        self._owed: deque[Telemetry] = deque(maxlen=1)

    @property
    def watches(self) -> bool:
        """Whether someone watches now."""
        return self._clock() < self._until_s

    def hear(self, payload: bytes) -> None:
        """Take in what came on the topic for watchers; what is no such message changes nothing."""
        try:
            watch = codec.decode(codec.unpack(payload, _WATCH_BYTES), Watch)
        except RecordRejected as error:
            logger.debug("ignored, nobody's wish to watch: %s", error)
            return
        if not self.watches:
            logger.info("%s watches this board", watch.watcher)
        self._until_s = max(self._until_s, self._clock() + watch.for_s)

    def show(self, sample: Telemetry) -> None:
        """Have one row of telemetry published, if someone watches."""
        if self.watches:
            self._owed.append(sample)
            self._shown()

    def take(self) -> Telemetry | None:
        """The sample to publish now, once; None: there is none, or nobody watches any more."""
        sample = self._owed.popleft() if self._owed else None
        return sample if self.watches else None
