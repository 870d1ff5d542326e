"""Processes that are killed: whatever an agent committed is stored once, and nothing else is."""

from __future__ import annotations

import random
import signal
import time

import pytest

from phasewatt.fields import Kind
from tests.faults import storm
from tests.faults.account import kinds_of
from tests.faults.field import Field, account, finish

pytestmark = pytest.mark.broker


def test_nothing_is_lost_where_nothing_is_killed(fleet: Field) -> None:
    """The driver itself: all kinds of record flow, and the checker sees every row."""
    collector, board = fleet.collector(), fleet.board()
    board.start(appends=60)
    board.expect_delivered()
    found = account(collector, board)
    assert found.faults() == []
    assert found.right == len(board.told().kept) > 60
    assert kinds_of(board.told()) == set(Kind)


def test_a_killed_broker_forgets_its_queues(fleet: Field) -> None:
    """Persistence is off: what it had acknowledged and not passed on is gone, and comes again."""
    draw = random.Random(fleet.seed)
    collector, boards = fleet.collector(), fleet.boards(2)
    for board in boards:
        board.start()
    for _ in range(4):
        time.sleep(draw.uniform(0.1, 1.5))
        fleet.broker.kill()
        fleet.broker.start()
    finish(*boards)
    assert account(collector, *boards).faults() == []


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_collector_dies_beside_its_commit(fleet: Field, where: str) -> None:
    """Between receive and commit, and between commit and receipt."""
    count = random.Random(fleet.seed).randrange(1, 8)
    board = fleet.board()
    dying = fleet.collector(program=("tests.faults.dying_collector", where, str(count)))
    board.start(appends=200, pause_s=0.01)
    assert dying.died() == -signal.SIGKILL
    committed = len(dying.stored())
    assert committed > 0 or (where, count) == ("before", 1)
    healthy = fleet.collector()  # on the same database
    board.expect_delivered()
    assert account(healthy, board).faults() == []


def test_an_agent_killed_at_any_moment_keeps_what_it_committed(fleet: Field) -> None:
    draw = random.Random(fleet.seed)
    collector, board = fleet.collector(), fleet.board()
    for _ in range(8):
        board.start(pause_s=0.0)
        time.sleep(draw.uniform(0.1, 0.8))
        board.kill()
    board.finish()
    assert account(collector, board).faults() == []


def test_an_agent_killed_within_a_commit_has_all_of_it_or_nothing(fleet: Field) -> None:
    draw = random.Random(fleet.seed)
    collector, board = fleet.collector(), fleet.board()
    for _ in range(12):
        board.start(dies_in_commit=draw.randrange(1, 30), pause_s=0.0)
        assert board.died() == -signal.SIGALRM
    board.finish()
    assert board.told().kept
    assert account(collector, board).faults() == []


@pytest.mark.timeout(3600)
def test_a_storm_of_kills_loses_and_doubles_nothing(fleet: Field, request: pytest.FixtureRequest) -> None:
    """Over broker, collector and boards."""
    kills = request.config.getoption("--fault-kills")
    report = storm.run(fleet, boards=3, kills=kills)
    assert report.account.faults() == []
    assert report.kills.total() == kills
    assert report.account.right > kills
