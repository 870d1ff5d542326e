"""A mosquitto that lives and ends with the collector: started, watched, started again, its log among ours."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from collector import mosquitto
from collector.authority import Authority, Plan
from collector.broker_log import CHATTER, BrokerLog
from collector.settings import LOOPBACK, Address, BrokerSettings
from phasewatt.errors import ConfigInvalid

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0
_ASKED_AGAIN_S = 0.5
_AGAIN_S = (1.0, 60.0)  # after it ended by itself
_STEADY_S = 60.0  # one that lived so long did not fail at its start
_LAST_LINES = 20
_CHUNK_BYTES = 256 * 1024
_READY = " running"  # ends the line by which it says that it listens
_PLACES = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"  # often outside of a user's PATH

logger = logging.getLogger(__name__)


def program(path: str) -> str:
    """The mosquitto of this host; `path` is where programs are looked for.

    Raises:
        ConfigInvalid: there is none.
    """
    found = shutil.which("mosquitto", path=f"{path}:{_PLACES}")
    if found is None:
        raise ConfigInvalid(
            "broker managed: mosquitto is not installed: apt-get install mosquitto, "
            "or run it elsewhere with what `phasewatt-collector broker-config` writes"
        )
    return found


def reached(plan: Plan, authority: Authority) -> tuple[Address, BrokerSettings]:
    """Where the centre's listener is on this host, and how this collector is let in."""
    authority.client()
    return Address(False, plan.bind or LOOPBACK, plan.centre_port), BrokerSettings(
        ca_file=str(authority.path_of("boards.pem")),
        cert_file=str(authority.path_of("client.pem")),
        key_file=str(authority.path_of("client.key")),
    )


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    said: int  # the descriptor of what it says


class ManagedBroker:
    """The child; `start` returns once it accepts connections.

    Raises:
        ConfigInvalid: a port is taken, or it does not start, with its own reason.
    """

    def __init__(self, plan: Plan, config: Path, executable: str) -> None:
        self._plan = plan
        self._command = [executable, "-c", str(config)]
        self._stopping = threading.Event()
        self._running = threading.Event()  # by its own word
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._child: _Child | None = None
        self._thread = threading.Thread(target=self._watch, name="broker", daemon=True)

    def start(self) -> None:
        """Start it, and go on starting it until `stop`."""
        _end_orphan(self._plan)
        for port in (self._plan.port, self._plan.centre_port):
            _check_free(self._plan.bind, port)
        self._child = child = self._spawned()
        self._thread.start()
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self._running.wait(0.02):
            if child.process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise ConfigInvalid(f"broker managed: mosquitto did not start: {self._why()}")

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        if self._child is not None:
            _end(self._child.process)
        self._thread.join(_STOP_TIMEOUT_S)

    def _spawned(self) -> _Child:
        ours, theirs = os.pipe()
        # It says something of every message. When nobody keeps up with that, lines must be lost, and it must not wait.
        os.set_blocking(theirs, False)
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=theirs,
                start_new_session=True,  # Ctrl-C is for the collector, which says goodbye over it first
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return _Child(process, ours)

    def _watch(self) -> None:
        pause_s = _AGAIN_S[0]
        while self._child is not None:
            began_s = time.monotonic()
            self._listen(self._child)
            if self._stopping.is_set() or not self._running.is_set():  # `start` tells of one that never came up
                return
            if time.monotonic() - began_s > _STEADY_S:
                pause_s = _AGAIN_S[0]
            logger.error("mosquitto ended (%s); starting it again in %.0f s", self._why(), pause_s)
            if self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, _AGAIN_S[1])
            self._child = self._spawned()

    def _listen(self, child: _Child) -> None:
        log, rest = BrokerLog(), b""
        with closing(os.fdopen(child.said, "rb", buffering=0)) as pipe:
            while chunk := pipe.read(_CHUNK_BYTES):
                *lines, rest = CHATTER.sub(b"", rest + chunk).split(b"\n")
                for line in lines:
                    self._heard(line.decode("utf-8", "replace"), log)
        child.process.wait()

    def _heard(self, line: str, log: BrokerLog) -> None:
        if not line:
            return
        self._last.append(line)
        if line.endswith(_READY):
            self._running.set()
        if (said := log.heard(line, time.monotonic())) is not None:
            logger.log(said.level, "mosquitto: %s", said.text)

    def _why(self) -> str:
        said = [line.partition(": ")[2] for line in self._last]
        errors = [line for line in said if line.startswith("Error: ")]
        return (errors or said or ["it said nothing"])[-1]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, asking more than once: mosquitto forgets a signal that comes just before its loop begins."""
    deadline_s = time.monotonic() + _STOP_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ASKED_AGAIN_S)
    if process.poll() is None:
        process.kill()
        process.wait()


def _end_orphan(plan: Plan) -> None:
    """End the child of a collector that was killed: it still holds the ports."""
    if (pid := mosquitto.running(plan)) is None:
        return
    logger.warning("a mosquitto (process %d) runs with this configuration already: it is ended and started anew", pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + _STOP_TIMEOUT_S
    while mosquitto.running(plan) is not None and time.monotonic() < deadline_s:
        time.sleep(0.05)


def _check_free(bind: str | None, port: int) -> None:
    try:
        with socket.create_server((bind or "", port)):
            pass
    except OSError as error:
        raise ConfigInvalid(
            f"broker managed: port {port}: {os.strerror(error.errno or 0).lower()}; end what listens there "
            "(ss -ltnp), or choose others: broker-config --port PORT --centre-port PORT"
        ) from error
