"""What came over the wire, to the store or into quarantine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from collector.conditions import printable
from collector.inbox import Message
from collector.repeats import Repeats
from collector.store import Aside, Entry, Spoken, Store
from phasewatt import codec, topics
from phasewatt.errors import RecordRejected, StoreUnavailable
from phasewatt.messages import Batch, Facts, Receipt, Status
from phasewatt.topics import Topic

MAX_ITEMS = 10_000  # of one batch: what its receipt may have to name one by one
GROUP_BYTES = 16 * 1024 * 1024  # of one transaction, inflated: what one takes in memory besides the last message
GROUP_S = 0.02  # of reading before a commit: what the first of a group waits for the others
FAILURES_IN_A_ROW = 2  # from here on it is the store that fails, not a message

_TOLD_S, _TOLD = 60.0, 10  # lines about one board: what it sends must not fill the log

logger = logging.getLogger(__name__)


class _Read(NamedTuple):
    entry: Entry
    size_bytes: int  # inflated


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

    def __init__(
        self, store: Store, clock: Callable[[], float] = time.time, stopwatch: Callable[[], float] = time.monotonic
    ) -> None:
        self.trouble: str | None = None  # why the last entry was not stored; None: it was
        self.store_fails = False  # whether that is the store's fault
        self._store = store
        self._clock = clock
        self._stopwatch = stopwatch
        self._repeats = Repeats(_TOLD_S, _TOLD)

    def take(self, topic: str, payload: bytes) -> Receipt | None:
        """Store one message, and give the receipt that its board is owed, if any.

        Raises:
            StoreUnavailable: the database failed; nothing was stored, and the board will send it again.
        """
        return self._stored([self._read(Message(topic, payload)).entry])[0]

    def take_all(self, messages: Iterable[Message]) -> Iterator[Receipt]:
        """Store messages in order, as many as wait in one transaction, and give the receipts after each of these.

        What cannot be stored has no receipt, so that its board sends it again; `trouble` then says why, and that is
        logged once for as long as it stays the same. One message that cannot be stored costs no other one.
        """
        for group in self._groups(messages):
            yield from self._stored_if_possible(group)

    def _groups(self, messages: Iterable[Message]) -> Iterator[list[Entry]]:
        group: list[Entry] = []
        group_bytes = 0
        began_s = self._stopwatch()
        for message in messages:
            try:
                read = self._read(message)
            except Exception as error:  # noqa: BLE001 - whatever one message meets, the stream of all must go on
                self._note(error)
                continue
            group.append(read.entry)
            group_bytes += read.size_bytes
            if group_bytes >= GROUP_BYTES or self._stopwatch() - began_s >= GROUP_S:
                yield group
                group, group_bytes, began_s = [], 0, self._stopwatch()
        if group:
            yield group

    def _stored_if_possible(self, group: list[Entry]) -> list[Receipt]:
        try:
            receipts = self._stored(group)
        except Exception as error:  # noqa: BLE001 - as above; what it was is logged
            if len(group) == 1:
                self._note(error)
                return []
            return self._stored_one_by_one(group)
        self._note(None)
        return [receipt for receipt in receipts if receipt is not None]

    def _stored_one_by_one(self, group: list[Entry]) -> list[Receipt]:
        """Apart, so that one costs no other; where it is the store that fails, the rest is left to be sent again."""
        receipts: list[Receipt] = []
        failures = 0
        for entry in group:
            receipts += self._stored_if_possible([entry])
            failures = failures + 1 if self.trouble else 0
            if failures == FAILURES_IN_A_ROW:
                break
        return receipts

    def _stored(self, entries: list[Entry]) -> list[Receipt | None]:
        receipts = self._store.take(entries, self._clock())
        for receipt in receipts:
            if receipt is not None and receipt.rejected:
                reason = printable(receipt.rejected[0].reason)
                logger.warning("%s: %d items put aside: %s", receipt.device, len(receipt.rejected), reason)
        return receipts

    def _note(self, error: Exception | None) -> None:
        self.store_fails = isinstance(error, StoreUnavailable)
        trouble = None if error is None else printable(f"{type(error).__name__}: {error}")
        if trouble == self.trouble:
            return
        if isinstance(error, StoreUnavailable):
            logger.error("nothing is stored, so boards will send it again: %s", error)
        elif error is not None:
            logger.error("a message was not handled: %s", trouble, exc_info=error)
        elif self.trouble is not None:
            logger.warning("what comes is stored again")
        self.trouble = trouble

    def _read(self, message: Message) -> _Read:
        """What a message asks of the store: to keep it, or to count what is wrong with it."""
        device = None
        try:
            topic = topics.parse(message.topic)
            device = topic.device
            return _entry_of(topic, message)
        except RecordRejected as error:
            reason = str(error)
            more = self._repeats.due(device or "", self._stopwatch())
            if more is not None:
                logger.warning("put aside a message on %r: %s%s", message.topic, printable(reason), more)
            return _Read(Aside(device, message.topic, message.payload, reason), len(message.payload))


def _entry_of(topic: Topic, message: Message) -> _Read:
    if len(message.payload) > codec.MAX_PAYLOAD_BYTES:
        raise RecordRejected(f"a payload of more than {codec.MAX_PAYLOAD_BYTES} bytes")
    body = codec.unpack(message.payload)
    if topic.leaf == "batch":
        return _Read(_batch_of(topic, body), len(body))
    if topic.leaf == "status":
        status = codec.decode(body, Status)
        _check_device(topic, status.device)
        return _Read(Spoken(status, live=not message.retained), len(body))
    if topic.leaf == "facts":
        facts = codec.decode(body, Facts)
        _check_device(topic, facts.host.device)
        return _Read(facts, len(body))
    raise RecordRejected(f"nothing is taken on {topic.leaf}")


def _batch_of(topic: Topic, body: bytes) -> Batch:
    batch = batch_in(body)
    _check_device(topic, batch.device)
    if batch.kind is not topic.kind:
        raise RecordRejected(f"a batch of {batch.kind.value} on a topic of another kind")
    return batch


def _check_device(topic: Topic, device: str) -> None:
    if device != topic.device:
        raise RecordRejected(f"a message of device {device} on the topic of another")
