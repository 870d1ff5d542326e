"""A program that prints lines for as long as it is read, supervised: started again when it ends or hangs."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.jetson import leash
from agent.jetson.cutting import LineCutter

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_PIECE_BYTES = 65536
_ENDING_S = 0.5  # between asking it to end and killing it
_LEFT_S = 2.0  # one that cannot even be killed, as in a call of a hung driver, is left to the kernel
_PROVEN_S = 10.0  # what ran for so long did start; the next pause is the shortest again


class Patience(NamedTuple):
    """How long to wait for a child, in seconds."""

    hung_s: float  # without a line that is of use
    pause_s: float = 1.0  # before it is started again; doubled each time that it fails at once ...
    longest_pause_s: float = 30.0  # ... up to this


class Child:
    """Runs a command and gives every line that it prints, errors among them, to `take`, from a thread of its own.

    `take` says whether the line was of use: a command that prints nothing but others has hung as well.
    `ended` is told why each time that it has ended or hung, and says whether to start it again. The command dies with
    this process, however that ends.
    """

    def __init__(
        self,
        command: Sequence[str],
        take: Callable[[bytes], bool],
        ended: Callable[[str], bool],
        patience: Patience,
    ) -> None:
        self._command = tuple(command)
        self._take = take
        self._ended = ended
        self._patience = patience
        self._closing = threading.Event()
        # The kernel ends a child with the thread that started it, so this one starts it and stays.
        self._thread = threading.Thread(target=self._supervise, name="child", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the command and whatever it started."""
        self._closing.set()
        self._thread.join(_LEFT_S)

    def _supervise(self) -> None:
        pause_s = self._patience.pause_s
        while not self._closing.is_set():
            started_s = time.monotonic()
            why = self._run()
            if self._closing.is_set() or not self._ended(why):
                return
            if time.monotonic() - started_s > _PROVEN_S:
                pause_s = self._patience.pause_s
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, self._patience.longest_pause_s)

    def _run(self) -> str:
        """Follow one run of the command to its end; why it ended."""
        command = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *self._command]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,  # signals for our group are not for it, and we can end all that it started
            )
        except OSError as error:
            return f"could not be started: {error.strerror}"
        why: str | None = None
        try:
            why = self._follow(process)
        except Exception as error:  # whatever one line meets, the child must be started again
            logger.exception("a line of %s was not handled", self._command[0])
            why = f"printed what could not be handled ({type(error).__name__})"
        finally:
            code = _end(process)
        return why or f"ended by itself with code {code}"

    def _follow(self, process: subprocess.Popen[bytes]) -> str | None:
        """Give the lines on; why it must be ended, or None where it ended by itself."""
        assert process.stdout is not None
        cutter = LineCutter()
        heard_s = time.monotonic()
        while not self._closing.is_set():
            ready, _, _ = select.select([process.stdout], [], [], _POLL_S)
            piece = os.read(process.stdout.fileno(), _PIECE_BYTES) if ready else None
            if piece == b"":
                self._take(cutter.rest())
                return None
            lines = cutter.feed(piece) if piece else []
            taken = [self._take(line) for line in lines]
            if any(taken):
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > self._patience.hung_s:
                return f"printed nothing of use for {self._patience.hung_s:.3g} s, so it was ended"
        return "closed"


def _end(process: subprocess.Popen[bytes]) -> int | None:
    """End a process and all of its group; its exit code, None where it does not end, as when a driver holds it.

    One that has ended keeps its number until it is waited for, so nothing else can be hit by it before.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + _ENDING_S
    while not _has_ended(process.pid) and time.monotonic() < deadline_s:
        time.sleep(_ENDING_S / 25)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # also what ignored the first signal, and outlived its parent
    if process.stdout is not None:
        process.stdout.close()
    try:
        return process.wait(_ENDING_S)
    except subprocess.TimeoutExpired:
        return None


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
