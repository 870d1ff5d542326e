"""`serve`: receive what boards send, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading

from collector import settings
from collector.commands import broker, keeping
from collector.store import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The broker, and how to be let in."""
    broker.add_arguments(parser, embedded="one inside the collector, on loopback only (the default)")
    keeping.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve, and say in one line when boards are heard."""
    from collector.broker import embedded_broker
    from collector.retention import Housekeeper
    from collector.subscriber import Subscriber

    logging.getLogger("collector").setLevel(logging.INFO)
    config = keeping.with_flags(broker.settings_of(args), args)
    address = settings.address_of(config.broker)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(contextlib.closing(open_store(args.db, create=True)))
        if address.embedded:
            port = stack.enter_context(embedded_broker(address.host, address.port))
            address = address._replace(port=port)
        subscriber = Subscriber(address, config.broker, config.name or settings.default_name(), store)
        subscriber.start()
        stack.callback(subscriber.stop)
        housekeeper = Housekeeper(store, config.retention)
        housekeeper.start()
        stack.callback(housekeeper.stop)
        while not stopped.is_set() and not subscriber.listening.wait(0.1):
            pass
        if not stopped.is_set():
            print(f"collector ready: broker {address.host}:{address.port}, db {store.name}", flush=True)
        stopped.wait()
    return 0
