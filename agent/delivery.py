"""What a board says and hears over one connection: its state, its rows, and the collector's receipts."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

from agent.connection import Bell, Connection, Message
from agent.outbox import Outbox, Parcel
from agent.window import Window
from phasewatt import codec, topics
from phasewatt.errors import RecordRejected
from phasewatt.messages import Batch, Clock, Facts, Presence, Receipt, Status

logger = logging.getLogger(__name__)

_GOODBYE_S = 0.5


class Board(NamedTuple):
    """What is the same over all connections of a board."""

    outbox: Outbox
    facts: Callable[[], Facts]
    clock: Callable[[], Clock]
    telemetry_interval_s: float | None
    status_interval_s: float

    @property
    def device(self) -> str:
        """The board's name in topics and envelopes."""
        return self.facts().host.device


class Delivery:
    """The exchange over one connection; `window` outlives it, so that suspicions do."""

    def __init__(self, board: Board, window: Window, progress: Callable[[], None]) -> None:
        self._board = board
        self._window = window
        self._progress = progress  # called when rows were settled
        self._session = uuid.uuid4().hex
        self._reported: tuple[int, dict[str, int]] | None = None
        self._next_report_s = 0.0
        self._told: Facts | None = None

    def will(self) -> Message:
        """What the broker is to publish if the connection breaks; a newer session's word outweighs it."""
        return self._status(Presence.OFFLINE)

    def begin(self, connection: Connection) -> None:
        """Ask for receipts, and say that this board is there, and what it is."""
        board = self._board
        connection.subscribe(topics.receipt(board.device))
        self._reported = self._backlog()  # before the status: what comes in between is news
        self._next_report_s = time.monotonic() + board.status_interval_s
        connection.publish(self._status(Presence.ONLINE))
        self._tell_facts(connection)

    def work(self, connection: Connection) -> float:
        """Do all that can be done now; the seconds until there may be more, if nothing comes before."""
        self._take_receipts(connection)
        self._window.expire(time.monotonic())
        while self._window.has_room() and (parcel := self._next_parcel()):
            self._send(connection, parcel)
        if self._told is not self._board.facts():
            self._tell_facts(connection)
        self._report(connection)
        now_s = time.monotonic()
        return max(0.0, min(self._window.next_s(now_s), self._next_report_s) - now_s)

    def _tell_facts(self, connection: Connection) -> None:
        self._told = self._board.facts()
        connection.publish(Message(topics.facts(self._board.device), codec.encode(self._told), retain=True))

    def end(self, connection: Connection, bell: Bell) -> None:
        """Say that this board goes, if the broker still listens."""
        said = connection.publish(self._status(Presence.OFFLINE))
        deadline_s = time.monotonic() + _GOODBYE_S
        while connection.ended is None and not said.is_published() and time.monotonic() < deadline_s:
            connection.turn(_GOODBYE_S / 5, bell)
        connection.leave()

    def _take_receipts(self, connection: Connection) -> None:
        while connection.received:
            payload = connection.received.popleft()
            try:
                receipt = codec.decode(codec.unpack(payload, codec.MAX_PAYLOAD_BYTES), Receipt)
            except RecordRejected as error:
                logger.warning("ignored, not a receipt: %s", error)
                continue
            if receipt.device == self._board.device and self._board.outbox.apply(receipt):
                self._settle(receipt)

    def _settle(self, receipt: Receipt) -> None:
        now_s = time.monotonic()
        for refusal in receipt.rejected:
            logger.warning("the collector refused row %d: %s", refusal.seq, refusal.reason)
        refused = [(refusal.seq, refusal.seq) for refusal in receipt.rejected]
        if not receipt.ranges and not refused:  # the greeting of a collector that just came
            self._window.hurry(now_s)
        self._window.settle([*receipt.ranges, *refused], now_s)
        self._progress()

    def _next_parcel(self) -> Parcel | None:
        while (seq := self._window.suspect(time.monotonic())) is not None:
            if parcel := self._board.outbox.parcel_of(seq):
                return parcel
            self._window.forget(seq)  # given up at the cap meanwhile
        return self._board.outbox.next_parcel(self._window, self._window.message_bytes)

    def _send(self, connection: Connection, parcel: Parcel) -> None:
        board = self._board
        batch = Batch(
            device=board.device,
            epoch=board.outbox.epoch,
            boot_id=board.facts().host.boot_id,
            session=self._session,
            clock=board.clock(),
            sent_unix_s=board.outbox.clock(),
            kind=parcel.kind,
            items=parcel.items,
        )
        payload = codec.pack(codec.encode(batch))
        connection.publish(Message(topics.batch(board.device, parcel.kind), payload))
        self._window.sent(parcel.seqs, len(payload), time.monotonic())

    def _report(self, connection: Connection) -> None:
        if time.monotonic() < self._next_report_s:
            return
        self._next_report_s = time.monotonic() + self._board.status_interval_s
        if (backlog := self._backlog()) != self._reported:
            self._reported = backlog
            connection.publish(self._status(Presence.ONLINE))

    def _backlog(self) -> tuple[int, dict[str, int]]:
        # Pending rows come and go all the time; a factor of two is news.
        return self._board.outbox.pending().bit_length(), self._board.outbox.dropped()

    def _status(self, presence: Presence) -> Message:
        board = self._board
        status = Status(
            device=board.device,
            presence=presence,
            session=self._session,
            boot_id=board.facts().host.boot_id,
            epoch=board.outbox.epoch,
            since_unix_s=board.outbox.clock(),
            telemetry_interval_s=board.telemetry_interval_s,
            pending=board.outbox.pending(),
            dropped=board.outbox.dropped(),
        )
        return Message(topics.status(board.device), codec.encode(status), retain=True)
