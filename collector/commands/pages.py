"""Options of `serve` for its pages: the live page, and /metrics."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from collector.commands import authority, table
from collector.settings import Address, BrokerSettings, Pages, WebSettings
from collector.store import Store

if TYPE_CHECKING:
    from collector.subscriber import Subscriber


class Parts(NamedTuple):
    """The parts of `serve` that pages show."""

    name: str
    address: Address  # of the broker
    proof: BrokerSettings
    store: Store
    subscriber: Subscriber


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, and for whom."""
    parser.add_argument(
        "--web", metavar="ADDRESS", help="show a live page and /metrics on this HOST:PORT, or :PORT on this host alone"
    )
    parser.add_argument("--web-password-file", metavar="FILE", help="ask for the password in FILE, of user phasewatt")


def with_flags(web: WebSettings, args: argparse.Namespace) -> WebSettings:
    """The settings with the flags put over them."""
    given = {"address": args.web, "password_file": args.web_password_file}
    return replace(web, **{name: value for name, value in given.items() if value is not None})


@contextlib.contextmanager
def shown(pages: Pages, parts: Parts, args: argparse.Namespace) -> Iterator[str]:
    """Show the pages meanwhile; their URL.

    Raises:
        ConfigInvalid: nothing can listen there.
    """
    from collector.fleet_look import FleetLook
    from collector.watching import Watching
    from collector.web import exposition
    from collector.web.live import LiveBoards
    from collector.web.server import WebServer
    from collector.web.site import Site

    name, address, proof, store, subscriber = parts
    told = exposition.Serving(
        name=name,
        broker=f"{address.host}:{address.port}",
        database=store.name,
        fleet=FleetLook(store, authority.folder_of(args), table.when),
        traffic=lambda: subscriber.traffic,
    )
    live = LiveBoards(lambda: Watching(address, proof, ()))
    server = WebServer(Site(told, live, pages.password), pages.host, pages.port)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
        live.stop()
