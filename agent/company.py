"""Who else used this host while a phase was measured. Our own processes are told from others by their CPU time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

import psutil

from agent.host import idle_and_total_s

_LEAST_S = 0.2  # twenty ticks of the clock that the kernel counts CPU time by


class Moment(NamedTuple):
    """CPU time used on this host until then, by all and by each of our processes."""

    at_s: float
    busy_s: float
    own_s: Mapping[int, float]  # by process id


def host_busy_s() -> float:
    """CPU time that all cores together have spent since boot, idling left out."""
    idle_s, total_s = idle_and_total_s()
    return total_s - idle_s


def process_cpu_s(pid: int) -> float | None:
    """CPU time that a process and those that it started have used; None: there is no such process."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        children = [child.cpu_times() for child in process.children(recursive=True)] if pid != os.getpid() else []
        own = process.cpu_times()
        ended_s = own.children_user + own.children_system if pid != os.getpid() else 0.0
        return float(own.user + own.system + ended_s + sum(times.user + times.system for times in children))
    return None


class Company:
    """Looks at the host's CPU time less that of this process and the processes in `own`."""

    def __init__(
        self,
        own: Iterable[int | None],
        gpu_processes: Callable[[], int | None],
        busy_s: Callable[[], float] = host_busy_s,
        cpu_s: Callable[[int], float | None] = process_cpu_s,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = frozenset(pid for pid in (os.getpid(), *own) if pid is not None)
        self._gpu_processes = gpu_processes
        self._busy_s = busy_s
        self._cpu_s = cpu_s
        self._clock_s = clock_s

    def now(self) -> Moment:
        """A moment to count from."""
        own_s = {pid: used_s for pid in self._own if (used_s := self._cpu_s(pid)) is not None}
        return Moment(self._clock_s(), self._busy_s(), own_s)

    def cores_since(self, before: Moment) -> float | None:
        """Cores that others kept busy since then; None: too little time to tell, or a process of ours has ended."""
        after = self.now()
        passed_s = after.at_s - before.at_s
        if passed_s < _LEAST_S or before.own_s.keys() - after.own_s.keys():
            return None
        own_s = sum(after.own_s[pid] - used_s for pid, used_s in before.own_s.items())
        return max(0.0, (after.busy_s - before.busy_s - own_s) / passed_s)

    def gpu_processes(self) -> int | None:
        """Compute processes of others on the GPUs now."""
        return self._gpu_processes()
