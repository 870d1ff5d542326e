"""What a board says and hears over one connection: its state, its rows, and the collector's receipts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from agent.connection import Bell, Connection, Message
from agent.job_desk import JobDesk
from agent.live import Audience
from agent.namesake import Namesake
from agent.outbox import ENVELOPE_BYTES, Outbox, Parcel
from agent.window import Window
from phasewatt import codec, topics
from phasewatt.errors import RecordRejected
from phasewatt.messages import Batch, Clock, Facts, Live, Presence, Receipt, Status
from phasewatt.records import Event

logger = logging.getLogger(__name__)

_GOODBYE_S = 0.5


class Board(NamedTuple):
    """What is the same over all connections of a board."""

    outbox: Outbox
    facts: Callable[[], Facts]
    clock: Callable[[], Clock]
    telemetry_interval_s: float | None
    status_interval_s: float
    audience: Audience | None = None  # None: this board samples nothing that could be watched
    jobs: JobDesk | None = None  # None: this board takes none

    @property
    def device(self) -> str:
        """The board's name in topics and envelopes."""
        return self.facts().host.device


class Delivery:
    """The exchange over one connection, `session`; `window` outlives it, so that suspicions do."""

    def __init__(self, board: Board, window: Window, progress: Callable[[], None], session: str) -> None:
        self._board = board
        self._window = window
        self._progress = progress  # called when rows were settled
        self._session = session
        self._namesake = Namesake(board.outbox, board.device)
        self._withholds = False
        self._reported: tuple[int, dict[str, int]] | None = None
        self._next_report_s = 0.0
        self._told: Facts | None = None

    def will(self) -> Message:
        """What the broker is to publish if the connection breaks; a newer session's word outweighs it."""
        return self._status(Presence.OFFLINE)

    def begin(self, connection: Connection) -> None:
        """Ask for receipts, and who was last heard under this board's name."""
        board = self._board
        connection.subscribe(topics.receipt(board.device))
        if board.audience is not None:
            connection.subscribe(topics.watch(board.device), needed=False)
        if board.jobs is not None:
            connection.subscribe(topics.job_notify(board.device), needed=False)
        self._namesake.ask(connection)

    def _introduce(self, connection: Connection) -> None:
        """Say that this board is there, and what it is."""
        self._namesake.close(connection)
        board = self._board
        self._reported = self._backlog()  # before the status: what comes in between is news
        self._next_report_s = time.monotonic() + board.status_interval_s
        connection.publish(self._status(Presence.ONLINE))
        self._tell_facts(connection)
        if board.jobs is not None:
            board.jobs.begin(self._session)

    def work(self, connection: Connection) -> float:
        """Do all that can be done now; the seconds until there may be more, if nothing comes before."""
        self._hear(connection)
        if connection.ended is not None:
            return 0.0
        if not self._namesake.closed:
            if wait_s := self._namesake.wait_s(connection):
                return wait_s
            self._introduce(connection)
        self._window.expire(time.monotonic())
        while self._window.has_room() and (parcel := self._next_parcel(connection)):
            self._send(connection, parcel)
        if self._told is not self._board.facts():
            self._tell_facts(connection)
        self._show(connection)
        self._report(connection)
        jobs_s = self._speak_of_jobs(connection)
        now_s = time.monotonic()
        return max(0.0, min(self._window.next_s(now_s), self._next_report_s, jobs_s) - now_s)

    def _speak_of_jobs(self, connection: Connection) -> float:
        """Publish what is owed of jobs; when there may be more."""
        desk = self._board.jobs
        if desk is None:
            return float("inf")
        for message in desk.owed():
            connection.publish(message)
        return desk.next_s()

    def _tell_facts(self, connection: Connection) -> None:
        self._told = self._board.facts()
        connection.publish(Message(topics.facts(self._board.device), codec.encode(self._told), retain=True))

    def end(self, connection: Connection, bell: Bell) -> None:
        """Say that this board goes, if the broker still listens."""
        if self._namesake.closed:  # else it never said that it was here
            connection.publish(self._status(Presence.OFFLINE))
        deadline_s = time.monotonic() + _GOODBYE_S
        while connection.ended is None and not connection.idle and time.monotonic() < deadline_s:
            connection.turn(_GOODBYE_S / 5, bell)
        connection.leave()

    def _hear(self, connection: Connection) -> None:
        board = self._board
        while connection.received:
            message = connection.received.popleft()
            if message.topic == topics.receipt(board.device):
                self._take_receipt(message.payload)
            elif message.topic == topics.watch(board.device) and board.audience is not None:
                board.audience.hear(message.payload)
            elif message.topic == topics.job_notify(board.device) and board.jobs is not None:
                if self._namesake.closed:  # else it may be for another disk
                    board.jobs.hear(message.payload)
            elif message.topic == topics.status(board.device):
                self._meet(connection, message.payload)
            else:
                logger.debug("ignored, a message on a topic that nobody asked for")

    def _meet(self, connection: Connection, payload: bytes) -> None:
        if not self._namesake.closed and self._namesake.meets(payload):
            self._fork()
            # The last will of this connection still has the epoch of both; who leaves in peace takes it along.
            connection.leave()
            connection.end("another disk has this board's epoch: it begins anew under an epoch of its own")

    def _fork(self) -> None:
        board, before = self._board, self._board.outbox.epoch
        message = (
            f"another disk speaks for {board.device} with epoch {before}: this one was copied, or put back to an older "
            "state. It takes another epoch and sends again all that it holds"
        )
        logger.warning("%s", message)
        now_unix_s, boot_id = board.outbox.clock(), board.facts().host.boot_id
        board.outbox.fork(
            Event(
                device=board.device,
                boot_id=boot_id,
                time_unix_s=now_unix_s,
                name="outbox-forked",
                message=message,
            )
        )
        self._window.clear()

    def _take_receipt(self, payload: bytes) -> None:
        try:
            receipt = codec.decode(codec.unpack(payload, codec.MAX_PAYLOAD_BYTES), Receipt)
        except RecordRejected as error:
            logger.warning("ignored, not a receipt: %s", error)
            return
        if not self._namesake.closed:
            return  # it may be for the rows of another disk
        if receipt.device == self._board.device and self._board.outbox.apply(receipt):
            self._settle(receipt)

    def _show(self, connection: Connection) -> None:
        """Publish the sample that watchers are owed; it is in no window and no outbox."""
        audience = self._board.audience
        if audience is not None and (sample := audience.take()) is not None:
            live = Live(schema=codec.SCHEMA, telemetry=sample)
            connection.offer(Message(topics.live(self._board.device), codec.pack(codec.encode(live))))

    def _settle(self, receipt: Receipt) -> None:
        now_s = time.monotonic()
        for refusal in receipt.rejected:
            logger.warning("the collector refused row %d: %s", refusal.seq, refusal.reason)
        refused = [(refusal.seq, refusal.seq) for refusal in receipt.rejected]
        if not receipt.ranges and not refused:  # the greeting of a collector that just came
            self._window.hurry(now_s)
        self._window.settle([*receipt.ranges, *refused], now_s)
        self._progress()

    def _next_parcel(self, connection: Connection) -> Parcel | None:
        while (seq := self._window.suspect(time.monotonic())) is not None:
            if parcel := self._board.outbox.parcel_of(seq):
                return parcel
            self._window.forget(seq)  # given up at the cap meanwhile
        most_bytes = self._window.message_bytes
        if connection.payload_bytes is not None:
            most_bytes = min(most_bytes, max(1, connection.payload_bytes - ENVELOPE_BYTES))
        outbox = self._board.outbox
        parcel = outbox.next_parcel(self._window, most_bytes)
        if parcel is None and self._window.another_round():
            parcel = outbox.next_parcel(self._window, most_bytes)
        return parcel

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
        if connection.payload_bytes is not None and len(payload) > connection.payload_bytes:
            self._withhold(parcel, len(payload), connection.payload_bytes)
            return
        connection.publish(Message(topics.batch(board.device, parcel.kind), payload))
        self._window.sent(parcel.seqs, len(payload), time.monotonic())

    def _withhold(self, parcel: Parcel, size_bytes: int, most_bytes: int) -> None:
        """Keep back what this broker would end the connection for: one row alone, since several fit by their sizes."""
        for seq in parcel.seqs:
            self._window.withhold(seq)
        if not self._withholds:
            self._withholds = True
            logger.warning(
                "row %d (%s) makes a message of %d bytes and the broker takes %d: such rows wait in the outbox; "
                "raise the broker's limit on packets (mosquitto: max_packet_size)",
                *(min(parcel.seqs), parcel.kind.value, size_bytes, most_bytes),
            )

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
