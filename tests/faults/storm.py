"""Kills at random, over a fleet that keeps working: which process and when come from a seed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.account import Account
from tests.faults.field import BoardProcess, Collector, Field, account, finish

# Boards are killed most: they have most states to be killed in, and a broker's death costs everybody a second.
_SHARES = (("board", 6), ("broker", 2), ("collector", 2))
_BETWEEN_S = (0.1, 1.4)
_DOWN_S = (0.0, 0.0, 0.0, 0.3, 1.0)
_DRAIN_S = 300.0


class Report(NamedTuple):
    """What a storm did, and what was left after it."""

    kills: Counter[str]
    account: Account
    dropped: Counter[str]
    storm_s: float
    drain_s: float


def run(fleet: Field, boards: int, kills: int, told: Callable[[int], None] = lambda kill: None) -> Report:
    """The report of `kills` kills over the broker, a collector and `boards` boards."""
    draw = random.Random(f"{fleet.seed}/storm")
    collector = fleet.collector()
    living = fleet.boards(boards)
    for board in living:
        board.start()
    began_s = time.monotonic()
    done: Counter[str] = Counter()
    for number in range(kills):
        time.sleep(draw.uniform(*_BETWEEN_S))
        done[_strike(fleet, collector, draw.choice(living), draw)] += 1
        told(number + 1)
    for board in living:
        board.kill()  # not counted: the last life of each must have no fuse
    stormed_s = time.monotonic()
    finish(*living, timeout_s=_DRAIN_S)
    drained_s = time.monotonic()
    dropped = sum((Counter(board.dropped()) for board in living), Counter[str]())
    return Report(done, account(collector, *living), dropped, stormed_s - began_s, drained_s - stormed_s)


def _strike(fleet: Field, collector: Collector, board: BoardProcess, draw: random.Random) -> str:
    (target,) = draw.choices([name for name, _ in _SHARES], [share for _, share in _SHARES])
    down_s = draw.choice(_DOWN_S)
    if target == "broker":
        fleet.broker.kill()
        time.sleep(down_s)
        fleet.broker.start()
    elif target == "collector":
        collector.kill()
        time.sleep(down_s)
        collector.start(wait=False)
    else:
        board.kill()
        time.sleep(down_s)
        board.start(dies_in_commit=draw.choice((None, None, draw.randrange(1, 60))))
    return target
