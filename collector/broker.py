"""An MQTT broker inside the collector, for a first run and for tests: loopback only, nobody asked who they are.

It forgets sessions when it stops; a fleet wants a broker of its own, such as mosquitto.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from amqtt.broker import Broker
from amqtt.errors import BrokerError

from collector.settings import is_loopback
from phasewatt.errors import ConfigInvalid

_START_TIMEOUT_S = 30


class _Broker(Broker):  # type: ignore[misc] # amqtt carries no types
    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one client to its end; amqtt would leave the socket open where the client reset the connection."""
        try:
            await super().stream_connected(reader, writer, listener_name)
        finally:
            writer.close()


@contextlib.contextmanager
def embedded_broker(host: str, port: int) -> Iterator[int]:
    """The port of a broker that runs, in a thread of its own, as long as the context; `port` 0 takes a free one.

    Raises:
        ConfigInvalid: `host` is not loopback, or the port is taken.
    """
    if not is_loopback(host):
        raise ConfigInvalid(
            f"embedded broker on {host}: it lets everybody in, so it listens on loopback only; "
            "to be reached by other hosts, serve --broker managed, or run mosquitto and give its HOST:PORT"
        )
    # Tried first, because amqtt tells neither which port it chose nor why it got none.
    port = _free_port(host, port)
    listening: Future[Callable[[], object]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(host, port, listening)), name="broker", daemon=True)
    thread.start()
    stop = listening.result(_START_TIMEOUT_S)
    try:
        yield port
    finally:
        stop()
        thread.join()


async def _serve(host: str, port: int, listening: Future[Callable[[], object]]) -> None:
    """Serve until the function that `listening` gets is called."""
    for chatty in ("amqtt", "transitions"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    broker = _Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    try:
        await broker.start()
    except BrokerError as error:
        listening.set_exception(ConfigInvalid(f"embedded broker on {host}:{port}: {error}"))
        return
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    listening.set_result(lambda: loop.call_soon_threadsafe(stopped.set))
    await stopped.wait()
    await broker.shutdown()


def _free_port(host: str, port: int) -> int:
    try:
        with socket.create_server((host, port)) as probe:
            free: int = probe.getsockname()[1]
            return free
    except OSError as error:
        raise ConfigInvalid(
            f"embedded broker on {host}:{port}: {os.strerror(error.errno or 0).lower()}; "
            "give another port, embedded:PORT, or 0 for a free one"
        ) from error
