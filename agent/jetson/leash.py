"""Runs a program that dies with the process that started it: `python leash.py PARENT PROGRAM ARGUMENT...`.

A program by itself, since a process with threads cannot safely prepare a child between fork and exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> str:
    """Become the program; comes back only where that fails, with the reason."""
    parent, *command = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM):  # a sampler ignores these, and a child inherits that
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return "nobody waits for this any more"  # the parent died before the line above
    try:
        os.execv(command[0], command)
    except OSError as error:
        return f"cannot run {command[0]}: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
