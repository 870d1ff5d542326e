"""Telemetry: sampled about once a second, committed in batches, the last stretch at the end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host import Host
from agent.outbox import Outbox
from agent.telemetry import Telemeter
from phasewatt import codec, series
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Kind, Reading, Scope
from phasewatt.messages import Clock
from phasewatt.traces import Channel, Series, Telemetry
from tests.fixtures.kernel_tree import HWMON, devfreq, meminfo, policy, tree, zones


def _records(outbox: Outbox) -> list[Telemetry]:
    found = []
    for batch in outbox.batches("board", "boot", Clock(synchronised=None, offset_bound_s=None)):
        assert batch.kind is Kind.TELEMETRY
        for item in batch.items:
            record = codec.decode_record(batch.kind, item.schema, bytes(item.body))
            assert isinstance(record, Telemetry)
            found.append(record)
    return found


def _columns(host: Host, outbox: Outbox) -> dict[str, Series]:
    """What a short while of telemetry without meters stores, by name."""
    telemeter = Telemeter(host, outbox, lambda: None, 60, period_s=0.1, meter_names=())
    telemeter.start()
    time.sleep(0.35)
    telemeter.stop()
    return {column.name: column for column in _records(outbox)[0].values}


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Rail:
    """A meter of one rail at 5 W, which may refuse to be opened."""

    simulated = False
    driver = mode = None
    read_costs_s = (None,)
    refused: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.channels = (Channel(name=name, source=name, reading=Reading.INSTANT, unit="W", scope=Scope.MODULE),)
        self.open = False
        self.refusals = 0
        self.openings = 0

    def opened(self) -> Rail:
        self.openings += 1
        if self.refusals:
            self.refusals -= 1
            raise MeterUnavailable("another one runs")
        self.open = True
        return self

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        assert self.open, "read after it was closed"
        return (5.0,)

    def notes(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        self.open = False


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


def test_the_first_batch_may_be_short(tmp_path: Path) -> None:
    """Whoever waits for a board that was just started sees a sample at once; the next ones come in whole batches."""
    outbox = Outbox.open(tmp_path, 64 * 2**20)
    committed: list[float] = []
    began = time.monotonic()
    beats: list[float] = []
    telemeter = Telemeter(
        Host("board"),
        outbox,
        lambda: committed.append(time.monotonic()),
        60,
        meter_names=(),
        first_batch_s=0.0,
        beat=lambda: beats.append(time.monotonic()),
    )
    telemeter.start()
    _wait_for(lambda: len(beats) >= 3)
    telemeter.stop()
    first, second = sorted(_records(outbox), key=lambda record: series.unpack_times(record.time)[0])
    assert len(committed) == 2 and committed[0] - began < 20
    assert len(first.time.steps) == 1 and len(second.time.steps) >= 2
    outbox.close()


def test_columns_carry_units_and_plausible_values(tmp_path: Path) -> None:
    """CPU as a share, memory in bytes, and what this host lacks as missing, not as 0."""
    outbox = Outbox.open(tmp_path, 64 * 2**20)
    columns = _columns(Host("board", root=tree(tmp_path, meminfo(2_000_000))), outbox)
    assert all(value is not None and 0 <= value <= 1 for value in series.unpack(columns["cpu_busy"]))
    assert all(value is not None and value > 1e6 for value in series.unpack(columns["memory_available"]))
    assert set(series.unpack(columns["temperature"])) == {None}
    assert columns["memory_available"].unit == "B"
    assert not {"cpu_clock", "emc_clock", "gpu_busy", "gpu_clock"} & columns.keys()
    outbox.close()


def test_a_jetson_has_its_own_columns(tmp_path: Path) -> None:
    """Zones, fan, clocks and load from the kernel's files; a zone that is gated is missing, and its column is there."""
    files = zones(("gpu-thermal", 51_250), ("cv0-thermal", -256_000)) | policy(0, 729_600, 729_600, 2_201_600)
    files |= devfreq("17000000.gpu", 612_000_000, 306_000_000, 1_300_500_000) | {"sys/devices/gpu.0/load": 873}
    files |= devfreq("bwmgr", 3_199_000_000, 1, 1) | {f"{HWMON}/hwmon2/name": "pwmfan", f"{HWMON}/hwmon2/pwm1": 51}
    outbox = Outbox.open(tmp_path / "outbox", 64 * 2**20)
    columns = _columns(Host("board", root=tree(tmp_path, files)), outbox)
    shown = {name: set(series.unpack(column)) for name, column in columns.items()}
    assert shown["gpu_busy"] == {0.873}
    assert shown["gpu_clock"] == {612e6}
    assert shown["emc_clock"] == {3199e6}
    assert shown["cpu_clock"] == {730e6}  # stored in MHz
    assert shown["gpu_temperature"] == shown["temperature/gpu-thermal"]
    assert max(shown["temperature"]) == pytest.approx(51.2, abs=0.06)
    assert shown["temperature/cv0-thermal"] == {None}
    assert shown["fan/pwmfan"] == {0.2}
    assert "gpu_memory_used" not in columns
    assert {"disk_free", "disk_read", "disk_written", "network_sent", "swap_used"} <= columns.keys()
    outbox.close()


def test_a_meter_for_one_reader_is_let_go_of_while_a_suite_runs(tmp_path: Path) -> None:
    """Its columns are missing meanwhile and there again afterwards; other meters are read on."""
    outbox = Outbox.open(tmp_path, 64 * 2**20)
    rails = {"tegrastats": Rail("tegrastats"), "rapl": Rail("rapl")}
    telemeter = Telemeter(
        Host("board"), outbox, lambda: None, 60, 0.02, tuple(rails), open_meter=lambda name, _: rails[name].opened()
    )
    telemeter.start()
    time.sleep(0.1)
    with telemeter.suspended():
        assert (rails["tegrastats"].open, rails["rapl"].open) == (False, True)
        time.sleep(0.1)
    _wait_for(lambda: rails["tegrastats"].open)
    time.sleep(0.1)
    telemeter.stop()
    assert not rails["tegrastats"].open
    columns = {column.name: series.unpack(column) for column in _records(outbox)[0].values}
    shown = [value for value, _ in itertools.groupby(columns["module/tegrastats/instant"])]
    assert shown == [5.0, None, 5.0]
    assert set(columns["module/rapl/instant"]) == {5.0}
    outbox.close()


def test_a_meter_that_comes_back_with_other_channels_is_left_out(tmp_path: Path) -> None:
    """Its values would stand under the names of others."""
    outbox = Outbox.open(tmp_path, 64 * 2**20)
    rail = Rail("tegrastats")
    telemeter = Telemeter(
        Host("board"), outbox, lambda: None, 60, 0.02, ("tegrastats",), open_meter=lambda *_: rail.opened()
    )
    telemeter.start()
    with telemeter.suspended():
        rail.channels = Rail("another").channels
        opened = rail.openings
    _wait_for(lambda: rail.openings > opened)
    time.sleep(0.1)
    assert not rail.open
    telemeter.stop()
    columns = {column.name: series.unpack(column) for column in _records(outbox)[0].values}
    assert columns["module/tegrastats/instant"][-1] is None
    outbox.close()


def test_a_meter_that_does_not_open_again_at_once_is_tried_again(tmp_path: Path) -> None:
    """With the next batch; telemetry goes on without it until then."""
    outbox = Outbox.open(tmp_path, 64 * 2**20)
    rail = Rail("tegrastats")
    telemeter = Telemeter(
        Host("board"), outbox, lambda: None, 0.1, 0.02, ("tegrastats",), open_meter=lambda *_: rail.opened()
    )
    telemeter.start()
    with telemeter.suspended():
        rail.refusals = 2
    assert not rail.open
    _wait_for(lambda: rail.open)
    telemeter.stop()
    assert rail.refusals == 0
    outbox.close()
