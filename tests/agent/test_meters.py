"""Every meter passes one contract; each source's own traps are tested beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import meters
from agent.meters import Meter
from agent.meters.ina3221 import Ina3221
from agent.meters.jtop import Jtop
from agent.meters.nvml import Nvml
from agent.meters.rapl import Rapl
from agent.meters.replay import Replay
from agent.meters.tegrastats import Tegrastats
from phasewatt.errors import ConfigInvalid, MeterUnavailable
from phasewatt.fields import Reading, Scope
from tests.fixtures.hwmon import thor
from tests.fixtures.jtop import AGX_XAVIER, FakeLibrary
from tests.fixtures.nvml import FakeNvml
from tests.fixtures.sensors import powercap, recording
from tests.fixtures.tegrastats import program, steady
from tests.fixtures.wall import CsvLogger

PACKAGE = {"name": "package-0\n", "energy_uj": "1000000\n", "max_energy_range_uj": "262143328850\n"}
DRAM = {"name": "dram\n", "energy_uj": "500000\n", "max_energy_range_uj": "65712999613\n"}


def _nvml(scratch: Path) -> Meter:
    library = FakeNvml()
    return Nvml(0.1, "", library, library.clock, library.clock.sleep)


def _rapl(scratch: Path) -> Meter:
    return Rapl(0.1, root=powercap(scratch, intel_rapl_0=PACKAGE, intel_rapl_0_0=DRAM))


def _replay(scratch: Path) -> Meter:
    return Replay(0.1, str(recording(scratch / "r.jsonl", [10.0, 12.0])))


def _tegrastats(scratch: Path) -> Meter:
    return Tegrastats(0.1, str(program(scratch, steady())))


def _ina3221(scratch: Path) -> Meter:
    return Ina3221(0.1, str(thor(scratch)))


def _jtop(scratch: Path) -> Meter:
    return Jtop(0.1, "", FakeLibrary(AGX_XAVIER))


def _external(scratch: Path) -> Meter:
    return CsvLogger(scratch / "power.csv").meter()


OPENERS = {
    "nvml": _nvml,
    "rapl": _rapl,
    "tegrastats": _tegrastats,
    "ina3221": _ina3221,
    "jtop": _jtop,
    "replay": _replay,
    "external": _external,
}


def test_the_contract_covers_every_meter() -> None:
    """A meter added to the table must be added here."""
    assert set(OPENERS) == set(meters.METERS)


def test_meters_asked_for_are_those_of_the_settings_or_all_that_a_host_may_have() -> None:
    """The word for no meter is none of them."""
    assert meters.asked_for(None) == meters.AUTOMATIC
    assert meters.asked_for(("external:csv:p.csv", "rapl")) == ("external:csv:p.csv", "rapl")
    assert meters.asked_for((meters.NO_METER,)) == ()


def test_two_ways_to_the_same_rails_cannot_be_named_together() -> None:
    """Their watts would be added up; one is to be named."""
    with pytest.raises(ConfigInvalid, match="tegrastats and ina3221:/b read the same rails: name one of them"):
        meters.asked_for(("rapl", "tegrastats", "ina3221:/b"))


@pytest.fixture(params=OPENERS.values(), ids=OPENERS)
def meter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Meter]:
    """An open meter whose sensor answers."""
    opened = request.param(tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("closely", [False, True])
def test_read_gives_one_value_a_channel(meter: Meter, closely: bool) -> None:
    """Values stand in the order of the channels, and a power sensor that answers gives no 0 for one."""
    values = meter.read(closely)
    assert len(values) == len(meter.channels) > 0
    power = [value for value, c in zip(values, meter.channels, strict=True) if c.scope is not None]
    assert power
    assert all(value is not None and value > 0 for value in power)


def test_channels_are_distinct_by_name_source_and_reading(meter: Meter) -> None:
    """Sensor cards and readings of a phase go by these."""
    assert len({(c.name, c.source, c.reading) for c in meter.channels}) == len(meter.channels)


def test_no_power_sensor_is_taken_for_exact(meter: Meter) -> None:
    """A channel with a scope is in watts or joules; its gain is doubtful by some share, or by an unknown one."""
    for channel in meter.channels:
        assert (channel.unit in ("W", "J")) == (channel.scope is not None)
        assert (channel.unit == "J") == (channel.reading is Reading.COUNTER)
        assert channel.gain_uncertainty is None or 0 < channel.gain_uncertainty < 1


def test_only_a_replay_and_a_board_in_a_folder_are_simulated(meter: Meter) -> None:
    """What a sensor says is measured; what a file says is not."""
    assert meter.simulated == isinstance(meter, (Replay, Tegrastats, Ina3221))


def test_a_meter_says_what_its_cards_hold_for(meter: Meter) -> None:
    """A word each, or None; never an empty one."""
    assert meter.driver != ""
    assert meter.mode != ""


def test_a_meter_that_was_opened_and_read_has_nothing_to_tell(meter: Meter) -> None:
    """Neither when it is asked, nor when it is asked again; a note would mark a sound trial."""
    for closely in (False, True):
        meter.read(closely)
        assert meter.notes() == ()
    assert meter.notes() == ()


def test_closing_twice_does_no_harm(meter: Meter) -> None:
    """A run that fails while it ends may close again."""
    meter.close()


def test_unknown_meter_lists_the_known_ones() -> None:
    """The one line says what could have been meant."""
    with pytest.raises(
        ConfigInvalid, match="no meter 'nvlm'; known: nvml, rapl, ina3221, tegrastats, jtop, replay, external"
    ):
        meters.open_meter("nvlm", 0.1)


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


def test_rapl_keeps_packages_and_their_dram_apart(tmp_path: Path) -> None:
    """Each is a scope of its own and makes its own total; a package's joules do not hold its memory's."""
    meter = Rapl(0.1, root=powercap(tmp_path, intel_rapl_0=PACKAGE, intel_rapl_0_0=DRAM))
    assert {c.name: c.scope for c in meter.channels} == {"package-0": Scope.CPU_PACKAGE, "dram": Scope.DRAM}
    assert all(c.parts_of_total for c in meter.channels)


def test_rapl_states_what_its_maker_documents(tmp_path: Path) -> None:
    """A counter that is updated about each millisecond; what is not documented is not made up."""
    (channel,) = Rapl(0.1, root=powercap(tmp_path, intel_rapl_0=PACKAGE)).channels
    assert channel.card is not None
    assert (channel.card.origin, channel.card.update_period_s) == ("documented", 0.001)
    assert channel.card.noise is None
    assert channel.card.reason


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


def test_a_replay_whose_lines_do_not_belong_together_is_unavailable(tmp_path: Path) -> None:
    """Other channels, or an earlier time, on a later line: columns would be joined that are not one."""
    watts, joules = recording(tmp_path / "w", [1.0, 2.0]), recording(tmp_path / "j", [1.0], reading=Reading.COUNTER)
    mixed = tmp_path / "mixed"
    mixed.write_bytes(watts.read_bytes() + joules.read_bytes())
    with pytest.raises(MeterUnavailable, match="other channels"):
        Replay(0.1, str(mixed))
    mixed.write_bytes(watts.read_bytes() * 2)
    with pytest.raises(MeterUnavailable, match="not in order of time"):
        Replay(0.1, str(mixed))
