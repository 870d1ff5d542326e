"""What a program and its children take from the host, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil


class Footprint(NamedTuple):
    """At one moment; the sums over a program and all its children."""

    pss_bytes: int
    rss_bytes: int
    threads: int
    descriptors: int
    processes: int


class Spent(NamedTuple):
    """Since a program and its present children began."""

    cpu_s: float
    wakeups: int
    written_bytes: int  # handed to the file system of a disk; what lies in memory is not counted


def footprint(pid: int) -> Footprint:
    """What the program takes now."""
    family = _family(pid)
    memory = [member.memory_full_info() for member in family]
    return Footprint(
        pss_bytes=sum(one.pss for one in memory),
        rss_bytes=sum(one.rss for one in memory),
        threads=sum(member.num_threads() for member in family),
        descriptors=sum(member.num_fds() for member in family),
        processes=len(family),
    )


def spent(pid: int) -> Spent:
    """What the program used so far."""
    family = _family(pid)
    tasks = [task for member in family for task in Path(f"/proc/{member.pid}/task").iterdir()]
    return Spent(
        # To the nanosecond: ticks of 10 ms are too coarse for a share of a thousandth.
        cpu_s=sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) * 1e-9,
        wakeups=sum(_voluntary_switches(task) for task in tasks),
        written_bytes=sum(member.io_counters().write_bytes for member in family),
    )


def _family(pid: int) -> list[psutil.Process]:
    program = psutil.Process(pid)
    return [program, *program.children(recursive=True)]


def _voluntary_switches(task: Path) -> int:
    """How often a thread went to sleep."""
    for line in (task / "status").read_text().splitlines():
        name, _, figure = line.partition(":")
        if name == "voluntary_ctxt_switches":
            return int(figure)
    raise ValueError(f"{task}: no count of switches")
