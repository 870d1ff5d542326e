"""Facts and state, from a tree of the kernel's files and a stand-in for NVML."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.gpus import Gpus
from agent.host import Host, Observation, busy_cores, device_id
from agent.jetson.modes import PowerMode
from phasewatt.conditions import HostState
from phasewatt.errors import ConfigInvalid
from tests.fixtures.kernel_tree import alerts, devfreq, meminfo, tree, zones
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
    """A host without these files has no governor, clock, temperature or power mode, and its facts still stand."""
    host = Host("board", tmp_path, Gpus(FakeNvml({"nvmlDeviceGetCount": 0})))
    assert host.facts().model is None
    assert host.governor is None
    assert host.observe("cpu") == Observation(state=HostState())
    assert (host.facts().module, host.facts().carrier, host.facts().versions) == (None, None, {})


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
    assert host.observe("cuda", "GPU-1")[:3] == (1_980_000_000, 41.0, {"software power cap"})
    assert host.observe("cuda").temperature_c == 40.0


def _orin(root: Path) -> Path:
    files = {
        "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64, DATE: now",
        "var/lib/nvpmodel/status": "pmode:0000",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >",
    }
    files |= devfreq("17000000.gpu", 612_000_000, 306_000_000, 1_300_500_000) | alerts(gpu=1, cpu=0)
    return tree(root, files | zones(("cpu-thermal", 61_000), ("gpu-thermal", 55_500)) | meminfo(30_000_000))


def test_a_jetson_is_named_by_module_carrier_and_releases(tmp_path: Path) -> None:
    facts = Host("board", _orin(tmp_path)).facts()
    assert (facts.module, facts.carrier) == ("Jetson AGX Orin 64GB", "p3737-0000")
    assert facts.versions == {"l4t": "36.4.3", "jetpack": "6.2"}
    assert facts.memory_bytes == 65_536_000_000


def test_what_a_jetsons_nvml_does_not_tell_its_kernel_does(tmp_path: Path) -> None:
    """There NVML starts, counts one GPU and supports nothing: clock, temperature and throttling come from files."""
    library = FakeNvml()
    library.refuse_devices("Not Supported")
    host = Host("board", _orin(tmp_path), Gpus(library))
    seen = host.observe("cuda")
    assert seen[:3] == (612_000_000, 55.5, {"thermal: gpu"})
    assert seen.power_mode == PowerMode("MAXN", 0)
    assert seen.state == host.state_files.read()


def test_what_nvml_tells_of_throttling_and_what_the_kernel_does_are_both_told(tmp_path: Path) -> None:
    seen = Host("board", _orin(tmp_path), Gpus(FakeNvml())).observe("cuda")
    assert seen[:3] == (1_980_000_000, 40.0, {"software power cap", "thermal: gpu"})


def test_another_root_is_a_simulated_board_without_this_hosts_gpus(tmp_path: Path) -> None:
    host = Host("board", _orin(tmp_path))
    assert host.simulated
    assert (host.facts().gpus, host.gpus.driver()) == ((), None)
    assert not Host("board").simulated


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
