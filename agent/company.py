"""Who else used this host while a phase was measured. Our own processes are told from others by their CPU time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

import psutil

from agent.host import idle_and_total_s

_LEAST_S = 0.2  # twenty ticks of the clock that the kernel counts CPU time by


class Moment(NamedTuple):
    """CPU time used on this host until then, by all and by us."""

    at_s: float
    busy_s: float
    own_s: float


class Company:
    """Looks at the host's CPU time less that of this process and the processes in `own`."""

    def __init__(self, own: Iterable[int | None], gpu_processes: Callable[[], int | None]) -> None:
        self._own = frozenset(own)
        self._gpu_processes = gpu_processes

    def now(self) -> Moment:
        """A moment to count from."""
        idle_s, total_s = idle_and_total_s()
        own_s = sum(_cpu_s(pid) for pid in {os.getpid(), *self._own} if pid is not None)
        return Moment(time.monotonic(), total_s - idle_s, own_s)

    def cores_since(self, before: Moment) -> float | None:
        """Cores that others kept busy since then; None if too little time passed to tell."""
        after = self.now()
        if after.at_s - before.at_s < _LEAST_S:
            return None
        others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
        return max(0.0, others_s / (after.at_s - before.at_s))

    def gpu_processes(self) -> int | None:
        """Compute processes of others on the GPUs now."""
        return self._gpu_processes()


def _cpu_s(pid: int) -> float:
    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0
