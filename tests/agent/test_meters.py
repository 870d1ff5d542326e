"""Every meter passes one contract; each source's own traps are tested beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent import meters
from agent.meters import Meter
from agent.meters.nvml import Nvml
from agent.meters.rapl import Rapl
from agent.meters.replay import Replay
from phasewatt.errors import ConfigInvalid, MeterUnavailable
from phasewatt.records import Reading, Scope
from tests.fixtures.sensors import NOT_SUPPORTED, FakeNvml, NvmlError, powercap, recording

PACKAGE = {"name": "package-0\n", "energy_uj": "1000000\n", "max_energy_range_uj": "262143328850\n"}
DRAM = {"name": "dram\n", "energy_uj": "500000\n", "max_energy_range_uj": "65712999613\n"}


def _nvml(scratch: Path) -> Meter:
    return Nvml(0.1, library=FakeNvml())


def _rapl(scratch: Path) -> Meter:
    return Rapl(0.1, root=powercap(scratch, intel_rapl_0=PACKAGE, intel_rapl_0_0=DRAM))


def _replay(scratch: Path) -> Meter:
    return Replay(0.1, str(recording(scratch / "r.jsonl", [10.0, 12.0])))


OPENERS = {"nvml": _nvml, "rapl": _rapl, "replay": _replay}


def test_the_contract_covers_every_meter() -> None:
    """A meter added to the table must be added here."""
    assert set(OPENERS) == set(meters.METERS)


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_read_gives_one_value_a_channel(opener: Callable[[Path], Meter], tmp_path: Path) -> None:
    """Values stand in the order of the channels, and a sensor that answers gives no 0 for them."""
    meter = opener(tmp_path)
    values = meter.read()
    assert len(values) == len(meter.channels) > 0
    assert all(value is not None and value > 0 for value in values)
    meter.close()


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_channels_are_distinct_and_state_a_gain(opener: Callable[[Path], Meter], tmp_path: Path) -> None:
    """Two channels of one meter differ in name or reading, and no sensor is taken for exact."""
    meter = opener(tmp_path)
    assert len({(c.name, c.reading) for c in meter.channels}) == len(meter.channels)
    assert all(0 < c.gain_uncertainty < 1 for c in meter.channels)
    meter.close()


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_only_a_replay_is_simulated(opener: Callable[[Path], Meter], tmp_path: Path) -> None:
    """What a sensor says is measured; what a file says is not."""
    meter = opener(tmp_path)
    assert meter.simulated == isinstance(meter, Replay)
    meter.close()


def test_unknown_meter_lists_the_known_ones() -> None:
    """The one line says what could have been meant."""
    with pytest.raises(ConfigInvalid, match="no meter 'nvlm'; known: nvml, rapl, replay"):
        meters.open_meter("nvlm", 0.1)


def test_nvml_keeps_instant_average_and_counter_apart() -> None:
    """Each reading has its own channel and its own call, in watts and joules."""
    meter = Nvml(0.1, library=FakeNvml())
    by_reading = dict(zip((c.reading for c in meter.channels), meter.read(), strict=True))
    assert by_reading[Reading.INSTANT] == pytest.approx(135.403)
    assert by_reading[Reading.AVERAGE] == pytest.approx(154.527)
    assert by_reading[Reading.COUNTER] == pytest.approx(9430.495)


def test_nvml_of_a_jetson_is_unavailable_with_each_refusal() -> None:
    """It initialises, counts one device, and supports no power call: that is no meter."""
    refusal = NvmlError("Not Supported")
    library = FakeNvml(
        {"nvmlDeviceGetPowerUsage": refusal, "nvmlDeviceGetTotalEnergyConsumption": refusal, "instant": refusal}
    )
    with pytest.raises(MeterUnavailable, match=r"answers, but not to power: nvml\.field186 of gpu0"):
        Nvml(0.1, library=library)
    assert NOT_SUPPORTED != library.NVML_SUCCESS


def test_nvml_leaves_out_only_the_calls_that_are_refused() -> None:
    """A GPU without field 186 still has its counter."""
    meter = Nvml(0.1, library=FakeNvml({"instant": NvmlError("Not Supported")}))
    assert [c.reading for c in meter.channels] == [Reading.AVERAGE, Reading.COUNTER]


def test_nvml_that_does_not_start_is_unavailable() -> None:
    """No driver, no meter, and the reason says so."""
    with pytest.raises(MeterUnavailable, match="no NVIDIA driver here"):
        Nvml(0.1, library=FakeNvml({"nvmlInit": NvmlError("Driver Not Loaded")}))


def test_nvml_that_fails_later_reads_as_missing() -> None:
    """A GPU that vanishes gives None, not 0 and no exception."""
    library = FakeNvml()
    meter = Nvml(0.1, library=library)
    library.calls["nvmlDeviceGetPowerUsage"] = NvmlError("GPU is lost")
    values = dict(zip((c.reading for c in meter.channels), meter.read(), strict=True))
    assert values[Reading.AVERAGE] is None
    assert values[Reading.INSTANT] is not None


def test_nvml_counts_the_named_gpu_alone() -> None:
    """Of two GPUs, the one that does the work makes the total; the other is shown."""
    library = FakeNvml({"nvmlDeviceGetCount": 2, "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}"})
    library.calls["nvmlDeviceGetHandleByIndex"] = lambda index: index
    counted = {c.name for c in Nvml(0.1, "GPU-1", library=library).channels if c.parts_of_total}
    assert counted == {"gpu1"}
    assert {c.name for c in Nvml(0.1, library=library).channels if c.parts_of_total} == {"gpu0", "gpu1"}


def test_nvml_passes_over_a_gpu_that_is_lost() -> None:
    """A handle that is refused costs that GPU; a count that is refused costs the meter."""
    lost = FakeNvml({"nvmlDeviceGetHandleByIndex": NvmlError("GPU is lost")})
    with pytest.raises(MeterUnavailable, match="gpu0: GPU is lost"):
        Nvml(0.1, library=lost)
    with pytest.raises(MeterUnavailable, match="does not count"):
        Nvml(0.1, library=FakeNvml({"nvmlDeviceGetCount": NvmlError("Unknown Error")}))


def test_rapl_does_not_count_a_package_twice(tmp_path: Path) -> None:
    """Client CPUs show the same package by MSR and by MMIO."""
    root = powercap(tmp_path, intel_rapl_0=PACKAGE)
    (root / "intel-rapl-mmio:0").mkdir()
    for name, text in PACKAGE.items():
        (root / "intel-rapl-mmio:0" / name).write_text(text)
    assert [c.name for c in Rapl(0.1, root=root).channels] == ["package-0"]


def test_rapl_counts_on_where_the_register_wraps(tmp_path: Path) -> None:
    """Joules never fall; the range of the register is added."""
    root = powercap(
        tmp_path, intel_rapl_0=PACKAGE | {"energy_uj": "262143000000", "max_energy_range_uj": "262143328850"}
    )
    meter = Rapl(0.1, root=root)
    before = meter.read()[0]
    (root / "intel-rapl:0" / "energy_uj").write_text("671150")
    after = meter.read()[0]
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(1.0)


def test_rapl_total_holds_packages_and_not_their_dram(tmp_path: Path) -> None:
    """DRAM is shown beside the packages; scope and total are theirs."""
    meter = Rapl(0.1, root=powercap(tmp_path, intel_rapl_0=PACKAGE, intel_rapl_0_0=DRAM))
    assert {c.name: c.parts_of_total for c in meter.channels} == {"package-0": True, "dram": False}
    assert {c.scope for c in meter.channels} == {Scope.CPU_PACKAGE}


def test_rapl_unreadable_counter_is_unavailable_with_the_remedy(tmp_path: Path) -> None:
    """Present but not for this user (here: no number in it): the remedy is named."""
    root = powercap(tmp_path, intel_rapl_0={"name": "package-0"})
    with pytest.raises(MeterUnavailable, match="run as root"):
        Rapl(0.1, root=root)


def test_rapl_absent_is_unavailable(tmp_path: Path) -> None:
    """No tree, no meter."""
    with pytest.raises(MeterUnavailable, match="no RAPL"):
        Rapl(0.1, root=tmp_path)


def test_rapl_counter_that_vanishes_reads_as_missing(tmp_path: Path) -> None:
    """A failed read is None."""
    root = powercap(tmp_path, intel_rapl_0=PACKAGE)
    meter = Rapl(0.1, root=root)
    (root / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.read() == (None,)


def test_replay_follows_the_recorded_times_and_begins_again(tmp_path: Path) -> None:
    """Values are those recorded at that time since opening, in a loop; missing ones stay missing."""
    now_ns = [0]
    meter = Replay(0.1, str(recording(tmp_path / "r", [10.0, None, 30.0])), clock_ns=lambda: now_ns[0])
    seen = []
    for now_ns[0] in (0, 99_000_000, 100_000_000, 200_000_000, 200_000_001):
        seen.append(meter.read()[0])
    assert seen == [10.0, 10.0, None, 30.0, 10.0]


def test_replayed_counter_runs_on(tmp_path: Path) -> None:
    """A counter does not fall back when the recording begins again."""
    now_ns = [0]
    path = recording(tmp_path / "r", [5.0, 7.0], reading=Reading.COUNTER)
    meter = Replay(0.1, str(path), clock_ns=lambda: now_ns[0])
    meter.read()
    now_ns[0] = 100_000_001 + 100_000_000
    assert meter.read()[0] == pytest.approx(9.0)


@pytest.mark.parametrize("content", [b"", b"VDD_IN 4067/4067\n", b'{"device": 1}\n'])
def test_replay_of_a_file_that_is_no_recording_is_unavailable(tmp_path: Path, content: bytes) -> None:
    """Foreign files are named, with what was expected."""
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(MeterUnavailable, match="replay"):
        Replay(0.1, str(path))


def test_try_all_says_what_each_meter_said(tmp_path: Path) -> None:
    """A usable meter names its channels, an unusable one its reason."""
    path = recording(tmp_path / "r", [10.0])
    good, bad = meters.try_all([f"replay:{path}", f"replay:{tmp_path / 'absent'}"])
    assert good.usable
    assert "VDD_IN (instant, module)" in good.reason
    assert not bad.usable
    assert "absent" in bad.reason
