"""A board that takes jobs, as a process: the real link, desk, book, worker and spool, and cells that take a moment.

    python -m tests.faults.job_board ORDERS    (JSON, see `Orders`)

It lives until it is killed, or until SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import msgspec

from agent.connection import BrokerSettings
from agent.link import Link
from agent.signals import on_signals
from tests.faults.board import PACE
from tests.fixtures import wire
from tests.fixtures.job_board import JobBoard


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """How it lives."""

    state: str
    device: str
    port: int
    cell_s: float


def main() -> int:
    """One life."""
    orders = msgspec.json.decode(sys.argv[1].encode(), type=Orders)
    end = threading.Event()
    on_signals(end.set, signal.SIGTERM)
    board = JobBoard(Path(orders.state), orders.device, most_restarts=1000)
    board.cell_s = orders.cell_s
    settings = BrokerSettings(host="127.0.0.1", port=orders.port)
    facts = wire.facts(device=orders.device)
    link = Link(settings, board.outbox, facts, board.host.clock, jobs=board.desk, pace=PACE)
    board.notified = link.notify
    link.start()
    board.worker.start()
    sys.stdout.write("lives\n")
    sys.stdout.flush()
    end.wait()
    board.worker.stop()
    link.wait_drained(30)
    link.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
