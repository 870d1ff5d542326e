"""Links that are slow, lossy, silent or gone, and a broker that throws away what it has acknowledged."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults.field import Field, account, finish, until
from tests.faults.proxy import CLEAR, FaultProxy, Faults, proxied

pytestmark = pytest.mark.broker

_SLOW_S = 200.0  # what was dropped several times waits longer each time
DROPPED = "Outgoing messages are being dropped for client phasewatt-centre"


@pytest.fixture
def link(fleet: Field) -> Iterator[FaultProxy]:
    """The network between boards and broker."""
    with proxied(fleet.broker.port, fleet.seed) as proxy:
        yield proxy


def reconnects(fleet: Field, name: str) -> int:
    """How often a client came to the broker."""
    return fleet.broker_log().count(f" as {name} (")


@pytest.mark.parametrize("fleet", [("max_queued_messages 20",)], indirect=True)
def test_a_partition_outlasts_the_queue_of_the_broker(fleet: Field) -> None:
    """The collector's side of the network is silent until the broker gives messages up."""
    with proxied(fleet.broker.port, fleet.seed) as network:
        collector = fleet.collector(port=network.port)
        boards = fleet.boards(3)
        for board in boards:
            board.start()
        time.sleep(random.Random(fleet.seed).uniform(0.3, 1.0))
        network.swallow()
        until(lambda: DROPPED in fleet.broker_log(), 20, fleet.broker_log)
        network.heal()
        network.cut()
        finish(*boards)
        assert account(collector, *boards).faults() == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fleet", [("max_queued_messages 10",)], indirect=True)
def test_a_queue_of_ten_drops_in_silence(fleet: Field) -> None:
    """What the broker acknowledged and dropped is sent again, for want of a receipt."""
    collector, boards = fleet.collector(), fleet.boards(3)
    for board in boards:
        board.start(pause_s=0.005, drain_s=_SLOW_S)
    for _ in range(2):
        time.sleep(random.Random(fleet.seed).uniform(0.2, 0.6))
        collector.send(signal.SIGSTOP)
        time.sleep(2.0)
        until(lambda: DROPPED in fleet.broker_log(), 20, fleet.broker_log)
        collector.send(signal.SIGCONT)
    finish(*boards, timeout_s=_SLOW_S)
    assert account(collector, *boards).faults() == []


def test_a_half_open_connection_is_found_out(fleet: Field, link: FaultProxy) -> None:
    """Nobody says that it is dead: the board notices by its keepalive, and comes back."""
    collector, board = fleet.collector(), fleet.board(port=link.port)
    board.start(keepalive_s=2)
    until(lambda: len(collector.stored()) > 0, 10, board.printed)
    before = reconnects(fleet, "board-1")
    link.swallow()
    time.sleep(0.5)
    link.heal()
    until(lambda: reconnects(fleet, "board-1") > before, 20, fleet.broker_log)
    board.finish()
    assert account(collector, board).faults() == []


def test_a_half_closed_connection_ends_and_is_made_again(fleet: Field, link: FaultProxy) -> None:
    collector, board = fleet.collector(), fleet.board(port=link.port)
    board.start()
    until(lambda: len(collector.stored()) > 0, 10, board.printed)
    before = reconnects(fleet, "board-1")
    link.half_close()
    until(lambda: reconnects(fleet, "board-1") > before, 20, fleet.broker_log)
    board.finish()
    assert account(collector, board).faults() == []


def test_a_slow_lossy_network_costs_time_and_no_row(fleet: Field, link: FaultProxy) -> None:
    """Latency, jitter, a narrow pipe, lost segments and resets, for boards and collector alike."""
    bad = Faults(delay_s=0.02, jitter_s=0.05, bytes_per_s=150e3, loss=0.1, resend_s=0.2, reset=0.003)
    with proxied(fleet.broker.port, f"{fleet.seed}/centre") as network:
        collector = fleet.collector(port=network.port)
        boards = fleet.boards(2, port=link.port)
        link.faults, network.faults = bad, bad
        for board in boards:
            board.start(pause_s=0.05)
        time.sleep(8.0)
        assert link.passed > 50
        link.faults, network.faults = CLEAR, CLEAR  # no link is bad for ever
        finish(*boards)
        assert account(collector, *boards).faults() == []


def test_a_partition_of_every_board_ends_with_everything_delivered(fleet: Field, link: FaultProxy) -> None:
    """All that was committed meanwhile waits in the outboxes."""
    collector, boards = fleet.collector(), fleet.boards(2, port=link.port)
    for board in boards:
        board.start(keepalive_s=2)
    time.sleep(0.7)
    link.swallow()
    time.sleep(3.0)
    waiting = [board.outbox() for board in boards]
    for outbox in waiting:
        with contextlib.closing(outbox):
            assert outbox.pending() > 20
    link.heal()
    link.cut()
    finish(*boards)
    assert account(collector, *boards).faults() == []
