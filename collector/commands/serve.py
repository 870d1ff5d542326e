"""`serve`: receive what boards send, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
from collections.abc import Callable

from collector import settings
from collector.commands import authority, broker, broker_config, keeping, pages
from collector.commands.pages import Parts
from collector.settings import Address, BrokerSettings
from collector.signals import on_signals
from collector.store import open_store
from phasewatt.errors import ConfigInvalid

_LOOK_S = 1.0

_Broker = tuple[Address, BrokerSettings, Callable[[str], object] | None]  # the last shuts out a board that floods


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The broker, and how to be let in."""
    broker.add_arguments(parser, embedded="one inside the collector, on loopback only (the default)")
    parser.add_argument("--name", help="this collector's, among those on one broker (default: the host's)")
    parser.add_argument(
        "--share", metavar="GROUP", help="share what boards send with other collectors on the same database"
    )
    pages.add_arguments(parser)
    keeping.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve, and say in one line when boards are heard."""
    from collector.retention import Housekeeper
    from collector.subscriber import Subscriber

    logging.getLogger("collector").setLevel(logging.INFO)
    config = settings.named(keeping.with_flags(broker.settings_of(args), args), name=args.name, share=args.share)
    web = settings.pages_of(pages.with_flags(config.web, args))
    stopped = threading.Event()
    on_signals(stopped.set, signal.SIGTERM, signal.SIGINT)
    with contextlib.ExitStack() as stack:
        address, proof, shut_out = _broker(args, config.broker, stack)
        if config.share is not None and address.embedded:
            raise ConfigInvalid("share: the embedded broker has no shared subscriptions; run mosquitto, give --broker")
        store = stack.enter_context(contextlib.closing(open_store(args.db, create=True)))
        name = config.name or settings.default_name()
        subscriber = Subscriber(address, proof, name, store, share=config.share, shut_out=shut_out)
        subscriber.start()
        stack.callback(subscriber.stop)
        housekeeper = Housekeeper(store, config.retention)
        housekeeper.start()
        stack.callback(housekeeper.stop)
        parts = Parts(name, address, proof, store, subscriber)
        shown = "" if web is None else f", page {stack.enter_context(pages.shown(web, parts, args))}"
        while not stopped.is_set() and subscriber.refusal is None and not subscriber.listening.wait(0.1):
            pass
        if not stopped.is_set() and subscriber.refusal is None:
            group = "" if config.share is None else f", group {config.share} as {name}"
            print(f"collector ready: broker {address.host}:{address.port}, db {store.name}{group}{shown}", flush=True)
        while subscriber.refusal is None and not stopped.wait(_LOOK_S):
            pass
        if subscriber.refusal is not None:
            raise ConfigInvalid(subscriber.refusal)
    return 0


def _broker(args: argparse.Namespace, chosen: BrokerSettings, stack: contextlib.ExitStack) -> _Broker:
    """Where the broker is and how to be let in; one of our own lives as long as `stack`."""
    if chosen.address == settings.MANAGED:
        return _managed(args, stack)
    address, proof = broker.reached(args, chosen)
    if address.embedded:
        from collector.broker import embedded_broker

        port = stack.enter_context(embedded_broker(address.host, address.port))
        address = address._replace(port=port)
    return address, proof, None


def _managed(args: argparse.Namespace, stack: contextlib.ExitStack) -> _Broker:
    """A mosquitto, set up by defaults where nobody chose."""
    from collector import managed, mosquitto
    from collector.authority import Authority, plan_in
    from collector.eviction import ShutOut

    executable = managed.program(args.search_path)
    ours = Authority(authority.folder_of(args))
    if plan_in(ours.folder) is None:
        ours.set_up(broker_config.default_plan(args.state))
    plan = ours.plan()
    child = managed.ManagedBroker(plan, mosquitto.write(plan, ours), executable)
    child.start()
    stack.callback(child.stop)
    print(f"broker managed: boards reach it at {plan.address}; enroll each of them", flush=True)
    return *managed.reached(plan, ours), ShutOut(plan, ours)
