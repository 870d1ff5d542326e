"""Whether anything grows that should not: over a thousand reconnects, and over a month in minutes.

    python -m benchmarks.soak reconnects [--count 1000] [--seed N]
    python -m benchmarks.soak month [--batches 21600] [--keep-s 10] [--seed N]

`reconnects`: the real link and the collector's subscriber, over TLS, at a pace that no field has; nine times of ten
their connections are cut, the tenth time their broker is killed. `month`: 30 days of telemetry, batches of 120 samples
of twelve columns committed as fast as they are delivered, beside the real sampler at 100 Hz; the outbox has a cap of
32 MiB, and the collector's retention runs every second. Exit code 1 where something grew beyond its bound. Needs
mosquitto.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.faults import hasty
from tests.faults.footprint import Footprint
from tests.faults.hasty import Month, Sample
from tests.faults.hasty_board import CAP_BYTES

_SEEDS = 2**32
_SAMPLES = 10
_BATCHES_A_DAY = 720
_DAYS_APART = 3
# Free lists, page caches and what the C library keeps fill up in the first tenth, and a little after it.
_RECONNECTS_BOUND_BYTES = 2 * 2**20
_MONTH_BOUND_BYTES = 8 * 2**20
_RECORDS_BOUND = 2  # times: what comes in within the kept time goes by how fast the host is just then
_HEAD = f"{'PSS MiB':>9}{'RSS MiB':>9}{'threads':>9}{'files':>7}"


def main() -> int:
    """Print a table; 1 if a bound was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(_SEEDS))
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("reconnects").add_argument("--count", type=int, default=1000)
    month = parts.add_parser("month")
    month.add_argument("--batches", type=int, default=30 * _BATCHES_A_DAY)
    month.add_argument("--keep-s", type=float, default=10.0)
    args = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        if args.part == "reconnects":
            faults = _reconnects(Path(scratch), str(args.seed), args.count)
        else:
            faults = _month(Path(scratch), str(args.seed), args.batches, args.keep_s)
    print("\n".join([*faults, f"repeat with --seed {args.seed}"] if faults else ["nothing grew beyond its bound"]))
    print(f"took {time.monotonic() - began_s:.0f} s")
    return 1 if faults else 0


def _reconnects(scratch: Path, seed: str, count: int) -> list[str]:
    print(f"{count} reconnects of each over TLS; bound of growth {_RECONNECTS_BOUND_BYTES / 2**20:.0f} MiB")
    print(f"{'':12}{'board':>34}{'collector':>34}\n{'reconnects':12}{_HEAD}{_HEAD}")
    samples = []
    for sample in hasty.reconnects(scratch, seed, count, max(1, count // _SAMPLES)):
        print(f"{sample.after:<12}{_cells(sample.board)}{_cells(sample.collector)}", flush=True)
        samples.append(sample)
    return _grown(samples[0], samples[-1], _RECONNECTS_BOUND_BYTES)


def _month(scratch: Path, seed: str, batches: int, keep_s: float) -> list[str]:
    print(f"{batches} batches ({batches / _BATCHES_A_DAY:.0f} days), of which the collector keeps {keep_s:g} s")
    sizes = f"{'outbox MiB':>12}{'log MiB':>9}"
    store = f"{'store MiB':>11}{'log MiB':>9}{'records':>9}{'keys':>9}"
    print(f"{'':8}{'board':>55}{'collector':>72}\n{'day':8}{_HEAD}{sizes}{_HEAD}{store}")
    every = _DAYS_APART * _BATCHES_A_DAY
    months = []
    for month in hasty.month(scratch, seed, batches, every, keep_s):
        print(_line(month), flush=True)
        months.append(month)
    return [*_month_faults(months)]


def _line(month: Month) -> str:
    sample = month.sample
    own = f"{month.outbox_bytes / 2**20:12.1f}{month.outbox_log_bytes / 2**20:9.2f}"
    stored = f"{month.store_bytes / 2**20:11.1f}{month.store_log_bytes / 2**20:9.2f}{month.records:9d}{month.keys:9d}"
    day = sample.after / _BATCHES_A_DAY
    return f"{day:<8.1f}{_cells(sample.board)}{own}{_cells(sample.collector)}{stored}"


def _month_faults(months: Sequence[Month]) -> Iterator[str]:
    """What grew between a third of the time, when cap and retention are at work, and the end."""
    early, late = months[len(months) // 3], months[-1]
    yield from _grown(early.sample, late.sample, _MONTH_BOUND_BYTES)
    if late.outbox_bytes > CAP_BYTES:
        yield f"the outbox takes {late.outbox_bytes} bytes, its cap is {CAP_BYTES}"
    if late.records > _RECORDS_BOUND * early.records:
        yield f"the collector keeps {late.records} records, {early.records} a third of the way"


def _grown(before: Sample, after: Sample, bound_bytes: int) -> list[str]:
    pairs = (("board", before.board, after.board), ("collector", before.collector, after.collector))
    return [fault for name, early, late in pairs for fault in _faults(name, early, late, bound_bytes)]


def _faults(name: str, early: Footprint, late: Footprint, bound_bytes: int) -> Iterable[str]:
    for field in ("threads", "descriptors", "processes"):
        if getattr(late, field) > getattr(early, field):
            yield f"{name}: {field} grew from {getattr(early, field)} to {getattr(late, field)}"
    for field in ("pss_bytes", "rss_bytes"):
        if (grown := getattr(late, field) - getattr(early, field)) > bound_bytes:
            yield f"{name}: {field} grew by {grown / 2**20:.1f} MiB"


def _cells(one: Footprint) -> str:
    return f"{one.pss_bytes / 2**20:9.2f}{one.rss_bytes / 2**20:9.2f}{one.threads:9d}{one.descriptors:7d}"


if __name__ == "__main__":
    sys.exit(main())
