"""A board and a collector at a pace that no field has, so that a month passes in minutes: what they take meanwhile."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent import spool
from tests.faults.field import Field, Program, field, until
from tests.faults.footprint import Footprint, footprint
from tests.faults.hasty_board import Orders
from tests.faults.hasty_collector import NAME
from tests.faults.proxy import FaultProxy, proxied
from tests.fixtures import certificates

_DEVICE = "board-1"
_BROKER_DIES_EVERY = 10
_BACK_S = 20.0
_REST_S = 0.3  # before a sample: both stand, and have said what there is to say
_LATER_S = (0.0, 0.03)
_STRETCH_S = 300.0
_COUNTED = ("telemetry", "ledger")


class Sample(NamedTuple):
    """What both take after so many reconnects, or so many batches."""

    after: int
    board: Footprint
    collector: Footprint


class Pair(NamedTuple):
    """A board and a collector that run, and know their broker by TLS, over a network that can be cut."""

    fleet: Field
    network: FaultProxy
    board: Program
    collector: Program
    state: Path
    database: Path

    def sample(self, count: int) -> Sample:
        """What they take now."""
        return Sample(count, footprint(self.board.process.pid), footprint(self.collector.process.pid))


@contextmanager
def pair(root: Path, seed: str, *, batches: int = 0, keep_s: float = 3600.0) -> Iterator[Pair]:
    """Both for the length of a block; the board has so many batches of telemetry, kept `keep_s` by the collector."""
    made = certificates.make(root)
    state, database = root / "state", root / "collector.db"
    lines = (f"certfile {made.cert_path}", f"keyfile {made.key_path}")
    with field(root, seed, *lines) as fleet, proxied(fleet.broker.port, seed) as network:
        orders = Orders(state=str(state), port=network.port, ca_path=str(made.ca_path), device=_DEVICE, batches=batches)
        serve = (f"sqlite:///{database}", str(network.port), str(made.ca_path), str(keep_s))
        collector = fleet.program("collector", "tests.faults.hasty_collector", *serve)
        board = fleet.program("board", "tests.faults.hasty_board", msgspec.json.encode(orders).decode())
        collector.start()
        until(lambda: "collector ready" in collector.printed(), _BACK_S, collector.printed)
        board.start()
        yield Pair(fleet, network, board, collector, state, database)
        fleet.close()  # before the network does


def reconnects(root: Path, seed: str, count: int, every: int) -> Iterator[Sample]:
    """A sample after each `every` of `count` reconnects of both: their connections are cut, or their broker killed."""
    draw = random.Random(f"{seed}/reconnects")
    with pair(root, seed) as both:
        arrivals = _Arrivals(both.fleet)
        arrivals.wait()
        for number in range(1, count + 1):
            time.sleep(draw.uniform(*_LATER_S))
            if number % _BROKER_DIES_EVERY:
                both.network.cut()
            else:
                both.fleet.broker.kill()
                both.network.cut()  # what led to the dead broker is dead
                both.fleet.broker.start()
            arrivals.wait()
            if number % every == 0:
                time.sleep(_REST_S)
                yield both.sample(number)


class _Arrivals:
    """Who came to the broker, by its log."""

    def __init__(self, fleet: Field) -> None:
        self._fleet = fleet
        self._before = (0, 0)

    def wait(self) -> None:
        """Wait until both came again."""
        until(self._both, _BACK_S, lambda: self._fleet.broker_log()[-2000:])
        self._before = self._counts()

    def _both(self) -> bool:
        return all(now > before for now, before in zip(self._counts(), self._before, strict=True))

    def _counts(self) -> tuple[int, int]:
        log = self._fleet.broker_log()
        return log.count(f" as {_DEVICE} ("), log.count(f" as phasewatt-{NAME} (")


class Month(NamedTuple):
    """What both take, on disk as well, after so many batches."""

    sample: Sample
    outbox_bytes: int
    outbox_log_bytes: int
    store_bytes: int
    store_log_bytes: int
    records: int  # of telemetry whose bodies are kept
    keys: int


def month(root: Path, seed: str, batches: int, every: int, keep_s: float) -> Iterator[Month]:
    """A sample after each `every` of so many batches of telemetry, the last when all are delivered."""
    with pair(root, seed, batches=batches, keep_s=keep_s) as both:
        for count in [*range(every, batches, every), batches]:
            _wait_for(both.board, f"\n{count} appended\n")
            if count == batches:
                _wait_for(both.board, "\ndelivered\n")
            yield _measured(both, count)


def _wait_for(board: Program, line: str) -> None:
    until(lambda: line in board.printed() or not board.lives, _STRETCH_S, board.printed)
    assert line in board.printed(), board.printed()


def _measured(both: Pair, count: int) -> Month:
    with closing(sqlite3.connect(f"{both.database.as_uri()}?mode=ro", uri=True)) as store:
        records, keys = (store.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _COUNTED)
    return Month(
        sample=both.sample(count),
        outbox_bytes=_size(both.state / spool.NAME),
        outbox_log_bytes=_size(both.state / f"{spool.NAME}-wal"),
        store_bytes=_size(both.database),
        store_log_bytes=_size(Path(f"{both.database}-wal")),
        records=records,
        keys=keys,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
