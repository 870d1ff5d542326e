"""One agent a state directory: the lock, and the local socket by which `run` hands a suite to a living daemon."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from agent.cells import Suite
from agent.measuring import AnyReport, Broken, Ended, OutOfTime, Tell
from agent.stopping import Stop
from phasewatt.errors import PhasewattError, StateBusy, StoreUnavailable

logger = logging.getLogger(__name__)

LOCK = "lock"
_SOCKET = "agent.sock"
_POLL_S = 0.5
_CLEARING_S = 3.0
_REQUEST_BYTES = 4 * 1024 * 1024


class RunRequest(Struct, frozen=True):
    """A suite to run now."""

    suite: Suite
    fresh: bool
    for_s: float | None = None  # measure so long at most


Execute = Callable[[RunRequest, Tell, Stop], None]


class StateLock:
    """Held from construction to `close`, or to the end of the process.

    Raises:
        StateBusy: another process holds it.
        StoreUnavailable: the directory cannot be made or written.
    """

    def __init__(self, state: Path) -> None:
        try:
            state.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._file: IO[str] = (state / LOCK).open("a+", encoding="ascii")
        except OSError as error:
            raise StoreUnavailable(
                f"state directory {state}: {error.strerror}; choose another with --state-dir"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise StateBusy(f"another agent works in {state}; end it, or choose another --state-dir") from error

    def close(self) -> None:
        """Let go."""
        self._file.close()


class Control:
    """The daemon's socket: takes one suite at a time and tells its caller how it goes; hanging up stops the suite."""

    def __init__(self, state: Path, execute: Execute, busy: threading.Lock | None = None) -> None:
        self._execute = execute
        self._busy = busy or threading.Lock()  # shared with whoever else runs suites here
        self._stopping = Stop()
        path = state / _SOCKET
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        with _address(state) as address:
            self._listener.bind(address)
        path.chmod(0o660)
        self._listener.listen(4)
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the suite that runs, if any, and listen no longer."""
        self._stopping.set()
        with self._busy, suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), name="run", daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        stop = Stop()

        def tell(report: AnyReport) -> None:
            with suppress(OSError):
                caller.sendall(msgspec.json.encode(report) + b"\n")

        with closing(caller):
            try:
                with caller.makefile("rb") as lines:
                    request = msgspec.json.decode(lines.readline(_REQUEST_BYTES), type=RunRequest)
                self._run(request, caller, tell, stop)
            except msgspec.DecodeError as error:
                tell(Broken(message=f"not a request of this version: {error}", exit_code=1))
            except PhasewattError as error:
                tell(Broken(message=str(error), exit_code=error.exit_code))
            except Exception:  # the daemon outlives whatever a suite did
                logger.exception("a suite failed unexpectedly")
                tell(Broken(message="the daemon met an unexpected error; see its log", exit_code=1))

    def _run(self, request: RunRequest, caller: socket.socket, tell: Tell, stop: Stop) -> None:
        # The suite before this one has told its end when it still has to clear its bench.
        if not self._busy.acquire(timeout=_CLEARING_S):
            raise StateBusy("the daemon is running another suite, or a job; try again when it is done")
        try:
            threading.Thread(target=_watch, args=(caller, stop), name="caller", daemon=True).start()
            threading.Thread(target=_follow, args=(self._stopping, stop), name="stopping", daemon=True).start()
            self._execute(request, tell, stop)
        finally:
            stop.set()
            self._busy.release()


def hand_over(state: Path, request: RunRequest, stop: Stop) -> Iterator[AnyReport]:
    """What the daemon of `state` tells while it runs the suite; ends early, and stops it, at `stop`.

    Raises:
        StateBusy: something holds the lock but does not listen.
    """
    connection = socket.socket(socket.AF_UNIX)
    with closing(connection):
        try:
            with _address(state) as address:
                connection.connect(address)
        except OSError as error:
            raise StateBusy(f"another agent works in {state} and takes no work: wait until it ends") from error
        with suppress(OSError):  # a daemon that ends just now is told of by the reports
            connection.sendall(msgspec.json.encode(request) + b"\n")
        yield from _reports(connection, stop)


def _reports(connection: socket.socket, stop: Stop) -> Iterator[AnyReport]:
    decoder = msgspec.json.Decoder(AnyReport)
    connection.settimeout(_POLL_S)
    received = b""
    while not stop.is_set():
        try:
            chunk = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            chunk = b""
        if not chunk:
            yield Broken(message="the daemon ended; what was finished is kept", exit_code=1)
            return
        *lines, received = (received + chunk).split(b"\n")
        for line in lines:
            try:
                report = decoder.decode(line)
            except msgspec.DecodeError:
                yield Broken(message="the daemon is of another version: restart it", exit_code=1)
                return
            yield report
            if isinstance(report, Ended | OutOfTime | Broken):
                return


def _follow(leader: Stop, stop: Stop) -> None:
    """Set `stop` when `leader` is set; ends with either."""
    while not stop.wait(_POLL_S):
        if leader.is_set():
            stop.set()


def _watch(caller: socket.socket, stop: Stop) -> None:
    """Set `stop` when the caller hangs up."""
    with suppress(OSError):
        while caller.recv(1024):
            pass
    stop.set()


@contextmanager
def _address(state: Path) -> Iterator[str]:
    """The socket's path by way of an open directory: an address holds 107 bytes, and state directories nest deep."""
    directory = os.open(state, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{_SOCKET}"
    finally:
        os.close(directory)
