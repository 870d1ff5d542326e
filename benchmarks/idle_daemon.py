"""What an idle agent costs: memory of all its processes and CPU time, over TLS to a real broker and collector.

    python -m benchmarks.idle_daemon [--seconds 60]

Telemetry is sampled at 1 Hz, and committed and delivered every 20 s, six times as often as by default. Beside it, in
the same run, a Python that only imports and sleeps. Goals: 40 MiB PSS, no child process, 0.5 % of a core. Needs
mosquitto.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.fixtures import certificates
from tests.fixtures.broker import Mosquitto, find_mosquitto

_BARE = "import asyncio, json, sqlite3, ssl, time; time.sleep(3600)"
_SETTLE_S = 15.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, _fleet(Path(scratch)) as (agent, bare):
        time.sleep(_SETTLE_S)
        before = _cpu_s(agent)
        began = time.monotonic()
        time.sleep(args.seconds)
        share = (_cpu_s(agent) - before) / (time.monotonic() - began)
        pss, children = _pss_bytes(agent), len(agent.children(recursive=True))
        print(f"{args.seconds:.0f} s after {_SETTLE_S:.0f} s to settle; Python {sys.version.split()[0]}; TLS on")
        rss, bare_bytes = _rss_bytes(agent), _pss_bytes(bare)
        print(f"idle agent    PSS {pss / 2**20:6.1f} MiB   RSS {rss / 2**20:6.1f} MiB")
        print(f"              CPU {share:.3%} of a core   {children} child processes")
        print(f"bare Python   PSS {bare_bytes / 2**20:6.1f} MiB   (json, sqlite3, ssl imported)")
        print(f"agent / bare  PSS {pss / bare_bytes:6.2f}")


@contextmanager
def _fleet(scratch: Path) -> Iterator[tuple[psutil.Process, psutil.Process]]:
    """A running agent that delivers over TLS, and a Python that does nothing."""
    made = certificates.make(scratch)
    broker = Mosquitto(find_mosquitto(), scratch, f"certfile {made.cert_path}", f"keyfile {made.key_path}")
    broker.start()
    address = ["--broker", f"{broker.host}:{broker.port}", "--ca-file", str(made.ca_path)]
    (scratch / "agent.toml").write_text("telemetry_interval_s = 20\n")
    commands = [
        ["-m", "collector.app", "serve", "--db", f"sqlite:///{scratch / 'collector.db'}", *address],
        [
            "-m",
            "agent.app",
            "serve",
            "--state-dir",
            str(scratch / "state"),
            "--config",
            str(scratch / "agent.toml"),
            *address,
        ],
        ["-c", _BARE],
    ]
    started = [subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL) for command in commands]
    try:
        yield psutil.Process(started[1].pid), psutil.Process(started[2].pid)
    finally:
        for process in started:
            process.terminate()
            process.wait(30)
        broker.stop()


def _pss_bytes(process: psutil.Process) -> int:
    family = [process, *process.children(recursive=True)]
    return int(sum(member.memory_full_info().pss for member in family))


def _rss_bytes(process: psutil.Process) -> int:
    """Upper bound of PSS, for a host where no other Python shares its pages."""
    return int(process.memory_info().rss)


def _cpu_s(process: psutil.Process) -> float:
    """CPU time to the nanosecond: ticks of 10 ms are too coarse for a share of a thousandth."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return float(sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) * 1e-9)


if __name__ == "__main__":
    main()
