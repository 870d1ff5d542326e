"""The host around the work: memory, disk, clock, other load, and the state directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from agent.checks import Finding, Subject
from agent.control import LOCK
from agent.host import busy_cores
from agent.kernel_files import text
from phasewatt.doubts import ALONE_CORES

_LOW_DISK_BYTES = 2 * 10**9
_LOW_MEMORY_SHARE = 0.1
_SWAPPED_BYTES = 256 * 2**20  # less is what a kernel parks there in passing
LOCKS = Path("/proc/locks")


def identity(subject: Subject) -> Iterator[Finding]:
    """What is examined; of a simulated board, that the rest is this host's."""
    facts = subject.host.facts()
    name = ", ".join(dict.fromkeys(filter(None, (facts.model, facts.module)))) or facts.architecture
    if subject.host.simulated:
        verdict = f"{name}: a simulated board in {subject.root}; Python, engine, disk and other load are this host's"
        yield Finding("host", True, verdict)
    else:
        yield Finding("host", True, f"{name}, {facts.cpu_count} CPUs, {facts.operating_system}")


def memory(subject: Subject) -> Iterator[Finding]:
    """How much is left of it, and whether some of it was swapped out."""
    files = subject.host.state_files
    total, available, swapped = subject.host.memory_bytes, files.available_bytes(), files.swap_used_bytes()
    verdict = f"{total / 1e9:.1f} GB" + ("" if available is None else f", {available / 1e9:.1f} GB available")
    if available is not None and available < _LOW_MEMORY_SHARE * total:
        yield Finding("memory", None, f"{verdict}: nearly full", "end other programs, or measure smaller models")
    else:
        yield Finding("memory", True, verdict)
    if swapped is not None and swapped > _SWAPPED_BYTES:
        verdict = f"{swapped / 1e9:.1f} GB are swapped out: what comes back meanwhile takes time and power"
        yield Finding("swap", None, verdict, "end other programs; then sudo swapoff -a && sudo swapon -a")


def disk(subject: Subject) -> Iterator[Finding]:
    """Room for the outbox."""
    yield disk_finding(shutil.disk_usage(_nearest(subject.state)).free, subject.state)


def disk_finding(free_bytes: int, state: Path) -> Finding:
    """Whether so much room is enough."""
    verdict = f"{free_bytes / 1e9:.1f} GB free for {state}"
    is_enough = free_bytes > _LOW_DISK_BYTES
    return Finding("disk", True, verdict) if is_enough else Finding("disk", None, verdict, "free some space")


def state(subject: Subject) -> Iterator[Finding]:
    """Whether the state directory can be written, and whether an agent lives there."""
    nearest = _nearest(subject.state)
    if not os.access(nearest, os.W_OK | os.X_OK) or not nearest.is_dir():
        yield Finding("state", False, f"{nearest} cannot be written by this user", "another --state-dir, or its owner")
        return
    holder = holder_of(subject.state / LOCK, LOCKS)
    if holder is None:
        yield Finding("state", True, f"{subject.state} can be written; no agent works there now")
    else:
        verdict = f"an agent works in {subject.state} (process {holder}): `run` hands its suites to the daemon"
        yield Finding("state", True, verdict)


def holder_of(lock: Path, locks: Path) -> int | None:
    """The process that holds a lock file, as the kernel lists them in `locks`; nothing is locked to find out."""
    try:
        inode = lock.stat().st_ino
    except OSError:
        return None
    held = (line.split() for line in (text(locks) or "").splitlines())
    return next((int(line[4]) for line in held if line[1:2] == ["FLOCK"] and line[5].endswith(f":{inode}")), None)


def clock(subject: Subject) -> Iterator[Finding]:
    """Whether the wall clock is synchronised."""
    yield clock_finding(subject.host.clock().synchronised)


def clock_finding(synchronised: bool | None) -> Finding:
    """The same by the kernel's word; None: it does not tell."""
    if synchronised:
        return Finding("clock", True, "synchronised")
    what = "not synchronised" if synchronised is False else "the kernel does not tell"
    verdict = f"{what}: dates are labels only; durations are not concerned"
    return Finding("clock", None, verdict, "run chrony or ntpd")


def alone(subject: Subject) -> Iterator[Finding]:
    """What else works here."""
    yield alone_finding(busy_cores(1.0), subject.host.gpus.processes())


def alone_finding(cores: float, gpu_processes: int | None) -> Finding:
    """Whether so much other load is a matter."""
    verdict = f"{cores:.1f} CPU cores busy" + (
        "" if gpu_processes is None else f", {gpu_processes} processes on the GPUs"
    )
    if cores <= ALONE_CORES and not gpu_processes:
        return Finding("alone", True, verdict)
    return Finding("alone", None, verdict, "end other work before measuring, or expect marked trials")


def _nearest(path: Path) -> Path:
    """The directory, or the nearest one above it that exists."""
    whole = path.absolute()
    return next(each for each in (whole, *whole.parents) if os.access(each, os.F_OK))  # one above may be closed to us
