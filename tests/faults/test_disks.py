"""Disks that are full or slow, and a collector that is put back to an older backup."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.field import BoardProcess, Collector, Field, account, finish, until

pytestmark = pytest.mark.broker

DISK_BYTES = 8 * 1024 * 1024
_ROOM_BYTES = 600 * 1024


class SmallDisk:
    """A file system of its own, of a few MB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave little room."""
        self._filler.write_bytes(bytes(shutil.disk_usage(self.path).free - _ROOM_BYTES))

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_an_agent_whose_disk_is_full_loses_nothing_that_it_took(fleet: Field, small_disk: SmallDisk) -> None:
    """What it cannot take it refuses to its caller; what it took is delivered, and it goes on once there is room."""
    small_disk.fill()
    board = fleet.board(state=small_disk.path / "state")
    board.start()
    until(lambda: len(board.told().refused) > 5, 30, board.printed)
    small_disk.free()
    collector = fleet.collector()
    before = len(board.told().kept)
    until(lambda: len(board.told().kept) > before + 20, 30, board.printed)
    board.finish()
    assert account(collector, board).faults() == []


def test_an_agent_whose_disk_is_full_still_delivers(fleet: Field, small_disk: SmallDisk) -> None:
    """Without any help from outside: what it had taken reaches the store."""
    small_disk.fill()
    board = fleet.board(state=small_disk.path / "state")
    board.start()
    until(lambda: len(board.told().refused) > 5, 30, board.printed)
    collector = fleet.collector()
    until(lambda: len(collector.stored()) >= len(board.told().kept) > 0, 30, board.printed)
    board.kill()
    assert account(collector, board).faults() == []


def test_a_collector_whose_disk_is_full_stores_everything_later(fleet: Field, small_disk: SmallDisk) -> None:
    """No receipt is sent for what was not committed, so the boards keep it."""
    collector = fleet.collector(directory=small_disk.path)
    small_disk.fill()
    boards = fleet.boards(2)
    for board in boards:
        board.start(pause_s=0.005)
    until(lambda: "full" in collector.printed(), 30, collector.printed)
    time.sleep(1.0)
    assert collector.lives
    for board in boards:
        board.send(signal.SIGTERM)
    small_disk.free()
    for board in boards:
        board.expect_delivered()
    assert account(collector, *boards).faults() == []


@pytest.mark.parametrize("boards_are", ["sending", "idle", "off"])
def test_a_collector_restored_from_a_backup_gets_the_rest_again(fleet: Field, tmp_path: Path, boards_are: str) -> None:
    """Its high-water mark fell back; the boards still hold what they were receipted since."""
    draw = random.Random(fleet.seed)
    collector, boards = fleet.collector(), fleet.boards(2)
    for board in boards:
        board.start(
            appends=None if boards_are == "sending" else 250, idles=boards_are == "idle"
        )  # 5 s: after the backup
    until(lambda: collector.keys() > 0, 60, collector.printed)
    time.sleep(draw.uniform(0.1, 0.5))
    collector.end()
    backup = shutil.copy(collector.path, tmp_path / "backup")
    collector.start()
    for board in boards:
        if boards_are == "off":
            board.expect_delivered()
        elif boards_are == "idle":
            until(lambda board=board: _is_idle(board), 60, board.printed)
    _expect_more(collector, rows=1 if boards_are == "sending" else 0)
    collector.kill()
    newer = len(collector.stored())
    for suffix in ("-wal", "-shm"):
        collector.path.with_name(collector.path.name + suffix).unlink(missing_ok=True)
    shutil.copy(backup, collector.path)
    assert len(collector.stored()) < newer
    collector.start()
    if boards_are == "idle":
        until(lambda: not account(collector, *boards).missing, 30, collector.printed)
    for board in boards:
        if boards_are == "off":
            board.start(appends=10, pause_s=0.1)  # long enough to hear how far the store is
            board.expect_delivered()
    if boards_are != "off":
        finish(*boards)
    assert account(collector, *boards).faults() == []


def _expect_more(collector: Collector, rows: int) -> None:
    wanted = collector.keys() + rows
    until(lambda: collector.keys() >= wanted, 60, collector.printed)


def _is_idle(board: BoardProcess) -> bool:
    """Whether it has appended and delivered all that it should."""
    with contextlib.closing(board.outbox()) as outbox:
        return "appended" in board.printed() and not outbox.pending()


def test_a_slow_store_is_not_overrun(fleet: Field) -> None:
    """Every commit takes long: the boards wait, and nothing is stored twice."""
    collector = fleet.collector(program=("tests.faults.dying_collector", "slow", "0.15"))
    boards = fleet.boards(2)
    for board in boards:
        board.start(appends=30, pause_s=0.01)
    for board in boards:
        board.expect_delivered()
    assert account(collector, *boards).faults() == []


def test_what_is_given_up_at_the_cap_is_counted(fleet: Field) -> None:
    """No collector for long: the outbox stays within its cap, and what is missing later is what it counted."""
    board = fleet.board()
    board.start(cap_bytes=8 * 1024 * 1024, appends=6000, pause_s=0.0, drain_s=0.0)
    board.died()
    dropped = board.dropped()
    assert sum(dropped.values()) > 0
    assert dropped.keys() <= {"telemetry", "trace"}
    collector = fleet.collector()
    board.start(cap_bytes=8 * 1024 * 1024, appends=0)
    board.expect_delivered()
    found = account(collector, board)
    assert found.missing_by_kind == dropped
    assert found.faults(dropped) == []
