"""The HTTP server of `serve`, in a thread of its own; its threads and connections are few."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.server import create_server

from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_THREADS = 4
_CONNECTIONS = 64
_SILENT_S = 20  # a connection on which nothing comes is closed
_MOST_BYTES = 64 * 1024  # of a request
_STOP_S = 5.0


class WebServer:
    """Listens from the beginning on; `host` and `port` as they are bound, port 0: any that is free.

    Raises:
        ConfigInvalid: nothing can listen there.
    """

    def __init__(self, application: WSGIApplication, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            bound = socket.create_server((host, port), family=found[0][0])
        except (OSError, OverflowError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigInvalid(f"web: cannot listen on {host}:{port}: {why}; name another address") from error
        self.host, self.port = bound.getsockname()[:2]
        self._map: dict[int, Any] = {}
        self._server: Any = create_server(
            application,
            map=self._map,
            sockets=[bound],
            threads=_THREADS,
            connection_limit=_CONNECTIONS,
            channel_timeout=_SILENT_S,
            cleanup_interval=_SILENT_S // 2,
            max_request_header_size=_MOST_BYTES,
            max_request_body_size=_MOST_BYTES,
            ident="phasewatt",
        )
        self._thread = threading.Thread(target=self._server.run, name="web", daemon=True)

    @property
    def url(self) -> str:
        """Of the first page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more; one that has ended stays so."""
        if not self._thread.is_alive():
            return
        trigger = self._server.trigger
        trigger.pull_trigger(self._hang_up)  # in its thread, which may be waiting on what is closed
        self._server.task_dispatcher.shutdown()
        trigger.pull_trigger(trigger.close)  # at last: until then, workers may pull it
        self._thread.join(_STOP_S)

    def _hang_up(self) -> None:
        for each in list(self._map.values()):
            if each is self._server:
                wasyncore.dispatcher.close(each)  # its own would close the trigger too
            elif each is not self._server.trigger:
                each.handle_close()
