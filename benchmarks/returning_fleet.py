"""Boards that were away for days return together: how long does their backlog take, and does live data wait for it?

    python -m benchmarks.returning_fleet [--boards 20] [--hours 72]

Each outbox is filled with telemetry at 1 Hz in records of 120 s with 12 columns. Then all boards start at once, at the
pace of boards in the field, beside a real mosquitto and collector. While its backlog drains each board commits a live
record every second, in turn an event and telemetry, and takes the time from commit to receipt. Goal: the 99th
percentile under 5 s. Needs mosquitto.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from agent.connection import BrokerSettings
from agent.link import Link
from agent.outbox import Outbox
from agent.rows import State
from agent.spool import value
from phasewatt import series
from phasewatt.messages import Clock, Receipt
from phasewatt.records import Event
from phasewatt.traces import Telemetry
from tests.faults import seeded
from tests.faults.field import field
from tests.fixtures import wire
from tests.fixtures.records import changed

_RECORD_S = 120
_COLUMNS = 12
_POOL = 40  # different columns; drawing all of them anew would take longer than sending them
_AT_ONCE = 200
_CAP_BYTES = 512 * 2**20
_LIMIT_S = 1800.0
_GOAL_S = 5.0
_LIVE_EVERY_S = 1.0


class Told(msgspec.Struct, frozen=True):
    """What one board saw."""

    drained_s: float
    live_s: list[float]  # from commit to receipt, one a record


class TimedOutbox(Outbox):
    """An outbox that keeps the moment of each receipt."""

    def watch(self) -> None:
        """Begin: all rows of now are the backlog."""
        self._newest_old = self._newest()
        self.missing = self.pending()
        self.live_s: list[float] = []
        self._committed_s: dict[int, float] = {}

    def commit(self, record: Event | Telemetry) -> None:
        """Append a record, and take the time from here."""
        with self.transaction():  # so that no receipt comes in between
            (seq,) = self.append([record])
            self._committed_s[seq] = time.monotonic()

    def apply(self, receipt: Receipt) -> bool:
        """As the outbox does, and note which rows it was about."""
        now_s = time.monotonic()
        for seq in itertools.chain.from_iterable(range(first, last + 1) for first, last in receipt.ranges):
            if (began_s := self._committed_s.pop(seq, None)) is not None:
                self.live_s.append(now_s - began_s)
        applied = super().apply(receipt)
        with self.reading() as db:
            query = "SELECT count(*) FROM row WHERE state = ? AND kind = 'telemetry' AND seq <= ?"
            self.missing = value(db, query, State.PENDING, self._newest_old)
        return applied

    def _newest(self) -> int:
        with self.reading() as db:
            return int(value(db, "SELECT coalesce(max(seq), 0) FROM row"))


def main() -> None:
    """Print the figures, or be a board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--hours", type=float, default=72.0)
    parser.add_argument("--board", nargs=4, metavar=("STATE", "DEVICE", "PORT", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.board:
        state, device, port, out = args.board
        Path(out).write_bytes(msgspec.json.encode(_live(Path(state), device, int(port))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        _fleet(Path(scratch), args.boards, args.hours)


def _fleet(scratch: Path, boards: int, hours: float) -> None:
    names = [f"board-{number}" for number in range(boards)]
    began_s = time.monotonic()
    size_bytes = sum(_fill(scratch / name, name, hours) for name in names)
    samples = round(hours * 3600)
    print(f"{boards} boards, {hours:.0f} h: {samples} samples of {_COLUMNS} columns each, {size_bytes / 1e6:.0f} MB of")
    print(f"outboxes, filled in {time.monotonic() - began_s:.0f} s", flush=True)
    with field(scratch, "returning fleet") as fleet:
        collector = fleet.collector()
        began_s = time.monotonic()
        processes = [_started(scratch, name, fleet.broker.port) for name in names]
        for process in processes:
            assert process.wait(_LIMIT_S) == 0
        wall_s = time.monotonic() - began_s
        told = [msgspec.json.decode((scratch / f"{name}.out").read_bytes(), type=Told) for name in names]
        stored = len(collector.stored())
    live_s = sorted(itertools.chain.from_iterable(board.live_s for board in told))
    rows = boards * (samples // _RECORD_S) + len(live_s)
    drained_s = sorted(board.drained_s for board in told)
    print(f"drained    {wall_s:.0f} s (boards: {drained_s[0]:.0f} to {drained_s[-1]:.0f} s)")
    print(f"           {boards * samples * _COLUMNS / wall_s:,.0f} values/s, {rows / wall_s:,.0f} records/s")
    print(f"stored     {stored} of {rows} rows")
    print(f"live       {len(live_s)} records, median {statistics.median(live_s):.2f} s to receipt,")
    p99_s = live_s[min(len(live_s) - 1, round(0.99 * len(live_s)))]
    print(f"           99th percentile {p99_s:.2f} s (goal: under {_GOAL_S:.0f} s), longest {live_s[-1]:.2f} s")


def _fill(state: Path, device: str, hours: float) -> int:
    """Size of an outbox in bytes, filled with what a board samples in so many hours."""
    with closing(Outbox.open(state, _CAP_BYTES)) as outbox:
        backlog = _telemetry(device)
        left = round(hours * 3600) // _RECORD_S
        while left > 0:
            outbox.append(itertools.islice(backlog, min(left, _AT_ONCE)))
            left -= _AT_ONCE
        return outbox.path.stat().st_size


def _telemetry(device: str) -> Iterator[Telemetry]:
    times = series.pack_times([at * 1_000_000_000 for at in range(_RECORD_S)])
    pool = [seeded.board_columns(f"{device}/{number}") for number in range(_POOL)]
    for number in itertools.count():
        started_unix_s = 1.7e9 + number * _RECORD_S
        columns = pool[number % _POOL]
        yield Telemetry(device=device, boot_id="boot-1", started_unix_s=started_unix_s, time=times, values=columns)


def _started(scratch: Path, name: str, port: int) -> subprocess.Popen[bytes]:
    board = [str(scratch / name), name, str(port), str(scratch / f"{name}.out")]
    return subprocess.Popen([sys.executable, "-m", "benchmarks.returning_fleet", "--board", *board])


def _live(state: Path, device: str, port: int) -> Told:
    """One board, until its backlog and its live records have their receipts."""
    outbox = TimedOutbox.open(state, _CAP_BYTES)
    assert isinstance(outbox, TimedOutbox)
    outbox.watch()
    clock = Clock(synchronised=None, offset_bound_s=None)
    link = Link(BrokerSettings(host="127.0.0.1", port=port), outbox, wire.facts(device=device), lambda: clock)
    began_s = time.monotonic()
    link.start()
    for record in _live_records(device):
        outbox.commit(record)
        link.notify()
        time.sleep(_LIVE_EVERY_S)
        if not outbox.missing:
            break
    drained_s = time.monotonic() - began_s
    assert link.wait_drained(60.0)
    link.stop()
    return Told(drained_s, outbox.live_s)


def _live_records(device: str) -> Iterator[Event | Telemetry]:
    for number, telemetry in enumerate(_telemetry(device)):
        boot_id = f"live-{number}"  # makes it another record than the one in the backlog
        yield changed(telemetry, boot_id=boot_id)
        yield Event(device=device, boot_id=boot_id, time_unix_s=time.time(), name="live", message="")


if __name__ == "__main__":
    main()
