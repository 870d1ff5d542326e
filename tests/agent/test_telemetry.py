"""Telemetry: sampled about once a second, committed in batches, the last stretch at the end."""

from __future__ import annotations

import time
from pathlib import Path

from agent.host import Host
from agent.outbox import Outbox
from agent.telemetry import Telemeter
from phasewatt import codec, series
from phasewatt.messages import Clock
from phasewatt.records import Kind, Telemetry


def _records(outbox: Outbox) -> list[Telemetry]:
    found = []
    for batch in outbox.batches("board", "boot", Clock(synchronised=None, offset_bound_s=None)):
        assert batch.kind is Kind.TELEMETRY
        for item in batch.items:
            record = codec.decode_record(batch.kind, item.schema, bytes(item.body))
            assert isinstance(record, Telemetry)
            found.append(record)
    return found


def test_batches_are_committed_and_the_last_one_at_the_end(tmp_path: Path) -> None:
    """Nothing sampled is lost at an orderly end; every column is as long as the times."""
    outbox = Outbox.open(tmp_path, 64 * 2**20)
    committed: list[float] = []
    telemeter = Telemeter(Host("board"), outbox, lambda: committed.append(time.monotonic()), 0.5, period_s=0.1)
    telemeter.start()
    deadline = time.monotonic() + 20
    while not committed:
        assert time.monotonic() < deadline, "no batch was committed"
        time.sleep(0.01)
    before_the_end = len(committed)
    telemeter.stop()
    records = _records(outbox)
    assert len(records) == len(committed) == before_the_end + 1
    assert len(records[0].time.steps) >= 2
    for record in records:
        assert len(record.time.steps) >= 1
        assert {len(column.steps) for column in record.values} == {len(record.time.steps)}
    outbox.close()


def test_columns_carry_units_and_plausible_values(tmp_path: Path) -> None:
    """CPU as a share, memory in bytes, and what this host lacks as missing, not as 0."""
    outbox = Outbox.open(tmp_path, 64 * 2**20)
    telemeter = Telemeter(Host("board", root=tmp_path), outbox, lambda: None, 60, period_s=0.1)
    telemeter.start()
    time.sleep(0.35)
    telemeter.stop()
    columns = {column.name: column for column in _records(outbox)[0].values}
    assert all(value is not None and 0 <= value <= 1 for value in series.unpack(columns["cpu_busy"]))
    assert all(value is not None and value > 1e6 for value in series.unpack(columns["memory_available"]))
    assert set(series.unpack(columns["temperature"])) == {None}
    assert columns["memory_available"].unit == "B"
    outbox.close()
