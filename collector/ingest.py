"""What came over the wire, to the store or into quarantine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from collector.conditions import printable
from collector.store import Store
from phasewatt import codec, topics
from phasewatt.errors import RecordRejected
from phasewatt.messages import Batch, Facts, Presence, Receipt, Status
from phasewatt.topics import Topic

MAX_ITEMS = 10_000  # of one batch: what its receipt may have to name one by one

logger = logging.getLogger(__name__)
_Message = TypeVar("_Message", Batch, Status, Facts)


def batch_in(body: bytes) -> Batch:
    """The batch in an inflated payload or a line of an export file.

    Raises:
        RecordRejected: not a batch, or one of more than MAX_ITEMS.
    """
    batch = codec.decode(body, Batch)
    if len(batch.items) > MAX_ITEMS:
        raise RecordRejected(f"a batch of {len(batch.items)} items; at most {MAX_ITEMS} are taken")
    return batch


class Ingest:
    """Takes the messages of boards. Hostile input ends in quarantine, counted; it raises nothing."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def take(self, topic: str, payload: bytes) -> Receipt | None:
        """Store one message, and give the receipt that its board is owed, if any.

        Raises:
            StoreUnavailable: the database failed; nothing was stored, and the board will send it again.
        """
        device = None
        try:
            parsed = topics.parse(topic)
            device = parsed.device
            return self._take(parsed, payload)
        except RecordRejected as error:
            logger.warning("put aside a message on %r: %s", topic, printable(str(error)))
            self._store.quarantine(device, topic, payload, str(error), self._clock())
            return None

    def _take(self, topic: Topic, payload: bytes) -> Receipt | None:
        if len(payload) > codec.MAX_PAYLOAD_BYTES:
            raise RecordRejected(f"a payload of more than {codec.MAX_PAYLOAD_BYTES} bytes")
        body = codec.unpack(payload)
        if topic.leaf == "batch":
            return self._take_batch(topic, batch_in(body))
        if topic.leaf == "status":
            return self._take_status(topic, codec.decode(body, Status))
        if topic.leaf == "facts":
            facts = codec.decode(body, Facts)
            _check_device(topic, facts.host.device)
            self._store.put_facts(facts, self._clock())
            return None
        raise RecordRejected(f"nothing is taken on {topic.leaf}")

    def _take_batch(self, topic: Topic, batch: Batch) -> Receipt:
        _check_device(topic, batch.device)
        if batch.kind is not topic.kind:
            raise RecordRejected(f"a batch of {batch.kind.value} on a topic of another kind")
        receipt = self._store.ingest(batch, self._clock())
        for rejection in receipt.rejected[:1]:
            logger.warning(
                "%s: %d items put aside: %s", batch.device, len(receipt.rejected), printable(rejection.reason)
            )
        return receipt

    def _take_status(self, topic: Topic, status: Status) -> Receipt | None:
        """A board that comes online learns what is held of it, so that it notices a store that fell back."""
        _check_device(topic, status.device)
        self._store.put_status(status, self._clock())
        return self._store.receipt_for(status.device, status.epoch) if status.presence is Presence.ONLINE else None


def _check_device(topic: Topic, device: str) -> None:
    if device != topic.device:
        raise RecordRejected(f"a message of device {device} on the topic of another")
