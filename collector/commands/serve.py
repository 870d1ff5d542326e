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
from phasewatt.errors import ConfigInvalid

_LOOK_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The broker, and how to be let in."""
    broker.add_arguments(parser, embedded="one inside the collector, on loopback only (the default)")
    parser.add_argument("--name", help="this collector's, among those on one broker (default: the host's)")
    parser.add_argument(
        "--share", metavar="GROUP", help="share what boards send with other collectors on the same database"
    )
    keeping.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve, and say in one line when boards are heard."""
    from collector.broker import embedded_broker
    from collector.retention import Housekeeper
    from collector.subscriber import Subscriber

    logging.getLogger("collector").setLevel(logging.INFO)
    config = settings.named(keeping.with_flags(broker.settings_of(args), args), name=args.name, share=args.share)
    address = settings.address_of(config.broker)
    if config.share is not None and address.embedded:
        raise ConfigInvalid("share: the embedded broker has no shared subscriptions; run mosquitto and give --broker")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(contextlib.closing(open_store(args.db, create=True)))
        if address.embedded:
            port = stack.enter_context(embedded_broker(address.host, address.port))
            address = address._replace(port=port)
        name = config.name or settings.default_name()
        subscriber = Subscriber(address, config.broker, name, store, share=config.share)
        subscriber.start()
        stack.callback(subscriber.stop)
        housekeeper = Housekeeper(store, config.retention)
        housekeeper.start()
        stack.callback(housekeeper.stop)
        while not stopped.is_set() and subscriber.refusal is None and not subscriber.listening.wait(0.1):
            pass
        if not stopped.is_set() and subscriber.refusal is None:
            group = "" if config.share is None else f", group {config.share} as {name}"
            print(f"collector ready: broker {address.host}:{address.port}, db {store.name}{group}", flush=True)
        while subscriber.refusal is None and not stopped.wait(_LOOK_S):
            pass
        if subscriber.refusal is not None:
            raise ConfigInvalid(subscriber.refusal)
    return 0
