"""The child process of a rank: one that shares a model with an engine's process, which leads it (engines/ranks.py).

It sees to its own end before it imports anything that takes its time.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys

import msgspec
from msgspec import Struct

_PR_SET_PDEATHSIG = 1


class Join(Struct, frozen=True):
    """Which rank to be."""

    number: int
    of: int
    accelerator: str  # cpu, cuda
    meeting: str  # file in which the ranks find each other
    leader: int  # process id of rank 0


def main() -> None:
    """Entry point of the child: `python -m agent.rank JOIN`, a `Join` in JSON."""
    join = msgspec.json.decode(sys.argv[1], type=Join)
    for number in (signal.SIGINT, signal.SIGTERM):  # these reach the whole group; the leader's parent decides
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != join.leader:  # it ended before that was asked for
        sys.exit("the leader of this rank has ended")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # where libraries that print cannot reach the answers
    importlib.import_module("agent.engines.rank_follower").serve(join, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
