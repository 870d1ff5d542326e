"""The kill storm: does anything get lost or doubled while broker, collector and boards are killed over and over?

    python -m benchmarks.kill_storm [--kills 1000] [--boards 4] [--seed N]

Real processes, mosquitto with persistence off, records flowing all the time. At the end everything is drained, and
what the boards committed, by their own journals, is held against the collector's store row by row. Goal: 0 missing, 0
stored twice. `make test-faults` runs this. Needs mosquitto.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import storm
from tests.faults.field import field

_SEEDS = 2**32
_TOLD_EVERY = 50


def main() -> int:
    """Print the figures; 1 if anything is missing, doubled or of unknown origin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--boards", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(_SEEDS))
    args = parser.parse_args()
    print(f"{args.kills} kills over a broker, a collector and {args.boards} boards; seed {args.seed}", flush=True)
    began_s = time.monotonic()

    def told(kill: int) -> None:
        if kill % _TOLD_EVERY == 0:
            print(f"{kill:6d} kills after {time.monotonic() - began_s:.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as scratch, field(Path(scratch), str(args.seed)) as fleet:
        report = storm.run(fleet, args.boards, args.kills, told)
    found = report.account
    by_target = ", ".join(f"{target} {count}" for target, count in sorted(report.kills.items()))
    print(
        f"kills      {report.kills.total()} ({by_target}) in {report.storm_s:.0f} s; drained in {report.drain_s:.1f} s"
    )
    print(f"rows       {found.right} committed and stored, once and whole")
    print(f"faults     {len(found.missing)} missing, {len(found.twice)} stored twice, {len(found.altered)} altered,")
    print(f"           {len(found.foreign)} that nobody committed; {report.dropped.total()} given up at the cap")
    faults = found.faults(report.dropped)
    print(
        "\n".join(
            [*faults, f"repeat with --seed {args.seed}"] if faults else ["nothing was lost, nothing stored twice"]
        )
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
