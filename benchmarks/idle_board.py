"""What an idle board costs a day: traffic, device writes, wakeups; with default settings, over TLS, to a real broker.

    python -m benchmarks.idle_board [--seconds 3600] [--state DIR] [--play BOARD]

The agent reaches its broker through a proxy that has the kernel count bytes and segments, cut as on an Ethernet; a
second client of the broker adds up messages by topic. Device writes are what the agent's processes hand to the disk's
file system; where DIR lies on a file system of its own, the disk's count shows its journal as well. BOARD (agx-orin,
orin-nx, ...) is simulated, with the columns of a Jetson. Goals: 5 MB of traffic, 60 MB of device writes. Needs
mosquitto.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from agent.simulated.boards import BOARDS
from tests.faults.footprint import Footprint, Spent, footprint, spent
from tests.faults.traffic import HEADER_BYTES, CountingProxy, Passed, Tally
from tests.fixtures import certificates
from tests.fixtures.broker import Mosquitto, find_mosquitto

_SETTLE_S = 30.0
_DAY_S = 86400.0
_TRAFFIC_GOAL_BYTES = 5e6
_WRITES_GOAL_BYTES = 60e6
_HOST = "127.0.0.1"
_SECTOR_BYTES = 512


class Reading(NamedTuple):
    """All counters at one moment."""

    time_s: float
    passed: Passed
    heard: Mapping[str, tuple[int, int]]
    agent: Spent
    agent_takes: Footprint
    collector: Spent
    disk_bytes: int | None  # None: the file system names no disk


class Set(NamedTuple):
    """An agent and a collector that run."""

    state: Path
    agent: int
    collector: int
    proxy: CountingProxy
    tally: Tally

    def read(self) -> Reading:
        """What they have cost so far."""
        return Reading(
            time_s=time.monotonic(),
            passed=self.proxy.passed(),
            heard=self.tally.totals(),
            agent=spent(self.agent),
            agent_takes=footprint(self.agent),
            collector=spent(self.collector),
            disk_bytes=_disk_bytes(self.state),
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument(
        "--state", type=Path, help="new or empty folder on a disk (default: in the folder for temporary files)"
    )
    parser.add_argument("--play", choices=list(BOARDS), help="a simulated board (default: this host)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as scratch, running(Path(scratch), args.state, args.play) as pair:
        time.sleep(_SETTLE_S)
        before = pair.read()
        time.sleep(args.seconds)
        after = pair.read()
        print("\n".join(_table(pair, before, after, args.play)), flush=True)


@contextmanager
def running(scratch: Path, state: Path | None, play: str | None) -> Iterator[Set]:
    """A broker, a collector and an agent, each a process of its own."""
    state = state or scratch / "state"
    state.mkdir(parents=True, exist_ok=True)
    _check_counted(state)
    made = certificates.make(scratch)
    broker = Mosquitto(find_mosquitto(), scratch, f"certfile {made.cert_path}", f"keyfile {made.key_path}")
    with ExitStack() as stack:
        broker.start()
        stack.callback(broker.stop)
        proxy = CountingProxy(broker.port)
        tally = Tally(broker.port, made.ca_path)
        stack.callback(tally.close)
        ca = ["--ca-file", str(made.ca_path)]
        to_broker, to_proxy = (["--broker", f"{_HOST}:{port}", *ca] for port in (broker.port, proxy.port))
        database = f"sqlite:///{scratch / 'collector.db'}"
        root = _played(scratch, play, stack) if play else []
        collector = _started(stack, "collector.app", "serve", "--db", database, *to_broker)
        agent = _started(stack, "agent.app", "serve", "--state-dir", str(state), *to_proxy, *root)
        yield Set(state, agent.pid, collector.pid, proxy, tally)


def _played(scratch: Path, play: str, stack: ExitStack) -> list[str]:
    folder = scratch / "board"
    idle_w = BOARDS[play].power_w[0]
    power = f"square:{idle_w:g},{idle_w * 1.05:g},60"
    process = _started(stack, "agent.app", "simulate", play, str(folder), "--power", power)
    while not (folder / "simulated-board.json").exists():
        assert process.poll() is None, f"{play} cannot be played"
        time.sleep(0.1)
    return ["--root", str(folder)]


def _started(stack: ExitStack, *command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    return process


def _table(pair: Set, before: Reading, after: Reading, play: str | None) -> Iterator[str]:
    span_s = after.time_s - before.time_s
    passed = after.passed.minus(before.passed)
    what = f"a simulated {BOARDS[play].name}" if play else "this host"
    yield f"{span_s:.0f} s after {_SETTLE_S:.0f} s to settle; {what}; Python {sys.version.split()[0]}; TLS on"
    yield f"{'':34}{'measured':>14}{'a day':>14}"

    def line(name: str, figure: float, goal: float | None = None) -> str:
        day = figure / span_s * _DAY_S
        verdict = "" if goal is None else f"   goal {goal / 1e6:.0f} MB: {'reached' if day < goal else 'MISSED'}"
        return f"{name:34}{figure / 1e3:11.1f} kB{day / 1e6:11.2f} MB{verdict}"

    headers = HEADER_BYTES * (passed.sent_segments + passed.received_segments)
    yield line("from the board", passed.sent_bytes)
    yield line("to the board", passed.received_bytes)
    yield line(f"headers of {passed.sent_segments + passed.received_segments} segments", headers)
    yield line("traffic", passed.sent_bytes + passed.received_bytes + headers, _TRAFFIC_GOAL_BYTES)
    for name, (count, size_bytes) in sorted(after.heard.items()):
        earlier = before.heard.get(name, (0, 0))
        if count > earlier[0]:
            yield line(f"  {count - earlier[0]} messages: {name}", size_bytes - earlier[1])
    yield line("written by the agent", after.agent.written_bytes - before.agent.written_bytes, _WRITES_GOAL_BYTES)
    if after.disk_bytes is not None and before.disk_bytes is not None:
        yield line("written by its disk, by all", after.disk_bytes - before.disk_bytes)
    yield line("written by the collector", after.collector.written_bytes - before.collector.written_bytes)
    yield from _of_processes(pair, before, after, span_s)


def _of_processes(pair: Set, before: Reading, after: Reading, span_s: float) -> Iterator[str]:
    for name, early, late in (("agent", before.agent, after.agent), ("collector", before.collector, after.collector)):
        cpu, wakeups = (late.cpu_s - early.cpu_s) / span_s, (late.wakeups - early.wakeups) / span_s
        yield f"{name:34}CPU {cpu:.3%} of a core   {wakeups:.1f} wakeups/s"
    yield f"connections of the agent          {pair.proxy.connections}"
    yield f"{'':34}{'at the start':>14}{'at the end':>14}"
    for label, early_bytes, late_bytes in (
        ("PSS", before.agent_takes.pss_bytes, after.agent_takes.pss_bytes),
        ("RSS", before.agent_takes.rss_bytes, after.agent_takes.rss_bytes),
    ):
        yield f"{'agent ' + label:34}{early_bytes / 2**20:10.2f} MiB{late_bytes / 2**20:10.2f} MiB"
    for label in ("threads", "descriptors", "processes"):
        early, late = getattr(before.agent_takes, label), getattr(after.agent_takes, label)
        yield f"{'agent ' + label:34}{early:14}{late:14}"


def _disk_bytes(directory: Path) -> int | None:
    """Bytes that the disk under `directory` wrote since the host began, whoever asked for it."""
    device = directory.stat().st_dev
    statistics = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    return int(statistics.read_text().split()[6]) * _SECTOR_BYTES if statistics.exists() else None


def _check_counted(directory: Path) -> None:
    """Exit where writes to `directory` are no device writes: then none would be seen."""
    before = psutil.Process().io_counters().write_bytes
    probe = directory / "probe"
    with probe.open("wb") as file:
        file.write(os.urandom(1 << 16))
        file.flush()
        os.fsync(file.fileno())
    probe.unlink()
    if psutil.Process().io_counters().write_bytes == before:
        sys.exit(f"{directory} does not lie on a disk: give a folder on one with --state")


if __name__ == "__main__":
    main()
