"""What sampling costs: CPU time of the sampler's process as a share of wall time, and the parent's share beside it.

    python -m benchmarks.sampler_cost [--meter NAME ...] [--seconds 30] [--rates 1 10 50]

Without --meter the meters of this host are read; where there is none, a recording is replayed, and the table says so.
Goal: at most 0.5 % of wall at 10 Hz.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import psutil

from agent import meters
from agent.cards import CardStore
from agent.sampler import Sampler
from agent.surveying import survey
from phasewatt import codec, series
from phasewatt.fields import Reading, Scope
from phasewatt.traces import Channel, Trace


def main() -> None:
    """Print a row a rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meter", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 10.0, 50.0])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        names = args.meter or _usable(Path(scratch))
        names = names or [f"replay:{_recording(Path(scratch))}"]
        print(f"meters {', '.join(name.split(':')[0] for name in names)}; {args.seconds:.0f} s a row, one run")
        print("rate   rows  sampler CPU / wall   parent CPU / wall   sampler PSS")
        for rate_hz in args.rates:
            print(_row(names, rate_hz, args.seconds))


def _row(names: list[str], rate_hz: float, seconds: float) -> str:
    sampler = Sampler(names, rate_hz)
    sampler.start()
    child = psutil.Process(sampler.pid)
    before, own = child.cpu_times(), resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    time.sleep(seconds)
    wall_s = time.monotonic() - started
    after, own_after = child.cpu_times(), resource.getrusage(resource.RUSAGE_SELF)
    pss_bytes = child.memory_full_info().pss
    recording = sampler.stop()
    child_s = after.user + after.system - before.user - before.system
    parent_s = own_after.ru_utime + own_after.ru_stime - own.ru_utime - own.ru_stime
    return (
        f"{rate_hz:4.0f} {len(recording.rows):6d} {child_s / wall_s:20.3%} {parent_s / wall_s:19.3%} "
        f"{pss_bytes / 2**20:9.1f} MiB   (clock tick {1 / os.sysconf('SC_CLK_TCK'):.3f} s)"
    )


def _usable(scratch: Path) -> list[str]:
    return [found.meter for found in survey(meters.AUTOMATIC, CardStore(scratch)) if found.reason is None]


def _recording(directory: Path) -> Path:
    """A minute of made-up watts: what is measured here is the sampler, not the sensor."""
    channel = Channel(name="replayed", source="replay", reading=Reading.INSTANT, unit="W", scope=Scope.MODULE)
    times_ns = [index * 100_000_000 for index in range(600)]
    trace = Trace(
        device="benchmark",
        boot_id="benchmark",
        meter="replay",
        part=0,
        parts=1,
        simulated=True,
        time=series.pack_times(times_ns),
        channels=(channel,),
        values=(series.pack("replayed", "W", 1e-6, [10 + index % 7 for index in range(600)]),),
    )
    path = directory / "recording.jsonl"
    path.write_bytes(codec.encode(trace) + b"\n")
    return path


if __name__ == "__main__":
    main()
