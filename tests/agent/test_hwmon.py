"""Where a Jetson's power monitors are, which of their channels are rails, and how fine each rail is."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.jetson import hwmon, steps
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

THREE = {1: ("VDD_IN", 5000, 1000), 2: ("VDD_CPU_GPU_CV", 5000, 400), 3: ("VDD_SOC", 5000, 200)}


def _powers_w(root: Path) -> dict[str, float]:
    return {rail.name: round(hwmon.power_w(rail), 6) for rail in hwmon.find(root).rails}


def test_agx_orin_has_four_rails_and_nothing_else(tmp_path: Path) -> None:
    """Not the shunt voltages, not their sum, not the unconnected inputs; an idle rail may be below zero."""
    expected = {"VDD_GPU_SOC": 4.8, "VDD_CPU_CV": -0.4, "VIN_SYS_5V0": 3.2, "VDDQ_VDD2_1V8AO": 0.5}
    assert _powers_w(agx_orin(tmp_path)) == expected


def test_orin_nx_has_three_rails_and_a_zero_is_a_zero(tmp_path: Path) -> None:
    assert _powers_w(orin_nx(tmp_path)) == {"VDD_IN": 6.0, "VDD_CPU_GPU_CV": 2.0, "VDD_SOC": 0.0}


def test_thor_has_the_input_of_its_board_besides(tmp_path: Path) -> None:
    """The INA238 multiplies by itself, and tells microwatts."""
    found = hwmon.find(thor(tmp_path)).rails
    assert [(rail.name, rail.chip) for rail in found][-1] == ("VIN", "ina238")
    assert _powers_w(tmp_path)["VIN"] == 25.74


def test_an_ina238_without_a_power_file_is_multiplied_here(tmp_path: Path) -> None:
    (thor(tmp_path) / DRIVERS / "ina238/2-0044/hwmon/hwmon5/power1_input").unlink()
    assert _powers_w(tmp_path)["VIN"] == 25.74


def test_an_ina238_has_the_name_that_its_board_gives_it(tmp_path: Path) -> None:
    hwmon_tree(thor(tmp_path) / DRIVERS / "ina238/2-0044/hwmon/hwmon5", label="CVB_IN", shunt_resistor="1000")
    rail = hwmon.find(tmp_path).rails[-1]
    assert (rail.name, rail.step_w) == ("CVB_IN", 0.099)  # 5 mA at 19.8 V


def test_r32_tells_milliwatts_by_iio(tmp_path: Path) -> None:
    assert _powers_w(nano_r32(tmp_path)) == {"POM_5V_IN": 2.875, "POM_5V_GPU": 0.038, "POM_5V_CPU": 0.461}


@pytest.mark.parametrize("number", [0, 1, 9, 12])
def test_a_rail_keeps_its_place_whatever_number_its_device_has_this_time(tmp_path: Path, number: int) -> None:
    """And the order of rails is by address and channel."""
    ina3221(tmp_path, "1-0041", 20 - number, {2: ("VDDQ_VDD2_1V8AO", 5000, 100)})
    ina3221(tmp_path, "1-0040", number, THREE)
    places = [(rail.name, rail.place) for rail in hwmon.find(tmp_path).rails]
    assert [place for _, place in places] == ["1-0040.1", "1-0040.2", "1-0040.3", "1-0041.2"]
    assert places[0][0] == "VDD_IN"


def test_without_the_drivers_folder_the_class_of_monitors_is_looked_at(tmp_path: Path) -> None:
    """Other hwmon devices are not taken for one."""
    classed = tmp_path / "sys/class/hwmon"
    labels = {"in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1000"}
    hwmon_tree(classed / "hwmon0", name="tmp451", **labels)
    hwmon_tree(classed / "hwmon2", name="ina3221", **labels)
    hwmon_tree(classed / "hwmon4", name="ina238", power1_input="9000000")
    hwmon_tree(classed / "hwmon5")  # a virtual device may have no name
    assert _powers_w(tmp_path) == {"VDD_IN": 5.0, "VIN": 9.0}
    assert [rail.place for rail in hwmon.find(tmp_path).rails] == ["hwmon2.1", "hwmon4.1"]


def test_in_the_class_of_monitors_the_address_is_that_of_the_device(tmp_path: Path) -> None:
    device = hwmon_tree(tmp_path / "sys/devices/platform/bus/i2c-1/1-0040")
    monitor = hwmon_tree(tmp_path / "sys/class/hwmon/hwmon2", name="ina3221", in1_label="VDD_IN")
    (monitor / "device").symlink_to(device)
    assert [rail.place for rail in hwmon.find(tmp_path).rails] == ["1-0040.1"]


def test_a_monitor_seen_both_ways_is_one(tmp_path: Path) -> None:
    """sys/class/hwmon holds links to what the drivers have."""
    monitor = ina3221(tmp_path, "1-0040", 3, THREE)
    (tmp_path / "sys/class/hwmon").mkdir(parents=True)
    (tmp_path / "sys/class/hwmon/hwmon3").symlink_to(monitor)
    assert len(hwmon.find(tmp_path).rails) == 3


def test_a_step_is_that_of_the_shunt_at_the_present_voltage(tmp_path: Path) -> None:
    """40 uV over 2 mOhm are 20 mA: 0.4 W at 20 V and 0.1 W at 5 V. Over 5 mOhm at 5 V, 0.04 W."""
    assert [rail.step_w for rail in hwmon.find(agx_orin(tmp_path / "agx")).rails] == [0.4, 0.4, 0.1, 0.1]
    assert [rail.step_w for rail in hwmon.find(orin_nx(tmp_path / "nx")).rails] == [0.04, 0.04, 0.04]


def test_where_the_shunt_is_not_told_the_step_is_that_of_the_module(tmp_path: Path) -> None:
    """And none for a rail that no module has."""
    monitor = ina3221(tmp_path, "1-0040", 3, {1: ("VDD_GPU_SOC", 20000, 1), 2: ("VDD_NEW", 5000, 1)})
    for file in monitor.glob("shunt*"):
        file.unlink()
    assert [rail.step_w for rail in hwmon.find(tmp_path).rails] == [0.4, None]
    assert steps.step_w("POM_5V_IN") == hwmon.find(nano_r32(tmp_path / "nano")).rails[0].step_w == 0.04


@pytest.mark.parametrize(("shunt", "mv"), [("0", "5000"), ("5000", "0"), ("", "5000"), ("ohm", "5000")])
def test_a_shunt_or_voltage_that_says_nothing_makes_no_step_of_zero(tmp_path: Path, shunt: str, mv: str) -> None:
    monitor = ina3221(tmp_path, "1-0040", 3, {1: ("VDD_IN", 5000, 1)})
    hwmon_tree(monitor, shunt1_resistor=shunt, in1_input=mv)
    assert [rail.step_w for rail in hwmon.find(tmp_path).rails] == [0.04]


def test_a_channel_that_is_switched_off_is_named_and_is_no_rail(tmp_path: Path) -> None:
    hwmon_tree(ina3221(tmp_path, "1-0040", 3, THREE), in2_enable="0")
    found = hwmon.find(tmp_path)
    assert [rail.name for rail in found.rails] == ["VDD_IN", "VDD_SOC"]
    assert found.off == ("VDD_CPU_GPU_CV: the channel is switched off",)


def test_a_channel_without_data_is_switched_off(tmp_path: Path) -> None:
    """The kernel answers ENODATA for it."""
    ina3221(tmp_path, "1-0040", 3, THREE)
    assert hwmon.find(tmp_path, FailingReads(in3_input=NO_DATA)).off == ("VDD_SOC: the channel is switched off",)


@pytest.mark.parametrize("error", [AGAIN, IO_ERROR])
def test_a_rail_that_does_not_answer_just_now_is_a_rail(tmp_path: Path, error: int) -> None:
    ina3221(tmp_path, "1-0040", 3, THREE)
    assert len(hwmon.find(tmp_path, FailingReads(curr1_input=error)).rails) == 3


def test_unconnected_and_unnamed_inputs_are_not_read(tmp_path: Path) -> None:
    """They would answer with an error, or with a number that means nothing."""
    monitor = ina3221(tmp_path, "1-0041", 4, {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 5000, 100), 3: ("", 5000, 1)})
    assert monitor.is_dir()
    assert [rail.name for rail in hwmon.find(tmp_path, FailingReads(in1_input=IO_ERROR)).rails] == ["VDDQ_VDD2_1V8AO"]


def test_a_name_that_comes_again_has_its_place_behind_it(tmp_path: Path) -> None:
    """Two channels of one name would share a sensor card; the second is none that a rule knows."""
    ina3221(tmp_path, "1-0040", 3, THREE)
    ina3221(tmp_path, "7-0042", 4, {1: ("VDD_IN", 12000, 10)})
    assert [rail.name for rail in hwmon.find(tmp_path).rails][-1] == "VDD_IN@7-0042.1"


def test_labels_that_may_not_be_read_are_no_absent_monitor(tmp_path: Path) -> None:
    ina3221(tmp_path, "1-0040", 3, THREE)
    with pytest.raises(PermissionError):
        hwmon.find(tmp_path, FailingReads(in1_label=FORBIDDEN))


def test_an_empty_root_has_no_rails(tmp_path: Path) -> None:
    assert hwmon.find(tmp_path) == ((), ())


@pytest.mark.parametrize(
    ("mv", "ma"), [("5000", "9" * 250), ("9" * 23, "1"), ("1_0", "5"), ("-5", "-5"), ("100000", "100000")]
)
def test_what_no_rail_can_have_is_no_power(tmp_path: Path, mv: str, ma: str) -> None:
    """1e40 W in a total would be worse than none."""
    hwmon_tree(next((orin_nx(tmp_path) / DRIVERS).glob("ina3221/1-0040/hwmon/*")), in1_input=mv, curr1_input=ma)
    rail = next(rail for rail in hwmon.find(tmp_path).rails if rail.name == "VDD_IN")
    with pytest.raises(ValueError, match=r"number|voltage|W"):
        hwmon.power_w(rail)
