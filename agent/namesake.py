"""Whether another disk speaks under this board's name and epoch, asked before anything is said or believed.

A disk that was copied shares device and epoch with its original, so each would take the collector's receipts for the
rows of the other as its own. The broker keeps the last status under the board's name; who said it names his session,
and an outbox knows its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from agent.connection import Connection
from agent.outbox import Outbox
from phasewatt import codec, topics
from phasewatt.errors import RecordRejected
from phasewatt.messages import Status

logger = logging.getLogger(__name__)

_AFTER_GRANT_S = 0.5  # a kept message follows the broker's word on the subscription at once
_PATIENCE_S = 10.0  # for that word


class Namesake:
    """The question over one connection, open until it was answered, or nobody did in time."""

    def __init__(self, outbox: Outbox, device: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.closed = False
        self._outbox = outbox
        self._topic = topics.status(device)
        self._clock = clock
        self._met = False
        self._granted = False
        self._deadline_s = float("-inf")

    def ask(self, connection: Connection) -> None:
        """Have the broker send what it keeps."""
        self._deadline_s = self._clock() + _PATIENCE_S
        connection.subscribe(self._topic, needed=False)

    def wait_s(self, connection: Connection) -> float:
        """For how long an answer may still come; 0: none will."""
        granted = connection.answers.get(self._topic)
        if granted is False or self._met:
            return 0.0
        if granted and not self._granted:
            self._granted = True
            self._deadline_s = self._clock() + _AFTER_GRANT_S
        return max(0.0, self._deadline_s - self._clock())

    def meets(self, payload: bytes) -> bool:
        """Whether `payload` is the status of another disk with this outbox's epoch."""
        try:
            status = codec.decode(codec.unpack(payload, codec.MAX_PAYLOAD_BYTES), Status)
        except RecordRejected as error:
            logger.debug("ignored, not a status: %s", error)
            return False
        self._met = True
        return status.epoch == self._outbox.epoch and not self._outbox.recognises(status.session)

    def close(self, connection: Connection) -> None:
        """Ask no more."""
        self.closed = True
        connection.unsubscribe(self._topic)
