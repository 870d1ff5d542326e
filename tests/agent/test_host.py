"""Facts and state, from a tree of the kernel's files and a stand-in for NVML."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.gpus import Gpus
from agent.host import Host, busy_cores, device_id
from phasewatt.errors import ConfigInvalid
from tests.fixtures.nvml import FakeNvml


def _tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_model_is_the_boards_own_name(tmp_path: Path) -> None:
    """A device tree's string ends with a zero byte, which is no part of the name."""
    root = _tree(tmp_path, **{"proc__device-tree__model": "NVIDIA Jetson AGX Orin Developer Kit\0"})
    facts = Host("board", root, Gpus(FakeNvml({"nvmlDeviceGetCount": 0}))).facts()
    assert facts.model == "NVIDIA Jetson AGX Orin Developer Kit"


def test_absent_files_are_missing_and_not_empty(tmp_path: Path) -> None:
    """A host without these files has no governor, clock or temperature, and its facts still stand."""
    host = Host("board", tmp_path, Gpus(FakeNvml({"nvmlDeviceGetCount": 0})))
    assert host.facts().model is None
    assert host.governor is None
    assert host.observe("cpu") == (None, None, None)


def test_hottest_zone_is_the_temperature_and_gated_zones_are_passed_over(tmp_path: Path) -> None:
    """Zones in thousandths of a degree; one that cannot be read does not hide the others."""
    root = _tree(
        tmp_path,
        **{
            "sys__class__thermal__thermal_zone0__temp": "42500\n",
            "sys__class__thermal__thermal_zone1__temp": "51250\n",
        },
    )
    (root / "sys/class/thermal/thermal_zone2/temp").mkdir(parents=True)  # reading a directory fails
    assert Host("board", root, Gpus(FakeNvml({"nvmlDeviceGetCount": 0}))).temperature_c() == 51.25


def test_state_is_that_of_the_gpu_that_does_the_work(tmp_path: Path) -> None:
    """Of two GPUs, the named one's clock, temperature and throttling; without a name the first one's."""
    two = FakeNvml({"nvmlDeviceGetCount": 2, "nvmlDeviceGetTemperature": lambda handle, sensor: 40 + handle})
    host = Host("board", tmp_path, Gpus(two))
    assert host.observe("cuda", "GPU-1") == (1_980_000_000, 41.0, {"software power cap"})
    assert host.observe("cuda").temperature_c == 40.0


def test_device_id_is_made_once_and_kept(tmp_path: Path) -> None:
    """The same name at every start, whether made here or given."""
    first = device_id(tmp_path, None)
    assert device_id(tmp_path, None) == first
    (tmp_path / "other").mkdir()
    assert device_id(tmp_path / "other", "orin-lab-1") == "orin-lab-1"
    assert device_id(tmp_path / "other", None) == "orin-lab-1"


def test_a_directory_keeps_to_one_device(tmp_path: Path) -> None:
    """Its records carry the first name, so another one is refused; what is no name leaves nothing behind."""
    with pytest.raises(ConfigInvalid, match="expected up to 64 letters"):
        device_id(tmp_path, "a b")
    device_id(tmp_path, "orin-lab-1")
    with pytest.raises(ConfigInvalid, match="holds the records of 'orin-lab-1', not of 'orin-lab-2'"):
        device_id(tmp_path, "orin-lab-2")


def test_busy_cores_notices_work() -> None:
    """A spinning stretch counts as about a core more than a sleeping one."""

    def spin(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    assert busy_cores(0.5, spin) > 0.5


def test_clock_quality_is_the_kernels_word() -> None:
    """True, False, or None where the kernel does not tell; never a guess of a bound."""
    clock = Host("board").clock()
    assert clock.synchronised in (True, False, None)
    assert clock.offset_bound_s is None


def test_boot_id_is_this_boots() -> None:
    """As the kernel gives it."""
    expected = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert Host("board").boot_id == expected
