"""Clocks, zones, fans, alerts, over-current and memory, from trees as boards and servers have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host_state import StateFiles
from agent.kernel_files import matching
from phasewatt.conditions import ClockState, HostState
from tests.fixtures.kernel_tree import HWMON, ZONES, alerts, devfreq, meminfo, over_current, policy, tree, zones

EMC = "sys/kernel/debug/bpmp/debug/clk/emc"


def state(root: Path) -> HostState:
    return StateFiles(root).read()


def test_a_host_that_tells_nothing_has_an_empty_state(tmp_path: Path) -> None:
    """Missing is not 0: no clock, no zone, no memory."""
    assert state(tmp_path) == HostState()
    files = StateFiles(tmp_path)
    assert (files.alerts(), files.gpu_load(), files.hottest_c(), files.has_gpu) == (None, None, None, False)


@pytest.mark.parametrize("name", ["17000000.gpu", "17000000.ga10b", "17000000.gv11b", "57000000.gpu", "gpu-gpc-0"])
def test_the_gpu_is_found_under_the_name_of_every_release(tmp_path: Path, name: str) -> None:
    """Beside other devices, among them the video engines that Thor counts to its GPU."""
    others = devfreq("13e40000.host1x", 1, 1, 1) | devfreq("gpu-nvd-0", 2, 2, 2)
    files = StateFiles(tree(tmp_path, others | devfreq(name, 612_000_000, 306_000_000, 1_300_500_000)))
    expected = ClockState(
        name="gpu", now_hz=612_000_000, least_hz=306_000_000, most_hz=1_300_500_000, governor="nvhost_podgov"
    )
    assert files.read().clocks == (expected,)
    assert files.has_gpu
    assert expected.locked is False


def test_clusters_of_a_board_stay_apart_and_are_in_hz(tmp_path: Path) -> None:
    """In the order of their first CPU, 8 before 10."""
    clusters = policy(10, 729_600, 729_600, 729_600) | policy(0, 1_000_000, 729_600, 2_201_600) | policy(8, 1, 1, 2)
    clocks = state(tree(tmp_path, clusters)).clocks
    assert [clock.name for clock in clocks] == ["cpu0", "cpu8", "cpu10"]
    assert (clocks[0].now_hz, clocks[0].most_hz, clocks[0].governor) == (1_000_000_000, 2_201_600_000, "schedutil")
    assert [clock.locked for clock in clocks] == [False, False, True]


def test_cores_of_a_large_host_are_told_together(tmp_path: Path) -> None:
    """One entry with the mean clock; one more for those that are set otherwise."""
    alike = [policy(cpu, 1_000_000 + cpu * 1000, 800_000, 3_700_000) for cpu in range(256)]
    root = tree(tmp_path, {name: value for files in alike for name, value in files.items()})
    (clock,) = state(root).clocks
    assert (clock.name, clock.now_hz, clock.least_hz) == ("cpu", 1_127_500_000, 800_000_000)
    tree(root, policy(255, 800_000, 800_000, 800_000))
    assert [clock.name for clock in state(root).clocks] == ["cpu0 and 254 like it", "cpu255"]


def test_a_host_whose_cores_are_all_set_otherwise_is_cut_off(tmp_path: Path) -> None:
    """The state travels with every trial."""
    unlike = [policy(cpu, 1000, 1000 + cpu, 5000) for cpu in range(64)]
    root = tree(tmp_path, {name: value for files in unlike for name, value in files.items()})
    assert len(state(root).clocks) == 16


def test_the_memory_clock_is_locked_where_the_firmware_says_so(tmp_path: Path) -> None:
    """Its limits are those of the hardware; the lock is a file of its own."""
    root = tree(
        tmp_path, {f"{EMC}/rate": 2_133_000_000, f"{EMC}/min_rate": 204_000_000, f"{EMC}/max_rate": 3_199_000_000}
    )
    (emc,) = state(root).clocks
    assert (emc.name, emc.now_hz, emc.locked) == ("emc", 2_133_000_000, False)
    (emc,) = state(tree(root, {f"{EMC}/mrq_rate_locked": 1})).clocks
    assert (emc.least_hz, emc.most_hz, emc.locked) == (2_133_000_000, 2_133_000_000, True)


def test_the_memory_clock_of_thor_is_a_device_of_devfreq(tmp_path: Path) -> None:
    (emc,) = state(tree(tmp_path, devfreq("bwmgr", 4_266_000_000, 665_600_000, 4_266_000_000))).clocks
    assert (emc.name, emc.now_hz) == ("emc", 4_266_000_000)


def test_zones_go_by_type_and_those_that_do_not_answer_are_missing(tmp_path: Path) -> None:
    """A gated zone refuses to be read, one of a part without power says -256; zones of one type are numbered."""
    found = zones(("cpu-thermal", 42_500), ("CV0-therm", -256_000), ("cv1-thermal", 0), ("cpu-thermal", 44_000))
    root = tree(tmp_path, found)
    gated = root / "sys/class/thermal/thermal_zone2/temp"
    gated.unlink()
    gated.mkdir()  # reading a directory fails, as EAGAIN does
    assert state(root).temperatures_c == {
        "cpu-thermal": 42.5,
        "CV0-therm": None,
        "cv1-thermal": None,
        "cpu-thermal 2": 44,
    }
    assert StateFiles(root).hottest_c() == 44.0


@pytest.mark.parametrize("zone", ["gpu-thermal", "GPU-therm"])
def test_the_zone_of_the_gpu_is_found_by_its_type(tmp_path: Path, zone: str) -> None:
    assert StateFiles(tree(tmp_path, zones(("cpu-thermal", 60_000), (zone, 51_250)))).gpu_c() == 51.25


def test_fans_are_shares_of_full_speed(tmp_path: Path) -> None:
    files = {f"{HWMON}/hwmon2/name": "pwmfan", f"{HWMON}/hwmon2/pwm1": 102, f"{HWMON}/hwmon1/name": "ina3221"}
    assert state(tree(tmp_path, files)).fans == {"pwmfan": 0.4}
    assert state(tree(tmp_path / "r32", {"sys/devices/pwm-fan/target_pwm": 255})).fans == {"pwm-fan": 1.0}


def test_alerts_above_zero_hold_back_now(tmp_path: Path) -> None:
    """Other cooling devices, such as the fan, are no alerts."""
    files = StateFiles(tree(tmp_path, alerts(gpu=1, cpu=0)))
    assert files.read().throttle_alerts == {"gpu": 1, "cpu": 0}
    assert files.alerts() == {"thermal: gpu"}
    assert StateFiles(tree(tmp_path / "calm", alerts(gpu=0))).alerts() == frozenset()


def test_over_current_events_are_counted_since_boot(tmp_path: Path) -> None:
    assert state(tree(tmp_path, over_current(0, 15, 37))).over_current_events == {"oc1": 0, "oc2": 15, "oc3": 37}


def test_memory_is_what_a_process_can_have_and_not_what_is_free(tmp_path: Path) -> None:
    found = state(tree(tmp_path, meminfo(available_kb=2_000_000, swap_used_kb=1000)))
    assert (found.memory_available_bytes, found.swap_used_bytes) == (2_048_000_000, 1_024_000)
    assert StateFiles(tmp_path).memory_bytes() == 65_536_000_000


@pytest.mark.parametrize(
    "file",
    ["sys/devices/platform/gpu.0/load", "sys/devices/platform/bus@0/17000000.gpu/load", "sys/devices/gpu.0/load"],
)
def test_the_load_of_the_gpu_is_a_share(tmp_path: Path, file: str) -> None:
    assert StateFiles(tree(tmp_path, {file: 873})).gpu_load() == 0.873


def test_what_is_no_number_is_missing(tmp_path: Path) -> None:
    files = zones(("odd", 1)) | {"sys/class/thermal/thermal_zone0/temp": "hot"} | policy(0, 1, 1, 1)
    files |= {"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "<unknown>"}
    found = state(tree(tmp_path, files))
    assert found.temperatures_c == {"odd": None}
    assert found.clocks[0].now_hz is None


@pytest.mark.parametrize("said", ["9" * 400, "1_0", "٣", "0x10", "4e3", "--1"])
def test_what_no_register_can_hold_is_missing(tmp_path: Path, said: str) -> None:
    """An absurd figure must not end a suite."""
    tree(tmp_path, {f"{ZONES}/thermal_zone0/type": "gpu-thermal", f"{ZONES}/thermal_zone0/temp": said})
    assert StateFiles(tmp_path).read().temperatures_c == {"gpu-thermal": None}


def test_a_folder_that_may_not_be_looked_into_holds_nothing() -> None:
    """Root may look into every folder, so one that refuses stands in."""

    class Closed(type(Path())):
        def glob(self, pattern, **options):
            raise PermissionError(13, "Permission denied", str(self))

    assert matching(Closed("/sys/class/hwmon"), "hwmon[0-9]*") == []
