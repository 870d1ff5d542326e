"""Whether the agent of this container works: its lock is held, and its socket takes a caller. Exit status 0 if so."""

from __future__ import annotations

import fcntl
import socket
import sys
from pathlib import Path

STATE = Path("/var/lib/phasewatt-agent")


def main() -> int:
    """Ask as `run` would, and hang up."""
    try:
        with (STATE / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("no agent holds the state directory")
        return 1
    except BlockingIOError:
        pass
    except OSError as error:
        print(f"state directory: {error.strerror}")
        return 1
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        try:
            caller.connect(str(STATE / "agent.sock"))
        except OSError as error:
            print(f"the agent takes no call: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
