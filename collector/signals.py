"""Signals that ask a process to end; as agent/signals.py, for neither program knows the other."""

from __future__ import annotations

import _thread
import signal
from collections.abc import Callable


def on_signals(ask: Callable[[], object], *numbers: signal.Signals) -> None:
    """Call `ask`, which may set what the main thread waits for, when one of these signals comes.

    It is called beside the main thread. A handler runs in the middle of whatever that does, also where it holds the
    lock of the very event that it is about to wait for: setting that from there would wait for ever.
    """

    def handle(*_: object) -> None:
        _thread.start_new_thread(ask, ())  # what `threading` starts a thread with takes a lock of its own

    for number in numbers:
        signal.signal(number, handle)
