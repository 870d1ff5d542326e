"""The way out: keeps a connection to the broker and delivers over it what the outbox holds.

MQTT is taken as a pipe that may lose anything at any time. One thread does all of it; it outlives every error,
and sleeps while there is nothing to do.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from agent.broker_traits import BrokerTraits
from agent.connection import Bell, BrokerSettings, Connection
from agent.delivery import Board, Delivery
from agent.job_desk import JobDesk
from agent.live import Audience
from agent.outbox import PARCEL_BYTES, Outbox
from agent.watchdog import Beat, unwatched
from agent.window import Window
from phasewatt.errors import PhasewattError
from phasewatt.messages import Clock, Facts

logger = logging.getLogger(__name__)

_ACCEPT_TIMEOUT_S = 10.0  # for the broker's answer once the network stands
_STABLE_S = 30.0  # a connection that lasted so long was no failure


class Pace(NamedTuple):
    """How fast and how much; the defaults are for boards in the field."""

    receipt_timeout_s: float = 30.0
    window_messages: int = 16
    window_bytes: int = 128 * 1024  # what waits in a queue delays live data: see benchmarks/returning_fleet.py
    retry_first_s: float = 1.0
    retry_max_s: float = 60.0
    status_interval_s: float = 60.0
    silence_s: float = 120.0  # without any receipt, before it is called a fault


_FIELD_PACE = Pace()


class Link:
    """The connection of one board to its collector, over all that may happen to it."""

    def __init__(
        self,
        settings: BrokerSettings,
        outbox: Outbox,
        facts: Facts,
        clock: Callable[[], Clock],
        *,
        telemetry_interval_s: float | None = None,
        audience: Audience | None = None,
        jobs: JobDesk | None = None,
        pace: Pace = _FIELD_PACE,
        beat: Beat = unwatched,
    ) -> None:
        self._beat = beat
        self._settings = settings
        self._facts = facts
        facts_now, interval_s = (lambda: self._facts), pace.status_interval_s
        self._board = Board(outbox, facts_now, clock, telemetry_interval_s, interval_s, audience, jobs)
        self._pace = pace
        self._window = Window(pace.window_messages, pace.window_bytes, pace.receipt_timeout_s, PARCEL_BYTES)
        self._traits = BrokerTraits()
        self._session: str | None = None  # remembered, and not heard by a broker yet
        self._bell = Bell()
        self._stopping = threading.Event()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._connected_since_s: float | None = None
        self._failure: str | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker accepted this board, and the connection stands."""
        return self._connected_since_s is not None

    @property
    def last_error(self) -> str | None:
        """Why nothing is delivered at the moment, in one line; None: nothing is known to be wrong."""
        since_s = self._connected_since_s
        if since_s is None:
            return self._failure
        silent_s = time.monotonic() - max(since_s, self._window.last_receipt_s)
        if silent_s < self._pace.silence_s or not self._board.outbox.pending():
            return None
        return (
            f"broker {self._settings.host}:{self._settings.port}: connected, but no receipt for {silent_s:.0f} s; "
            "is a collector running, and does the broker's access list let this board publish?"
        )

    def start(self) -> None:
        """Begin to connect and to deliver."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Take leave of the broker; what has no receipt yet stays in the outbox."""
        self._stopping.set()
        self._bell.ring()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():  # else it hangs in a connect, and touches nothing once that is over
            self._bell.close()

    def tell(self, facts: Facts) -> None:
        """Publish other facts of this board than before."""
        self._facts = facts
        self.notify()

    def notify(self) -> None:
        """Say that rows were added."""
        self._bell.ring()

    def wait_drained(self, timeout_s: float) -> bool:
        """Whether every row got its receipt, or its refusal, in time."""
        with self._progress:
            return self._progress.wait_for(lambda: not self._board.outbox.pending(), timeout_s)

    def _run(self) -> None:
        retry_s = self._pace.retry_first_s
        while not self._stopping.is_set():
            self._beat()
            began_s = time.monotonic()
            self._failure = self._deliver()
            self._connected_since_s = None
            if time.monotonic() - began_s > _STABLE_S:
                retry_s = self._pace.retry_first_s
            self._pause(retry_s * random.uniform(0.5, 1.0))  # a fleet must not come back all at once
            retry_s = min(2 * retry_s, self._pace.retry_max_s)

    def _deliver(self) -> str | None:
        """Connect, and deliver until it ends; the reason of the end, None if it was asked for."""
        try:
            session = self._session = self._session or self._board.outbox.new_session()
            delivery = Delivery(self._board, self._window, self._settled, session)
            connection = Connection(self._settings, self._board.device, delivery.will(), self._traits)
            try:
                self._converse(connection, delivery)
            finally:
                connection.close()
                if connection.accepted:
                    self._session = None
                self._window.lose(time.monotonic())
            reason = connection.ended
        except PhasewattError as error:
            reason = str(error)
        except Exception as error:
            # Nothing else gets records off the board, so this thread outlives what nobody thought of.
            logger.exception("the link failed and begins anew")
            return f"the link failed and begins anew: {type(error).__name__}: {error}"
        if reason and reason != self._failure:
            logger.warning("%s", reason)
        return reason

    def _converse(self, connection: Connection, delivery: Delivery) -> None:
        connection.open()
        deadline_s = time.monotonic() + _ACCEPT_TIMEOUT_S
        while not connection.accepted and self._goes_on(connection):
            connection.turn(max(0.0, deadline_s - time.monotonic()), self._bell)
            if time.monotonic() > deadline_s:
                connection.end("it does not answer; is it an MQTT broker?")
        if self._goes_on(connection):
            self._connected_since_s = time.monotonic()
            delivery.begin(connection)
        while self._goes_on(connection):
            self._beat()
            wait_s = delivery.work(connection)
            connection.turn(min(wait_s, self._settings.keepalive_s / 4), self._bell)
        if connection.accepted and connection.ended is None:
            delivery.end(connection, self._bell)

    def _goes_on(self, connection: Connection) -> bool:
        return connection.ended is None and not self._stopping.is_set()

    def _pause(self, duration_s: float) -> None:
        deadline_s = time.monotonic() + duration_s
        while not self._stopping.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
            self._bell.wait(left_s)

    def _settled(self) -> None:
        with self._progress:
            self._progress.notify_all()
