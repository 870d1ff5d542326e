"""Whether the host was suspended: the clock that counts sleep runs ahead of the one that does not."""

from __future__ import annotations

import time

NOTICED_S = 0.05  # the two clocks are read one after the other, and a busy host may come between


def asleep_s() -> float | None:
    """Time that this host was suspended since boot; None where a clock does not answer."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    except OSError:
        return None
