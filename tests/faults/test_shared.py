"""Two collectors on one store share what boards send: one dies or stands still, and nothing is lost or stored twice."""

from __future__ import annotations

import contextlib
import random
import signal
import time

import pytest
import sqlalchemy
from sqlalchemy.exc import DBAPIError

from collector.store import open_store
from tests.faults.field import BoardProcess, Collector, Field, account, finish, until

pytestmark = pytest.mark.broker

_SLOW_S = 120.0  # of boards whose messages are swallowed, on a machine with other work


def test_of_collectors_that_share_one_may_be_killed(fleet: Field, store_url: str) -> None:
    """Beside a commit of its own; the other goes on, and the killed one comes back and is killed at any moment."""
    draw = random.Random(fleet.seed)
    where, count = draw.choice(("before", "after")), draw.randrange(2, 6)
    lives = fleet.member("lives", store_url)
    dies = fleet.member("dies", store_url, ("tests.faults.dying_collector", where, str(count)))
    lives.start()
    dies.start()
    boards = fleet.boards(2)
    for board in boards:
        board.start(drain_s=_SLOW_S)
    assert dies.died(_SLOW_S) == -signal.SIGKILL
    stored = lives.keys()
    until(lambda: lives.keys() > stored + 20, _SLOW_S, lives.printed)
    again = fleet.member("again", store_url)
    again.start()
    time.sleep(draw.uniform(0.1, 1.0))
    again.kill()
    finish(*boards, timeout_s=_SLOW_S)
    _expect_whole(lives, boards)


def test_a_collector_that_stands_still_swallows_its_share_for_a_while(fleet: Field, store_url: str) -> None:
    """Its connection stands and the broker gives it every other message: boards send those again, until all is stored.

    What it holds when it goes on is acknowledged and not stored again.
    """
    lives, stands = fleet.member("lives", store_url), fleet.member("stands", store_url)
    for collector in (lives, stands):
        collector.start()
    boards = fleet.boards(2)
    for board in boards:
        board.start(drain_s=_SLOW_S)  # what was swallowed several times waits longer each time
    until(lambda: lives.keys() > 10, _SLOW_S, lives.printed)
    _freeze_between_transactions(stands)
    stored = lives.keys()
    until(lambda: lives.keys() > stored + 40, _SLOW_S, lives.printed)
    finish(*boards, timeout_s=_SLOW_S)
    _expect_whole(lives, boards)
    stands.thaw()
    for board in boards:
        board.start(appends=20, drain_s=_SLOW_S)
    finish(*boards, timeout_s=_SLOW_S)
    _expect_whole(lives, boards)


def test_a_member_with_another_store_does_not_join(fleet: Field, tmp_path: object) -> None:
    """Boards would send everything to both, again and again."""
    right = fleet.member("right", f"sqlite:///{fleet.root / 'shared.db'}")
    right.start()
    wrong = fleet.member("wrong", f"sqlite:///{fleet.root / 'other.db'}")
    wrong.start(wait=False)
    assert wrong.died(_SLOW_S) == 2
    assert "collector right of group centres has another store" in wrong.printed()
    assert right.lives
    board = fleet.board()
    board.start(appends=20)
    finish(board, timeout_s=_SLOW_S)
    assert account(right, board).faults() == []
    assert wrong.stored() == []


def _expect_whole(collector: Collector, boards: list[BoardProcess]) -> None:
    assert account(collector, *boards).faults() == []
    with contextlib.closing(open_store(collector.url)) as store:
        assert store.check().faults == ()
        assert [row.quarantined for row in store.devices()] == [0] * len(boards)
        assert [row.missing for device in store.devices() for row in device.epochs] == [0] * len(boards)


def _freeze_between_transactions(collector: Collector) -> None:
    """Within one, a file would stay locked: no other process may take a lock from one that holds it."""
    for _ in range(200):
        collector.freeze()
        if _may_write(collector.url):
            return
        collector.thaw()
        time.sleep(0.05)
    raise AssertionError("it is always within a transaction")


def _may_write(url: str) -> bool:
    with contextlib.closing(_Writing(url)) as writing:
        return writing.is_possible()


class _Writing:
    """A writer that waits for others a second at most."""

    def __init__(self, url: str) -> None:
        self._sqlite = url.startswith("sqlite")
        self._engine = sqlalchemy.create_engine(url, connect_args={"timeout": 1.0} if self._sqlite else {})

    def is_possible(self) -> bool:
        """Whether nobody holds what a member needs."""
        waiting = "BEGIN IMMEDIATE" if self._sqlite else "SET LOCAL lock_timeout = '1s'"
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql(waiting)
                connection.exec_driver_sql("UPDATE device SET device = device")
                connection.rollback()
        except DBAPIError:
            return False
        return True

    def close(self) -> None:
        """All connections."""
        self._engine.dispose()
