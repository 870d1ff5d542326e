"""State of the GPUs, of the one that does the work, from a stand-in for NVML."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agent.gpus import Gpus, held_back
from phasewatt.throttling import THROTTLES, reasons
from tests.fixtures.nvml import NOT_SUPPORTED, FakeNvml, NvmlError


def test_state_is_in_si_units_and_throttling_in_words() -> None:
    """MHz become Hz; bits become their names; bits that are no throttle (idle) are not told."""
    gpus = Gpus(FakeNvml({"nvmlDeviceGetCurrentClocksEventReasons": 0x1 | 0x4 | 0x40}))
    assert gpus.clock_hz() == 1_980_000_000
    assert gpus.temperature_c() == 40.0
    assert gpus.power_limit_w() == 700.0
    assert gpus.utilisation() == 0.87
    assert gpus.memory_used_bytes() == 629_145_600
    assert gpus.throttled() == {"software power cap", "hardware thermal"}


def test_processes_of_others_are_counted() -> None:
    """On all GPUs of the host; the engine's own is left out."""
    running = [SimpleNamespace(pid=7), SimpleNamespace(pid=8)]
    gpus = Gpus(FakeNvml({"nvmlDeviceGetComputeRunningProcesses": running}))
    assert gpus.processes() == 2
    assert gpus.processes(besides=8) == 1


def test_a_renumbered_engine_is_not_taken_for_another_process() -> None:
    """In a container the driver's process ids are not ours: the engine, which works there, is one of those listed."""
    running = [SimpleNamespace(pid=7), SimpleNamespace(pid=8)]
    gpus = Gpus(FakeNvml({"nvmlDeviceGetComputeRunningProcesses": running}))
    assert gpus.processes(besides=99, is_working=True) == 1
    assert gpus.processes(besides=99, is_working=False) == 2
    none = Gpus(FakeNvml({"nvmlDeviceGetComputeRunningProcesses": []}))
    assert none.processes(besides=99, is_working=True) == 0


@pytest.mark.parametrize("state", [True, False])
def test_conditions_are_what_holds_now(state: bool) -> None:
    """ECC and MIG are told as now and as after the next start; now counts."""
    pair = [int(state), int(not state)]
    gpus = Gpus(
        FakeNvml(
            {"nvmlDeviceGetEccMode": pair, "nvmlDeviceGetPersistenceMode": int(state), "nvmlDeviceGetMigMode": pair}
        )
    )
    assert (gpus.ecc(), gpus.persistence(), gpus.mig()) == (state, state, state)


def test_conditions_that_are_not_answered_are_missing() -> None:
    """A GPU without ECC or MIG does not answer to them: that is not off."""
    library = FakeNvml()
    library.refuse_devices("Not Supported")
    gpus = Gpus(library)
    assert (gpus.ecc(), gpus.persistence(), gpus.mig()) == (None, None, None)
    assert (gpus.clock_hz(), gpus.throttled(), gpus.processes()) == (None, None, None)


def test_a_refused_call_is_missing_and_the_others_still_answer() -> None:
    """A Jetson's NVML supports next to nothing."""
    gpus = Gpus(FakeNvml({"nvmlDeviceGetClockInfo": NvmlError(NOT_SUPPORTED)}))
    assert gpus.clock_hz() is None
    assert gpus.temperature_c() == 40.0


def test_the_named_gpu_is_the_one_that_works() -> None:
    """Its limit and state, not the first one's; who asks without a name gets the first one's."""
    limits_mw = [700_000, 500_000]
    library = FakeNvml({"nvmlDeviceGetCount": 2, "nvmlDeviceGetEnforcedPowerLimit": lambda handle: limits_mw[handle]})
    gpus = Gpus(library)
    assert gpus.of("GPU-1").power_limit_w() == 500.0
    assert gpus.of(None).power_limit_w() == gpus.power_limit_w() == 700.0
    assert len(gpus.of("GPU-1").facts()) == 2


def test_a_name_that_no_gpu_has_gives_no_figures() -> None:
    """Those of another GPU would be taken for the work's."""
    gpus = Gpus(FakeNvml()).of("GPU-7")
    assert gpus.power_limit_w() is None
    assert gpus.throttled() is None
    assert gpus.driver() == "580.159.04"


def test_a_mig_device_has_the_state_of_its_whole_gpu() -> None:
    library = FakeNvml(
        {
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetHandleByUUID": {"MIG-7": "part"}.__getitem__,
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": {"part": 1}.__getitem__,
            "nvmlDeviceGetTemperature": lambda handle, sensor: 40 + handle,
        }
    )
    assert Gpus(library).of("MIG-7").temperature_c() == 41.0


def test_no_gpu_is_nothing_rather_than_an_error() -> None:
    """Without a driver there are no GPUs and no figures."""
    gpus = Gpus(FakeNvml({"nvmlInit": NvmlError("Driver Not Loaded")}))
    assert gpus.facts() == ()
    assert gpus.driver() is None
    assert gpus.processes() is None
    assert gpus.throttled() is None
    assert gpus.of("GPU-0").ecc() is None


@pytest.mark.parametrize(("bit", "name"), THROTTLES.items(), ids=THROTTLES.values())
def test_each_throttle_is_known_by_its_bit(bit: int, name: str) -> None:
    assert reasons(bit) == (name,)
    assert held_back(bit) == {name}


def test_reasons_that_cost_no_speed_are_none() -> None:
    """Idle, clocks set by a user, sync boost and a display's setting; nothing at all."""
    assert reasons(0x1 | 0x2 | 0x10 | 0x100) == reasons(0) == ()


def test_reasons_are_told_together_in_the_order_of_their_bits() -> None:
    assert reasons(0x80 | 0x1 | 0x4) == ("software power cap", "power brake")


@pytest.mark.gpu
def test_real_gpu_facts_and_conditions() -> None:
    """On a host with a GPU: name, memory, limit and state are known, by its UUID too."""
    gpus = Gpus()
    first, *_ = gpus.facts()
    assert first.memory_bytes
    assert first.power_limit_w
    named = gpus.of(first.uuid)
    assert named.power_limit_w() == first.power_limit_w
    assert named.persistence() is not None
    assert named.throttled() is not None
