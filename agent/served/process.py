"""The processes of a server on this host: whose CPU time and memory are the work's own."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path

import psutil

from agent.served.client import Endpoint, endpoint_of


def is_here(endpoint: Endpoint) -> bool:
    """Whether the endpoint's address is one of this host's; a name that nobody knows is not."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    own = {address.address.partition("%")[0] for card in psutil.net_if_addrs().values() for address in card}
    return all(str(one) in own or ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)


def listener(endpoint: Endpoint) -> int | None:
    """Process id of what listens there; None: another user's, or in a container, and not shown to this one."""
    with contextlib.suppress(psutil.Error):
        for held in psutil.net_connections(kind="tcp"):
            if held.status == psutil.CONN_LISTEN and held.laddr and held.laddr.port == endpoint.port and held.pid:
                return int(held.pid)
    return None


def servers_at(url: str) -> tuple[int, ...]:
    """The processes of the server at a URL, the one that listens first; none where there is no URL or none is shown."""
    return family(listener(endpoint_of(url))) if url else ()


def family(pid: int | None) -> tuple[int, ...]:
    """A process and all that it started."""
    with contextlib.suppress(psutil.Error):
        if pid is not None:
            return (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True)))
    return ()


def peak_bytes(pid: int | None) -> int | None:
    """Largest resident set of a process since it started; None where that is not told."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def file_of(pid: int | None, path: str) -> Path | None:
    """The file that a process knows as `path`, in its own tree and folder; None: it cannot be read from here."""
    if pid is None:
        return Path(path) if Path(path).is_absolute() and Path(path).is_file() else None
    with contextlib.suppress(OSError):
        folder = Path(f"/proc/{pid}/cwd").readlink()
        found = Path(f"/proc/{pid}/root") / str(folder / path).lstrip("/")
        if found.is_file():
            return found
    return None
