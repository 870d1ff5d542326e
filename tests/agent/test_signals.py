"""Signals that ask a process to end."""

from __future__ import annotations

import subprocess
import sys

import pytest

_WAITING = """
import os, signal, threading, time
from {package}.signals import on_signals

stopped = threading.Event()
on_signals(stopped.set, signal.SIGTERM)
with stopped._cond:  # as in the middle of a wait for it
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    assert not stopped.is_set()
print("heard" if stopped.wait(30) else "not heard")
"""


@pytest.mark.parametrize("package", ["agent", "collector"])
def test_a_signal_in_the_middle_of_a_wait_is_heard(package: str) -> None:
    """A handler that set the event itself would wait for the lock that its own thread holds, for ever."""
    done = subprocess.run(
        [sys.executable, "-c", _WAITING.format(package=package)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("heard\n", "")
