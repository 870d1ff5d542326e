"""A board in small, as a process: the real outbox and link, and seeded records in the place of measurements.

    python -m tests.faults.board ORDERS    (JSON, see `Orders`)

It appends until it has appended enough or SIGTERM tells it to finish, then waits until all is delivered. Exit code 0:
delivered; 3: not in time.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.connection import BrokerSettings
from agent.link import Link, Pace
from agent.outbox import Outbox, OutboxFull
from agent.signals import on_signals
from agent.spool import open_spool
from phasewatt.messages import Clock
from tests.faults import seeded
from tests.faults.journal import Journal
from tests.fixtures import wire

NOT_DELIVERED = 3
PACE = Pace(receipt_timeout_s=0.5, retry_first_s=0.05, retry_max_s=0.3, status_interval_s=0.5)


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What one life of a board is to do."""

    state: str
    journal: str
    device: str
    port: int
    seed: str
    appends: int | None = None  # None: until SIGTERM
    pause_s: float = 0.02  # between two
    idles: bool = False  # when it has appended enough, it waits for SIGTERM
    drain_s: float = 30.0
    cap_bytes: int = 64 * 1024 * 1024
    clock_steps: tuple[tuple[int, float], ...] = ()  # after so many appends the wall clock is so far off
    dies_in_commit: int | None = None  # killed while this commit is under way
    keepalive_s: int = 60


def ready_line(orders: Orders) -> str:
    """What a life prints once SIGTERM no longer ends it at once."""
    return f"ready: {orders.seed}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class WallClock:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def __call__(self) -> float:
        """Unix time in seconds, as this board believes."""
        return time.time() + self.offset_s


def main() -> int:
    """One life."""
    orders = msgspec.json.decode(sys.argv[1].encode(), type=Orders)
    finish = threading.Event()
    on_signals(finish.set, signal.SIGTERM)
    _say(ready_line(orders))
    clock = WallClock()
    outbox = _outbox(orders, clock)
    settings = BrokerSettings(host="127.0.0.1", port=orders.port, keepalive_s=orders.keepalive_s)
    no_clock = Clock(synchronised=None, offset_bound_s=None)
    link = Link(settings, outbox, wire.facts(device=orders.device), lambda: no_clock, pace=PACE)
    link.start()
    _append(orders, outbox, clock, link.notify, finish)
    if orders.idles:
        _say("appended")
        finish.wait()
    delivered = link.wait_drained(orders.drain_s)
    link.stop()
    return 0 if delivered else NOT_DELIVERED


def _outbox(orders: Orders, clock: WallClock) -> Outbox:
    if orders.dies_in_commit is None:
        return Outbox.open(Path(orders.state), orders.cap_bytes, clock)
    spool = open_spool(Path(orders.state), clock)
    spool.db.set_trace_callback(_Fuse(orders.dies_in_commit, random.Random(orders.seed)))
    return Outbox(spool, orders.cap_bytes, clock)


class _Fuse:
    """Burns from the beginning of one commit; the signal that it sets off ends the process wherever it is."""

    def __init__(self, commits: int, draw: random.Random) -> None:
        self._commits = commits
        self._burns_s = draw.choice((1e-6, draw.uniform(1e-6, 1e-3)))

    def __call__(self, statement: str) -> None:
        self._commits -= statement == "COMMIT"
        if self._commits == 0:
            signal.setitimer(signal.ITIMER_REAL, self._burns_s)


def _append(
    orders: Orders, outbox: Outbox, clock: WallClock, appended: Callable[[], None], finish: threading.Event
) -> None:
    journal = Journal(Path(orders.journal))
    steps = dict(orders.clock_steps)
    for number, records in enumerate(seeded.appends(orders.seed, orders.device, clock)):
        clock.offset_s = steps.get(number, clock.offset_s)
        if number == orders.appends or finish.is_set():
            return
        journal.plan(records)
        try:
            journal.kept(outbox.epoch, outbox.append(records))
        except OutboxFull:
            journal.refused()
        appended()
        finish.wait(orders.pause_s)


if __name__ == "__main__":
    sys.exit(main())
