"""What the service manager is told of this daemon: that it is ready, that it lives, that it ends.

systemd's protocol of one datagram a message, without its library. Source: sd_notify(3), systemd 249.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """Takes messages; where no manager asked for any, they go nowhere. A message that fails is no reason to stop."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """`address`: of its socket, "@" for an abstract one. `watchdog_s`: within which it wants a sign of life."""
        self.watchdog_s = watchdog_s
        self._address = None if not address else "\0" + address[1:] if address[0] == "@" else address

    def ready(self, status: str) -> None:
        """The daemon does its work from now on."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """It still does."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """It begins to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is not None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(message.encode(), self._address)


def asked_for(environment: Mapping[str, str]) -> ServiceManager:
    """The manager that started this process, by the variables that it sets; they are for this process alone."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID")
    is_ours = pid is None or pid == str(os.getpid())
    watchdog_s = int(usec) * 1e-6 if usec.isdecimal() and int(usec) and is_ours else None
    return ServiceManager(environment.get("NOTIFY_SOCKET"), watchdog_s)
