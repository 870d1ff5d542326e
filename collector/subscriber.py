"""The collector's end of MQTT: what boards send goes to ingest, and receipts go back after commit.

The network's thread only puts messages into the inbox; one worker takes out all that wait, so that a slow disk never
keeps the client from answering its broker, and costs one sync a group. A message that is lost here, or that the
database refuses, has no receipt, and its board sends it again.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode

from collector import answers
from collector.client import RETRY_S, client_of
from collector.dispatching import Dispatcher
from collector.drift_watch import DriftWatch
from collector.inbox import Inbox, Message, sender_of
from collector.ingest import Ingest
from collector.progress import Progress
from collector.repeats import Repeats
from collector.settings import Address, BrokerSettings
from collector.sharing import Sharing, Step
from collector.store import DeviceRow, Store
from phasewatt import codec, topics
from phasewatt.errors import StoreUnavailable
from phasewatt.messages import CollectorState, Presence

QUEUED_MESSAGES = 1000
QUEUED_BYTES = 64 * 1024 * 1024
SILENCE_S = 300.0  # without any message, though boards hold records, before the connection is renewed
_GROUP_MESSAGES = 200
_IDLE_S = 1.0
_MOMENT_S = 1.0  # before a store that failed is tried again
_KEEPALIVE_S = 30
_SHARED_KEEPALIVE_S = 10  # one that stands still swallows its share of batches until the broker misses it
_STOP_TIMEOUT_S = 60
_QOS = 1
_TAKEN_OVER = 142  # of MQTT 5
_SHUT_OUT_S = 10.0  # before one that still floods is shut out again

logger = logging.getLogger(__name__)


class Traffic(NamedTuple):
    """How the receiving goes, since this collector began."""

    listening: bool
    received: int  # messages
    waiting: int  # of these, those that are not stored yet
    dropped: int  # of these, those that found the inbox full, and come again
    trouble: str | None  # why the last one was not stored; None: it was


class Subscriber:
    """A connection to one broker, renewed until `stop`; `name` is this collector's among those on that broker.

    With `share` it is one of several on one store, and gets its part of the batches.

    Raises:
        ConfigInvalid: a file for TLS or with the password cannot be used.
    """

    def __init__(
        self,
        address: Address,
        broker: BrokerSettings,
        name: str,
        store: Store,
        *,
        share: str | None = None,
        queued_messages: int = QUEUED_MESSAGES,
        silence_s: float = SILENCE_S,
        shut_out: Callable[[str], object] | None = None,  # what to do about a board that floods
    ) -> None:
        self.listening = threading.Event()
        self.inbox = Inbox(queued_messages, QUEUED_BYTES)
        self.received = 0  # messages
        self.dropped = 0  # of these, those that found the inbox full
        self._name = name
        self._broker = f"{address.host}:{address.port}"
        self._store = store
        self._share = share
        self._sharing = None if share is None else Sharing(share, name, self, self._listens)
        self._told_generation = store.generation
        self._ingest = Ingest(store)
        self._dispatcher = Dispatcher(store, self._say, self.listening.is_set)
        self._drift = DriftWatch(store, self._say, name)
        self._progress = Progress(silence_s)
        self._heard_by_all: dict[str, float | None] = {}
        self._shut_out = shut_out
        self._shut_outs = Repeats(_SHUT_OUT_S)
        self._stopping = threading.Event()
        self._since_unix_s = time.time()
        self._worker = threading.Thread(target=self._work, name="ingest", daemon=True)
        self._client = client = client_of(name, broker)
        client.will_set(topics.collector_state(name), codec.encode(self._state(Presence.OFFLINE)), _QOS, retain=True)
        client.on_connect = lambda _client, _data, _flags, reason, _properties: self._connected(reason)
        client.on_connect_fail = lambda _client, _data: self._not_connected()
        client.on_disconnect = lambda _client, _data, _flags, reason, _properties: self._disconnected(reason)
        client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: self._subscribed(reasons)
        client.on_message = lambda _client, _data, message: self._received(message)
        client.connect_async(address.host, address.port, _KEEPALIVE_S if share is None else _SHARED_KEEPALIVE_S)

    @property
    def refusal(self) -> str | None:
        """Why this collector may not be a member of its group, for good."""
        return None if self._sharing is None else self._sharing.refusal

    @property
    def has_left_group(self) -> bool:
        """Whether the store failed, and others get what comes until it works."""
        return self._sharing is not None and self._sharing.step is Step.AWAY

    @property
    def traffic(self) -> Traffic:
        """How it goes now."""
        return Traffic(self.listening.is_set(), self.received, len(self.inbox), self.dropped, self._ingest.trouble)

    def start(self) -> None:
        """Connect, in threads of its own, and try again for as long as the broker is away."""
        self._worker.start()
        self._client.loop_start()
        self._dispatcher.start()
        self._drift.start()

    def stop(self) -> None:
        """Finish the inbox, say that this collector is offline, and disconnect."""
        self._stopping.set()
        self._dispatcher.stop()
        self._drift.stop()
        if self._share is not None:  # so that from now on the other members get what comes
            self.unsubscribe(topics.from_boards(self._share)[-1:])
        self.inbox.close()
        self._worker.join(_STOP_TIMEOUT_S)
        if self._client.is_connected():
            self._publish(self._state(Presence.OFFLINE)).wait_for_publish(_KEEPALIVE_S)
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for messages."""
        self._client.subscribe([(topic, _QOS) for topic in filters])

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Ask for no more of them."""
        self._client.unsubscribe(list(filters))

    def announce(self, presence: Presence) -> CollectorState:
        """Publish this collector's state, and give it."""
        state = self._state(presence)
        self._publish(state)
        return state

    def _work(self) -> None:
        while (messages := self.inbox.take(_GROUP_MESSAGES, _IDLE_S)) is not None:
            self._handle(messages)

    def _handle(self, messages: list[Message]) -> None:
        for message in messages if self._sharing is not None else ():
            if topics.is_of_collector(message.topic) and self._sharing is not None:
                self._sharing.hear(message, self._present_generation)
        self._dispatcher.answer(message for message in messages if topics.is_job(message.topic))
        apart = (topics.is_of_collector, topics.is_job)
        boards = [message for message in messages if not any(is_it(message.topic) for is_it in apart)]
        for receipt in self._ingest.take_all(boards):
            topic = topics.receipt(receipt.device)
            for body in answers.bodies(receipt, self._client.payload_bytes(topic)):
                self._client.publish(topic, body, _QOS)
        if self.listening.is_set() and self._store.generation != self._told_generation:
            self.announce(Presence.ONLINE)
        if self._sharing is not None:
            self._sharing.tick(bool(boards) and self._ingest.store_fails, self._store_works)
        if boards and self._ingest.trouble:
            self._stopping.wait(_MOMENT_S)
        if not messages and self.listening.is_set() and self._progress.is_overdue():
            self._renew()

    def _present_generation(self) -> str:
        self._store_works()  # a write looks it up
        return self._store.generation

    def _store_works(self) -> bool:
        try:
            self._store.take([], time.time())
        except StoreUnavailable:
            return False
        return True

    def _say(self, topic: str, body: bytes) -> None:
        self._client.publish(topic, body, _QOS)

    def _renew(self) -> None:
        """Connect anew where boards hold records and none come: a connection that stands may still be dead."""
        try:
            rows = self._store.devices()
        except StoreUnavailable:
            return
        if self._sharing is not None and self._others_heard(rows):
            self._progress.heard()
            return
        waiting = [row.device for row in rows if row.holds_records]
        self._progress.tried()
        sock: Any = self._client.socket()
        if waiting and sock is not None:
            logger.warning(
                "broker %s: connected, but nothing came for %.0f s though %d boards hold records, such as %s: "
                "connecting anew; if that does not help, look at the broker's access list and log",
                *(self._broker, self._progress.silent_s, len(waiting), waiting[0]),
            )
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _others_heard(self, rows: Sequence[DeviceRow]) -> bool:
        """Whether boards were heard by any member since this was asked before."""
        heard = {row.device: row.last_seen_unix_s for row in rows}
        before, self._heard_by_all = self._heard_by_all, heard
        return heard != before

    def _connected(self, reason: ReasonCode) -> None:
        if reason.is_failure:
            logger.error("broker %s does not let this collector in: %s", self._broker, reason)
        elif self._sharing is not None:
            self._sharing.connected()
        else:
            self.subscribe(topics.from_boards())

    def _subscribed(self, reasons: Sequence[ReasonCode]) -> None:
        """Announce itself, only now, because boards answer an online collector at once."""
        if refusal := next((reason for reason in reasons if reason.is_failure), None):
            shares = "" if self._share is None else f" and {topics.shared(self._share, topics.ROOT)}/#"
            logger.error(
                "broker %s refuses a subscription (%s); allow this user to read %s/#%s",
                *(self._broker, str(refusal).lower(), topics.ROOT, shares),
            )
        elif self._sharing is not None:
            self._sharing.granted()
        else:
            self.announce(Presence.ONLINE)
            self._listens()

    def _listens(self) -> None:
        self._progress.begin()
        self.listening.set()
        logger.info("listening to broker %s", self._broker)

    def _received(self, message: mqtt.MQTTMessage) -> None:
        self.received += 1
        if not message.retain:  # the broker's own word is no sign that boards are heard
            self._progress.heard()
        # One byte too many is kept, so that ingest sees that it was too long.
        payload = bytes(message.payload[: codec.MAX_PAYLOAD_BYTES + 1])
        if not self.inbox.put(Message(message.topic, payload, message.retain)):
            self.dropped += 1
            self._meet_flood(sender_of(message.topic))
            if self.dropped % QUEUED_MESSAGES == 1:
                logger.warning(
                    "storing falls behind: %d messages left for their boards to send again, the last one of %s",
                    *(self.dropped, sender_of(message.topic)),
                )

    def _meet_flood(self, sender: str) -> None:
        """Shut out a board that floods, where the broker lets us: it fills the way of all the others."""
        if self._shut_out is None or not self.inbox.is_flooding(sender):
            return
        if self._shut_outs.due(sender, time.monotonic()) is not None:
            logger.error(
                "%s floods the broker: it is shut out until this collector is started again; see to it",
                sender,
            )
            threading.Thread(target=self._shut_out, args=(sender,), name="shut out", daemon=True).start()

    def _not_connected(self) -> None:
        reason = sys.exc_info()[1]  # paho calls this while it handles the failure, and tells nothing of it
        logger.warning("broker %s cannot be reached: %s; trying again every %d to %d s", self._broker, reason, *RETRY_S)

    def _disconnected(self, reason: ReasonCode) -> None:
        self.listening.clear()
        if self._sharing is not None:
            self._sharing.disconnected()
        if reason.value == _TAKEN_OVER:
            logger.error(
                "broker %s: another client connected as phasewatt-%s; give each collector a name of its own (--name)",
                *(self._broker, self._name),
            )
        elif reason.is_failure:
            logger.warning("connection to broker %s lost: %s", self._broker, reason)

    def _publish(self, state: CollectorState) -> mqtt.MQTTMessageInfo:
        self._told_generation = state.generation
        return self._client.publish(topics.collector_state(self._name), codec.encode(state), _QOS, retain=True)

    def _state(self, presence: Presence) -> CollectorState:
        return CollectorState(
            collector=self._name,
            presence=presence,
            generation=self._store.generation,
            schema=codec.SCHEMA,
            since_unix_s=self._since_unix_s,
            group=self._share,
        )
