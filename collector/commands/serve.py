"""`serve`: receive what boards send, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
from pathlib import Path

from msgspec.structs import replace

from collector import settings
from collector.settings import BrokerSettings
from collector.store import open_store

_FLAGS = {
    "ca_file": "certificates that the broker's must be signed by; turns TLS on",
    "cert_file": "certificate of this collector",
    "key_file": "its key",
    "username": "user name at the broker",
    "password_file": "file that holds the password",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The broker, and how to be let in."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML; flags win over it")
    parser.add_argument(
        "--broker",
        dest="address",
        metavar="ADDRESS",
        help="HOST:PORT, or embedded[:PORT] for one inside the collector, on loopback only (the default)",
    )
    for name, explanation in _FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=explanation)


def run(args: argparse.Namespace) -> int:
    """Serve, and say in one line when boards are heard."""
    from collector.broker import embedded_broker
    from collector.subscriber import Subscriber

    logging.getLogger("collector").setLevel(logging.INFO)
    config = settings.load(args.config)
    broker = _with_flags(config.broker, args)
    address = settings.address_of(broker)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(contextlib.closing(open_store(args.db, create=True)))
        if address.embedded:
            port = stack.enter_context(embedded_broker(address.host, address.port))
            address = address._replace(port=port)
        subscriber = Subscriber(address, broker, config.name or settings.default_name(), store)
        subscriber.start()
        stack.callback(subscriber.stop)
        while not stopped.is_set() and not subscriber.listening.wait(0.1):
            pass
        if not stopped.is_set():
            print(f"collector ready: broker {address.host}:{address.port}, db {store.name}", flush=True)
        stopped.wait()
    return 0


def _with_flags(broker: BrokerSettings, args: argparse.Namespace) -> BrokerSettings:
    given = {name: getattr(args, name) for name in ("address", *_FLAGS) if getattr(args, name) is not None}
    return replace(broker, **given)
