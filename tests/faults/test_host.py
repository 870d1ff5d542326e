"""What happens on the board itself: clocks that jump, sensors that hang, and the real daemon killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.connection import BrokerSettings
from agent.link import Link
from agent.outbox import Outbox
from agent.sampler import Sampler
from collector.store import open_store
from phasewatt import codec, series
from phasewatt.fields import Kind
from phasewatt.messages import Batch, Clock
from phasewatt.traces import Trace
from tests.faults.board import PACE
from tests.faults.field import Field, account, until
from tests.fixtures import wire
from tests.fixtures.receipts import wait_until
from tests.fixtures.sensors import recording

pytestmark = pytest.mark.broker

HOUR_S = 3600.0
CAP_BYTES = 16 * 1024 * 1024


def test_clock_steps_lose_and_double_nothing(fleet: Field) -> None:
    """Back an hour, to 1970, and far ahead, while rows flow: wall time is a label and decides nothing."""
    collector, board = fleet.collector(), fleet.board()
    steps = ((20, -HOUR_S), (40, -time.time()), (60, 20 * 365 * 24 * HOUR_S), (80, 0.0))
    board.start(appends=100, clock_steps=steps)
    time.sleep(1.0)
    board.expect_delivered()
    assert account(collector, board).faults() == []
    with contextlib.closing(open_store(collector.url)) as store:
        times_s = [batch.sent_unix_s for batch in store.batches()]
    assert min(times_s) < 1e6
    assert max(times_s) > time.time() + HOUR_S


def test_a_board_that_restarts_in_1970_is_believed(fleet: Field) -> None:
    """No battery for the clock: the status of a new session is not taken for a late word of an older one."""
    collector, board = fleet.collector(), fleet.board()
    board.start(appends=20)
    board.expect_delivered()
    board.start(clock_steps=((0, -time.time()),))
    time.sleep(1.0)
    assert _presence(collector.url) == "online"
    board.kill()
    until(lambda: _presence(collector.url) == "offline", 10, collector.printed)
    board.finish()
    assert account(collector, board).faults() == []


def _presence(url: str) -> str:
    with contextlib.closing(open_store(url)) as store:
        (row,) = store.devices()
    assert row.status is not None
    return row.status.presence.value


def test_samples_before_a_sensor_hung_are_delivered(fleet: Field, tmp_path: Path) -> None:
    """The child that reads is stopped for ever: what it had read reaches the store, and the fault is told."""
    collector = fleet.collector()
    sampler = Sampler([f"replay:{recording(tmp_path / 'r', [10.0])}"], 50.0, stop_s=0.5)
    sampler.start()
    assert wait_until(lambda: len(sampler.so_far().rows) > 20)
    os.kill(sampler.pid, signal.SIGSTOP)
    seen = sampler.stop()
    assert seen.fault is not None and "hung" in seen.fault
    with contextlib.closing(Outbox.open(tmp_path / "state", CAP_BYTES)) as outbox:
        outbox.append(seen.traces("board-1", "boot-1"))
        broker = BrokerSettings(host=fleet.broker.host, port=fleet.broker.port)
        link = Link(broker, outbox, wire.facts(), lambda: Clock(synchronised=None, offset_bound_s=None), pace=PACE)
        link.start()
        assert link.wait_drained(20)
        link.stop()
    (trace,) = _records(collector.url, Kind.TRACE)
    assert isinstance(trace, Trace)
    assert len(series.unpack_times(trace.time)) == len(seen.rows) > 20


def _records(url: str, kind: Kind) -> list[Any]:
    with contextlib.closing(open_store(url)) as store:
        return [
            codec.decode_record(kind, item.schema, bytes(item.body))
            for batch in store.batches()
            if batch.kind is kind
            for item in batch.items
        ]


def test_the_real_daemon_killed_while_it_measures_delivers_what_it_committed(fleet: Field, tmp_path: Path) -> None:
    """`phasewatt-agent serve` with telemetry and a suite; what its outbox exports is what the collector stored."""
    collector, state = fleet.collector(), tmp_path / "state"
    state.mkdir()
    (state / "agent.toml").write_text("telemetry_interval_s = 5\n")
    address = ("--device", "board-1", "--broker", f"127.0.0.1:{fleet.broker.port}")
    daemon = fleet.program("daemon", "agent.app", "serve", "--state-dir", str(state), *address)
    suite = fleet.program("suite", "agent.app", "run", "smoke", "--engine", "fake", "--state-dir", str(state))
    for life in (1, 2):
        daemon.start()
        until(lambda life=life: daemon.printed().count("agent ready") == life, 30, daemon.printed)
        suite.start()
        until(lambda life=life: len(_records(collector.url, Kind.TRIAL)) >= life, 30, suite.printed)
        daemon.kill()
        suite.died()
    daemon.start()
    exported = tmp_path / "all.jsonl"
    until(lambda: _holds_all(collector.url, _exported(state, exported)), 60, daemon.printed)
    assert {kind for kind, _ in _exported(state, exported)} >= {"trial"}
    assert daemon.end() == 0


def _exported(state: Path, file: Path) -> set[tuple[str, bytes]]:
    command = [sys.executable, "-m", "agent.app", "export", str(file), "--state-dir", str(state)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    lines = file.read_bytes().splitlines()[1:]
    batches = [codec.decode(line, Batch) for line in lines]
    return {(batch.kind.value, bytes(item.body)) for batch in batches for item in batch.items}


def _holds_all(url: str, kept: set[tuple[str, bytes]]) -> bool:
    with contextlib.closing(open_store(url)) as store:
        stored = [(batch.kind.value, bytes(item.body)) for batch in store.batches() for item in batch.items]
    assert len(stored) == len(set(stored))
    return kept <= set(stored)
