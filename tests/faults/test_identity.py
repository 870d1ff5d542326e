"""Who is who: two collectors, a stolen client id, and a disk that was copied."""

from __future__ import annotations

import contextlib
import random
import shutil
import time

import pytest

from agent import rows
from tests.faults.field import BoardProcess, Field, account, finish, until
from tests.faults.journal import digest
from tests.faults.wiretap import tapped

pytestmark = pytest.mark.broker


def test_of_two_collectors_one_may_die(fleet: Field) -> None:
    """Each has a store of its own and takes everything: the one that lives is complete, the other catches up."""
    draw = random.Random(fleet.seed)
    first, second = fleet.collector("first"), fleet.collector("second")
    boards = fleet.boards(2)
    for board in boards:
        board.start()
    time.sleep(draw.uniform(0.5, 1.5))
    first.kill()
    time.sleep(draw.uniform(0.5, 1.5))
    finish(*boards)
    assert account(second, *boards).faults() == []
    first.start()
    for board in boards:
        board.start(appends=5, pause_s=0.1)  # long enough to hear how far each store is
        board.expect_delivered()
    until(lambda: not account(first, *boards).missing, 10)
    assert account(first, *boards).faults() == []
    assert account(second, *boards).faults() == []


@pytest.mark.parametrize("client_id", ["board-1", "phasewatt-centre"])
def test_a_stolen_client_id_costs_time_and_no_row(fleet: Field, client_id: str) -> None:
    """A broker that binds no client id to a user lets anybody throw others out; that ends when the thief goes."""
    collector, board = fleet.collector(), fleet.board()
    board.start()
    until(lambda: len(collector.stored()) > 0, 10, collector.printed)
    with tapped(fleet.broker.port, client_id, listens=False) as thief:
        until(lambda: thief.connects > 2, 20, fleet.broker_log)
    board.finish()
    assert account(collector, board).faults() == []


def test_a_cloned_disk_loses_nothing_in_silence(fleet: Field) -> None:
    """Two boards with one identity: a row of either is stored whole, or refused with a reason that its board keeps."""
    collector, board = fleet.collector(), fleet.board()
    board.start(appends=20)
    board.expect_delivered()
    clone = fleet.board("clone", device="board-1")
    shutil.copytree(board.state, clone.state)
    shutil.copy(board.orders.journal, clone.orders.journal)
    for one in (board, clone):
        one.start(pause_s=0.05)
    time.sleep(6.0)
    clone.tell_to_finish(30.0)
    clone.died(40)  # whatever is left then, its outbox knows
    board.tell_to_finish(30.0)
    board.died(40)
    stored = {row.digest for _, row in collector.stored()}
    for one in (board, clone):
        known = stored | _not_delivered(one)
        silent = [key for key, row in one.told().kept.items() if row.digest not in known]
        assert not silent, f"{one.log.stem}: {len(silent)} of {len(one.told().kept)} rows are lost without a word"


def _not_delivered(board: BoardProcess) -> set[str]:
    """Digests of what the board still has to deliver, or was told will not be stored."""
    with contextlib.closing(board.outbox()) as outbox, outbox.reading() as db:
        seqs = [seq for (seq,) in db.execute("SELECT seq FROM row WHERE state != 1")]
        return {digest(bytes(item.body)) for item in rows.load(db, seqs).items}
