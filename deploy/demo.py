"""The main job from end to end on this machine: measure, ship over MQTT, store, compare, report.

Starts a collector with its embedded broker on loopback and a database of its own, runs the suite `smoke` with an agent
that delivers to it, and ends with the comparison and report.html. Nothing is simulated; a machine without a power
sensor shows no energy and says why. Results are kept in demo-out/, so a second run adds to the evidence.
"""

from __future__ import annotations

import argparse
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_READY_S = 60.0
_READY = re.compile(r"collector ready: broker (?P<address>\S+:\d+)")


def main() -> int:
    """Run the steps; the first that fails ends it with its own exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="directory (default: %(default)s)")
    parser.add_argument("--suite", default="smoke", help="suite to run (default: %(default)s)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    database = ["--db", f"sqlite:///{args.out / 'collector.db'}"]
    report = args.out / "report.html"
    began = time.monotonic()
    with _collector(database) as broker:
        print(f"1. collector with an embedded broker on {broker}, database {args.out / 'collector.db'}", flush=True)
        print(f"2. agent: suite {args.suite} on this machine, delivered over MQTT", flush=True)
        code = _run("agent.app", "run", args.suite, "--state-dir", str(args.out / "agent"), "--broker", broker)
    if code == 0:
        print("3. comparison of what the collector stored", flush=True)
        code = _run("collector.app", "compare", *database, "--suite", args.suite)
    if code == 0:
        code = _run("collector.app", "report", *database, "--suite", args.suite, "--out", str(report))
    if code == 0:
        print(f"4. report: {report} (open it in a browser); {time.monotonic() - began:.0f} s in all")
    return code


def _run(module: str, *arguments: str) -> int:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:  # the child got it too, and keeps what it has measured
        process.wait()
        return 130


@contextmanager
def _collector(database: list[str]) -> Iterator[str]:
    """A running collector's broker address; the collector ends with the block."""
    command = [sys.executable, "-m", "collector.app", "serve", *database, "--broker", "embedded:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield _address(process)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _READY_S)
    line = process.stdout.readline() if ready else ""
    match = _READY.match(line)
    if match is None:
        sys.exit(f"demo: the collector did not start: {line.strip() or 'no word from it'}")
    return match["address"]


if __name__ == "__main__":
    sys.exit(main())
