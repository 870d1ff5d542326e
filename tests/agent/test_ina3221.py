"""The meter of a Jetson's power monitors: which channels it has, and what happens when they fail."""

from __future__ import annotations

import errno
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cards import CardStore
from agent.meters.ina3221 import Ina3221
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading, Scope
from phasewatt.traces import SensorCard
from tests.fixtures.hwmon import (
    AGAIN,
    DRIVERS,
    FORBIDDEN,
    IO_ERROR,
    NO_DATA,
    FailingReads,
    agx_orin,
    hwmon_tree,
    ina3221,
    nano_r32,
    orin_nx,
    thor,
)
from tests.fixtures.kernel_tree import devfreq, tree, zones


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _scopes(root: Path) -> dict[str, tuple[Scope | None, bool]]:
    return {c.name: (c.scope, c.parts_of_total) for c in Ina3221(0.1, str(root)).channels}


def _monitor(root: Path, name: str = "1-0040") -> Path:
    (found,) = (root / DRIVERS / "ina3221" / name / "hwmon").iterdir()
    return found


def test_agx_orin_sums_three_rails_and_shows_the_one_inside(tmp_path: Path) -> None:
    assert _scopes(agx_orin(tmp_path)) == {
        "VDD_GPU_SOC": (Scope.MODULE, True),
        "VDD_CPU_CV": (Scope.MODULE, True),
        "VIN_SYS_5V0": (Scope.MODULE, True),
        "VDDQ_VDD2_1V8AO": (Scope.MODULE, False),
    }


@pytest.mark.parametrize(("board", "total"), [(orin_nx, "VDD_IN"), (nano_r32, "POM_5V_IN")])
def test_a_rail_that_holds_the_others_is_the_total(tmp_path: Path, board: Callable[[Path], Path], total: str) -> None:
    found = _scopes(board(tmp_path))
    assert {name for name, (_, counts) in found.items() if counts} == {total}
    assert {scope for scope, _ in found.values()} == {Scope.MODULE}


def test_thor_has_the_module_and_the_input_of_its_board(tmp_path: Path) -> None:
    channels = Ina3221(0.1, str(thor(tmp_path))).channels
    assert [c.source for c in channels] == ["ina3221", "ina3221", "ina3221", "ina238"]
    assert [c.scope for c in channels] == [*[Scope.MODULE] * 3, Scope.BOARD_INPUT]
    assert all(c.parts_of_total for c in channels)


def test_unknown_rails_are_shown_and_never_summed(tmp_path: Path) -> None:
    ina3221(orin_nx(tmp_path), "7-0042", 6, {1: ("CVB_ATX_12V", 12000, 100)})
    meter = Ina3221(0.1, str(tmp_path))
    assert (meter.channels[-1].scope, meter.channels[-1].parts_of_total) == (Scope.UNKNOWN, False)
    assert meter.read()[-1] == pytest.approx(1.2)


def test_values_are_watts_and_zero_and_negative_are_values(tmp_path: Path) -> None:
    assert Ina3221(0.1, str(agx_orin(tmp_path / "agx"))).read() == pytest.approx((4.8, -0.4, 3.2, 0.5))
    assert Ina3221(0.1, str(orin_nx(tmp_path / "nx"))).read() == pytest.approx((6.0, 2.0, 0.0))


def test_channels_say_what_is_documented_and_leave_the_rest_to_calibrating(tmp_path: Path) -> None:
    meter = Ina3221(0.1, str(agx_orin(tmp_path)))
    cards = [c.card for c in meter.channels if c.card is not None]
    assert [card.resolution for card in cards] == [0.4, 0.4, 0.1, 0.1]
    assert {(card.origin, card.update_period_s) for card in cards} == {("documented", None)}
    assert all(card.reason for card in cards)
    assert {(c.reading, c.unit, c.gain_uncertainty) for c in meter.channels} == {(Reading.INSTANT, "W", 0.05)}
    assert CardStore(tmp_path).missing("ina3221", meter.channels, meter.driver, meter.mode) == meter.channels


def test_a_measured_card_keeps_the_step_of_the_shunt(tmp_path: Path) -> None:
    """Power is a product: small steps of the voltage make many values between the coarse ones of the current."""
    meter = Ina3221(0.1, str(agx_orin(tmp_path)))
    store = CardStore(tmp_path)
    measured = SensorCard(
        origin="square-wave",
        update_period_s=0.1,
        update_jitter_s=0.001,
        averaging_s=0.05,
        lag_s=0.01,
        resolution=0.002,
        noise=0.2,
        read_cost_s=1e-3,
        driver=meter.driver,
        mode=meter.mode,
    )
    store.keep("ina3221", meter.channels[0], measured)
    card = store.with_cards("ina3221", meter.channels, meter.driver, meter.mode)[0].card
    assert card is not None
    assert (card.resolution, card.update_period_s, card.origin) == (0.4, 0.1, "square-wave")


def test_a_meter_under_another_root_is_simulated(tmp_path: Path) -> None:
    """And its cards hold for the kernel's driver, in any mode."""
    meter = Ina3221(0.1, str(orin_nx(tmp_path)))
    assert meter.simulated
    assert (meter.driver, meter.mode) == (platform.release(), None)


@pytest.mark.skipif(Path("/sys/bus/i2c/drivers/ina3221").exists(), reason="this host has such a monitor")
@pytest.mark.parametrize("argument", ["", "/"])
def test_without_a_root_this_host_is_looked_at(argument: str) -> None:
    with pytest.raises(MeterUnavailable, match=r"^no INA3221 with named rails under /sys: not a Jetson"):
        Ina3221(0.1, argument)


def test_what_a_reading_costs_is_measured_for_each_rail(tmp_path: Path) -> None:
    costs_s = Ina3221(0.1, str(agx_orin(tmp_path))).read_costs_s
    assert len(costs_s) == 4
    assert all(cost_s is not None and 0 < cost_s < 0.1 for cost_s in costs_s)


@pytest.mark.parametrize(
    ("error", "why"),
    [(AGAIN, "Resource temporarily unavailable"), (IO_ERROR, "Input/output error"), (errno.ENODEV, "vanished")],
)
def test_a_rail_that_fails_is_missing_until_it_answers_again(tmp_path: Path, error: int, why: str) -> None:
    """The others go on; each change is said once."""
    reads = FailingReads()
    meter = Ina3221(0.1, str(orin_nx(tmp_path)), reads)
    reads.errors["curr2_input"] = error
    assert [meter.read() for _ in range(3)] == [pytest.approx((6.0, None, 0.0))] * 3
    assert meter.notes() == (f"VDD_CPU_GPU_CV: {why}: its power reads as missing from now on",)
    reads.errors.clear()
    assert meter.read() == pytest.approx((6.0, 2.0, 0.0))
    assert meter.notes() == (f"VDD_CPU_GPU_CV answers again, after: {why}",)
    assert meter.notes() == ()


def test_a_rail_whose_file_vanished_is_missing_and_not_0_w(tmp_path: Path) -> None:
    meter = Ina3221(0.1, str(orin_nx(tmp_path)))
    (_monitor(tmp_path) / "curr1_input").unlink()
    assert meter.read()[0] is None
    assert meter.notes() == ("VDD_IN: vanished: its power reads as missing from now on",)


@pytest.mark.parametrize("text", ["", "4o7", "1.5", "nan"])
def test_a_file_without_a_number_is_missing(tmp_path: Path, text: str) -> None:
    meter = Ina3221(0.1, str(orin_nx(tmp_path)))
    hwmon_tree(_monitor(tmp_path), curr3_input=text)
    assert meter.read() == pytest.approx((6.0, 2.0, None))
    assert meter.notes() == ("VDD_SOC: what it holds is no figure of a rail: its power reads as missing from now on",)


def test_a_monitor_that_was_bound_anew_is_found_under_its_new_number(tmp_path: Path) -> None:
    """Looked for after a second and then ever more seldom, since that costs more than reading."""
    clock = Clock()
    reads = Counted()
    meter = Ina3221(0.1, str(orin_nx(tmp_path)), reads, clock)
    shutil.rmtree(_monitor(tmp_path))
    clock.now_s += 5
    assert meter.read() == (None, None, None)
    ina3221(tmp_path, "1-0040", 8, {1: ("VDD_IN", 5000, 1300), 2: ("VDD_CPU_GPU_CV", 5000, 1), 3: ("VDD_SOC", 5000, 1)})
    clock.now_s += 1.9
    reads.labels = 0
    assert meter.read() == (None, None, None)
    assert reads.labels == 0
    clock.now_s += 0.2
    meter.read()
    assert meter.read()[0] == pytest.approx(6.5)
    assert len(meter.notes()) == 6
    assert meter.notes() == ()


def test_a_monitor_that_came_back_as_it_was_answers_at_once(tmp_path: Path) -> None:
    meter = Ina3221(0.1, str(orin_nx(tmp_path)), clock=Clock())
    aside = tmp_path / "aside"
    monitor = _monitor(tmp_path)
    monitor.rename(aside)
    assert meter.read() == (None, None, None)
    aside.rename(monitor)
    assert meter.read() == pytest.approx((6.0, 2.0, 0.0))


def test_a_rail_that_cannot_be_read_at_opening_stays_a_channel(tmp_path: Path) -> None:
    """A total that lacks it must not look whole."""
    meter = Ina3221(0.1, str(agx_orin(tmp_path)), FailingReads(**{"0/hwmon/hwmon3/curr2_input": IO_ERROR}))
    assert meter.refused == ("VDD_CPU_CV: Input/output error",)
    assert meter.read()[1] is None
    assert [c.parts_of_total for c in meter.channels] == [True, True, True, False]


def test_without_one_of_its_rails_no_total_is_known(tmp_path: Path) -> None:
    """A channel that is switched off is said, and what is left is summed by no rule."""
    hwmon_tree(_monitor(agx_orin(tmp_path)), in2_enable="0")
    meter = Ina3221(0.1, str(tmp_path))
    assert meter.refused == ("VDD_CPU_CV: the channel is switched off",)
    assert {(c.scope, c.parts_of_total) for c in meter.channels} == {(Scope.UNKNOWN, False)}


def test_no_monitor_is_unavailable_and_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match=f"^no INA3221 with named rails under {tmp_path}/sys"):
        Ina3221(0.1, str(tmp_path))


@pytest.mark.parametrize("file", ["_label", "_input"])
def test_permission_refused_is_unavailable_with_the_remedy(tmp_path: Path, file: str) -> None:
    """Labels or values, it is the same for the user."""
    with pytest.raises(MeterUnavailable, match=f"in1{file} may not be read: run as root, or .*udev"):
        Ina3221(0.1, str(orin_nx(tmp_path)), FailingReads(**{file: FORBIDDEN}))


def test_all_rails_silent_is_unavailable_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match=r"^no rail answers: VDD_IN: Input/output error; VDD_CPU_GPU_CV: "):
        Ina3221(0.1, str(orin_nx(tmp_path)), FailingReads(_input=IO_ERROR))


def test_all_channels_off_is_unavailable_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match="VDD_IN: the channel is switched off"):
        Ina3221(0.1, str(orin_nx(tmp_path)), FailingReads(_input=NO_DATA))


@pytest.mark.jetson
def test_a_real_board_answers_on_every_rail() -> None:
    meter = Ina3221(0.1)
    assert not meter.simulated
    assert any(c.parts_of_total for c in meter.channels)
    assert None not in meter.read()
    assert meter.notes() == ()


class Counted(FailingReads):
    """Reads, counting labels."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = 0

    def __call__(self, path: str) -> str:
        self.labels += path.endswith("_label")
        return super().__call__(path)


def test_the_gpus_clock_load_and_temperature_stand_beside_the_rails(tmp_path: Path) -> None:
    """A reading that fails later is missing; a board without these files has none of the channels."""
    root = orin_nx(tmp_path)
    assert {channel.scope for channel in Ina3221(0.1, str(root)).channels} == {Scope.MODULE}
    load = {"sys/devices/platform/17000000.gpu/load": 250}
    tree(root, devfreq("17000000.gpu", 624_750_000, 306_000_000, 1_300_500_000) | load | zones(("gpu-thermal", 48_500)))
    meter = Ina3221(0.1, str(root))
    assert [(c.source, c.unit, c.scope) for c in meter.channels[3:]] == [
        ("devfreq.gpu_clock", "Hz", None),
        ("devfreq.gpu_load", "1", None),
        ("thermal.gpu", "degC", None),
    ]
    assert meter.read() == (pytest.approx(6.0), pytest.approx(2.0), 0.0, 624_750_000, 0.25, 48.5)
    (root / "sys/class/devfreq/17000000.gpu/cur_freq").unlink()
    assert meter.read()[3:] == (None, 0.25, 48.5)
