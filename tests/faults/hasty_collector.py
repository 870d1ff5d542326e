"""The collector's parts as `serve` puts them together, at a pace that no fleet has.

    python -m tests.faults.hasty_collector DB PORT CA_FILE KEEP_S

It connects anew at once, and what telemetry is older than KEEP_S goes every second. It ends at SIGTERM.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading

from collector import client
from collector.retention import Housekeeper
from collector.settings import Address, BrokerSettings, Retention
from collector.signals import on_signals
from collector.store import open_store
from collector.subscriber import Subscriber

NAME = "centre"
_RETRY_S = (0.02, 0.1)
_DAY_S = 86400.0


def main() -> int:
    """Serve."""
    database, port, ca_file, keep_s = sys.argv[1:]
    client.RETRY_S = _RETRY_S  # type: ignore[assignment] # whole seconds are long enough for the field
    stopped = threading.Event()
    on_signals(stopped.set, signal.SIGTERM)
    with contextlib.closing(open_store(database, create=True)) as store:
        broker = BrokerSettings(ca_file=ca_file)
        subscriber = Subscriber(Address(False, "127.0.0.1", int(port)), broker, NAME, store)
        housekeeper = Housekeeper(store, Retention(telemetry_days=float(keep_s) / _DAY_S), period_s=1.0)
        subscriber.start()
        housekeeper.start()
        if subscriber.listening.wait(30):
            sys.stdout.write("collector ready\n")
            sys.stdout.flush()
        stopped.wait()
        housekeeper.stop()
        subscriber.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
