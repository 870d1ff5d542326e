"""A board that lives fast, as a process: the real outbox and link, over TLS, at a pace that no field has.

    python -m tests.faults.hasty_board ORDERS    (JSON, see `Orders`)

With `batches` it commits so many telemetry records of two minutes as fast as they are delivered, beside a real sampler
at a hundred times its rate; else a small record now and then. It ends at SIGTERM.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from pathlib import Path

import msgspec

from agent.connection import BrokerSettings, Tls
from agent.host import Host
from agent.link import Link, Pace
from agent.outbox import Outbox
from agent.signals import on_signals
from agent.telemetry import Telemeter
from phasewatt import series
from phasewatt.messages import Clock
from phasewatt.traces import Telemetry
from tests.faults import seeded
from tests.fixtures import wire

_PACE = Pace(receipt_timeout_s=0.5, retry_first_s=0.01, retry_max_s=0.05, status_interval_s=0.5)
_NOW_AND_THEN_S = 0.05
_AHEAD = 32  # batches without a receipt, before it waits
_SAMPLES = 120
_POOL = 40
_SAMPLER_PERIOD_S = 0.01
_DRAIN_S = 120.0
_TOLD_EVERY = 10
CAP_BYTES = 32 * 1024 * 1024


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What it is to do."""

    state: str
    port: int
    ca_path: str
    device: str = "board-1"
    batches: int = 0


def main() -> int:
    """Its life."""
    orders = msgspec.json.decode(sys.argv[1].encode(), type=Orders)
    finish = threading.Event()
    on_signals(finish.set, signal.SIGTERM)
    outbox = Outbox.open(Path(orders.state), CAP_BYTES)
    broker = BrokerSettings(host="127.0.0.1", port=orders.port, tls=Tls(ca_path=orders.ca_path))
    no_clock = Clock(synchronised=None, offset_bound_s=None)
    link = Link(broker, outbox, wire.facts(device=orders.device), lambda: no_clock, pace=_PACE)
    link.start()
    if orders.batches:
        _telemetry(orders, outbox, link, finish)
    else:
        _events(orders, outbox, link, finish)
    link.stop()
    outbox.close()
    return 0


def _events(orders: Orders, outbox: Outbox, link: Link, finish: threading.Event) -> None:
    for number in itertools.count():
        outbox.append([seeded.event(orders.device, str(number), time.time())])
        link.notify()
        if finish.wait(_NOW_AND_THEN_S):
            return


def _telemetry(orders: Orders, outbox: Outbox, link: Link, finish: threading.Event) -> None:
    batch_s = _SAMPLES * _SAMPLER_PERIOD_S
    telemeter = Telemeter(Host(orders.device), outbox, link.notify, batch_s=batch_s, period_s=_SAMPLER_PERIOD_S)
    telemeter.start()
    pool = [seeded.board_columns(str(number)) for number in range(_POOL)]
    times = series.pack_times([at * 1_000_000_000 for at in range(_SAMPLES)])
    for number in range(orders.batches):
        while outbox.pending() >= _AHEAD and not finish.wait(0.005):
            pass
        if finish.is_set():
            break
        record = Telemetry(
            device=orders.device,
            boot_id=str(number),
            started_unix_s=1.7e9 + _SAMPLES * number,
            time=times,
            values=pool[number % _POOL],
        )
        outbox.append([record])
        link.notify()
        if (number + 1) % _TOLD_EVERY == 0:
            _say(f"{number + 1} appended")
    _say("delivered" if link.wait_drained(_DRAIN_S) else "not delivered in time")
    finish.wait()
    telemeter.stop()


def _say(line: str) -> None:
    sys.stdout.write(f"\n{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
