"""NVML: every call by itself, each figure with its scope, and the GPU that counts; what does not answer is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from agent.meters.nvml import Nvml
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading, Scope
from tests.fixtures.nvml import BESIDE, GPM, NOT_SUPPORTED, PERIOD_S, POWER, FakeNvml, NvmlError, by_source, opened

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"


def test_every_channel_has_its_own_source_unit_and_scope() -> None:
    """Watts, joules and what stands beside them are never told apart by position."""
    told = {c.source: (c.reading, c.unit, c.scope) for c in opened(FakeNvml()).channels}
    instant, average = Reading.INSTANT, Reading.AVERAGE
    assert told == {
        "nvml.field186": (instant, "W", Scope.GPU_BOARD),
        "nvml.power_usage": (average, "W", Scope.GPU_BOARD),
        "nvml.total_energy": (Reading.COUNTER, "J", Scope.GPU_BOARD),
        "nvml.sm_clock": (instant, "Hz", None),
        "nvml.clock_event_reasons": (instant, "bits", None),
        "nvml.temperature": (instant, "degC", None),
        "nvml.utilisation": (average, "1", None),
        "nvml.gpm.sm_util": (average, "1", None),
        "nvml.gpm.tensor_util": (average, "1", None),
        "nvml.gpm.dram_bw_util": (average, "1", None),
        "nvml.gpm.sm_occupancy": (average, "1", None),
        "nvml.gpm.pcie_tx": (average, "B/s", None),
        "nvml.gpm.pcie_rx": (average, "B/s", None),
    }


def test_values_are_in_si_units() -> None:
    """The driver's mW, mJ, MHz, percent and MiB/s end here."""
    library = FakeNvml()
    meter = opened(library)
    library.clock.sleep(1.0)
    assert by_source(meter) == pytest.approx(
        {
            "nvml.field186": 135.403,
            "nvml.power_usage": 154.527,
            "nvml.total_energy": 9430.495,
            "nvml.sm_clock": 1.98e9,
            "nvml.clock_event_reasons": 4.0,
            "nvml.temperature": 40.0,
            "nvml.utilisation": 0.87,
            "nvml.gpm.sm_util": 0.98,
            "nvml.gpm.tensor_util": 0.625,
            "nvml.gpm.dram_bw_util": 0.44,
            "nvml.gpm.sm_occupancy": 0.31,
            "nvml.gpm.pcie_tx": 3 * 2**20,
            "nvml.gpm.pcie_rx": 2 * 2**20,
        }
    )


def test_driver_and_mode_say_what_sensor_cards_hold_for() -> None:
    """Another limit or a divided GPU is another mode; what is not answered is left out."""
    meter = opened(FakeNvml())
    assert (meter.driver, meter.mode) == ("580.159.04", "limit 700 W")
    assert opened(FakeNvml({"nvmlDeviceGetMigMode": [1, 1]})).mode == "limit 700 W, MIG"
    refused = NvmlError(NOT_SUPPORTED)
    divided = FakeNvml({"nvmlDeviceGetMigMode": [1, 1], "nvmlDeviceGetEnforcedPowerLimit": refused})
    assert opened(divided).mode == "MIG"
    silent = FakeNvml({"nvmlSystemGetDriverVersion": refused, "nvmlDeviceGetEnforcedPowerLimit": refused})
    assert (opened(silent).driver, opened(silent).mode) == (None, None)


def test_jetson_is_unavailable_with_each_refusal() -> None:
    """It initialises, counts one device, and supports no call of that: no meter, and nothing is left open."""
    library = FakeNvml()
    library.refuse_devices("Not Supported")
    with pytest.raises(MeterUnavailable, match=r"answers, but not to power: nvml\.field186 of gpu0: Not Supported"):
        opened(library)
    assert library.asked["nvmlShutdown"] == 1
    assert library.samples == {}


def test_thor_that_answers_to_utilisation_alone_is_no_meter() -> None:
    library = FakeNvml({name: NvmlError(NOT_SUPPORTED) for name in ("nvmlDeviceGetPowerUsage", COUNTER)})
    library.fields.clear()
    with pytest.raises(MeterUnavailable, match="not to power"):
        opened(library)
    assert library.samples == {}


def test_only_the_refused_calls_are_left_out_and_named() -> None:
    """A GPU without field 186 still has its counter; a refusal inside the answer is one too."""
    library = FakeNvml({"nvmlDeviceGetTemperature": NvmlError(NOT_SUPPORTED)})
    library.fields.clear()
    meter = opened(library)
    left = [source for source in POWER + BESIDE + GPM if source not in ("nvml.field186", "nvml.temperature")]
    assert [c.source for c in meter.channels] == left
    assert meter.refused == ("nvml.field186 of gpu0: Not Supported", "nvml.temperature of gpu0: Not Supported")


def test_driver_before_535_tells_its_reasons_by_their_old_name() -> None:
    library = FakeNvml(
        {
            "nvmlDeviceGetCurrentClocksEventReasons": NvmlError("Function Not Found"),
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x20,
        }
    )
    assert by_source(opened(library))["nvml.clock_event_reasons"] == 0x20


def test_the_named_gpu_alone_counts_and_has_side_channels() -> None:
    """Of two GPUs, the one that does the work makes the total; the other's power is shown."""
    library = FakeNvml({"nvmlDeviceGetCount": 2})
    channels = opened(library, "GPU-1").channels
    assert {c.name for c in channels if c.parts_of_total} == {"gpu1"}
    assert {c.name for c in channels if c.scope is None} == {"gpu1"}
    assert {c.name for c in channels} == {"gpu0", "gpu1"}
    assert {c.name for c in opened(library).channels if c.parts_of_total} == {"gpu0", "gpu1"}


def test_the_gpus_that_share_a_model_count_together() -> None:
    """Their boards' power is added; a third one's is shown."""
    channels = opened(FakeNvml({"nvmlDeviceGetCount": 3}), "GPU-0+GPU-2").channels
    assert {c.name for c in channels if c.parts_of_total} == {"gpu0", "gpu2"}
    assert {c.name for c in channels} == {"gpu0", "gpu1", "gpu2"}


def test_the_mode_is_that_of_all_gpus_whichever_counts() -> None:
    """Equal ones are told once. A card that was found with all GPUs must hold where one of them works."""
    limits_mw = [700_000, 700_000, 500_000]
    library = FakeNvml({"nvmlDeviceGetCount": 3, "nvmlDeviceGetEnforcedPowerLimit": lambda handle: limits_mw[handle]})
    assert opened(library).mode == "limit 700 W; limit 500 W"
    assert opened(library, "GPU-2").mode == "limit 700 W; limit 500 W"


def test_unknown_uuid_is_unavailable_with_the_remedy() -> None:
    """It must not count nothing in silence."""
    library = FakeNvml()
    with pytest.raises(MeterUnavailable, match=r"finds no GPU 'GPU-7' \(Not Found\); `nvidia-smi -L` lists them"):
        opened(library, "GPU-7")
    assert library.asked["nvmlShutdown"] == 1


def test_named_gpu_that_refuses_power_is_unavailable_though_another_answers() -> None:
    def refusing(handle: int) -> int:
        if handle == 1:
            raise NvmlError(NOT_SUPPORTED)
        return 154_527

    library = FakeNvml({"nvmlDeviceGetCount": 2, "nvmlDeviceGetPowerUsage": refusing, COUNTER: refusing})
    library.fields.clear()
    with pytest.raises(MeterUnavailable, match=r"nvml\.power_usage of gpu1: Not Supported"):
        opened(library, "GPU-1")


@pytest.mark.parametrize("argument", ["MIG-7", "GPU-7"])
def test_a_mig_device_stands_for_its_whole_gpu(argument: str) -> None:
    """Power is only known of the whole; CUDA names a part without saying that it is one."""

    def handle_of(uuid: str) -> str:
        if uuid != "MIG-7":
            raise NvmlError("Not Found")
        return "part"

    library = FakeNvml(
        {
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetHandleByUUID": handle_of,
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": {"part": 1}.__getitem__,
            "nvmlDeviceGetMigMode": [1, 1],
        }
    )
    meter = opened(library, argument)
    assert {c.name for c in meter.channels if c.parts_of_total} == {"gpu1"}
    assert meter.mode == "limit 700 W, MIG"


@pytest.mark.parametrize(("capability", "reading"), [((8, 0), Reading.INSTANT), ((8, 6), Reading.AVERAGE)])
def test_power_usage_is_averaged_on_newer_chips_only(capability: tuple[int, int], reading: Reading) -> None:
    """An A100 gives the moment, later chips a mean of one second, by one and the same call."""
    library = FakeNvml({"nvmlDeviceGetCudaComputeCapability": capability})
    library.fields.clear()
    told = {c.source: c.reading for c in opened(library).channels}
    assert told["nvml.power_usage"] is reading


def test_an_a100_does_not_count_its_instant_power_twice() -> None:
    """Two calls for one reading of one scope would be summed."""
    meter = opened(FakeNvml({"nvmlDeviceGetCudaComputeCapability": (8, 0)}))
    assert [c.source for c in meter.channels if c.unit == "W"] == ["nvml.field186"]


def test_unknown_chip_is_taken_to_average() -> None:
    library = FakeNvml({"nvmlDeviceGetCudaComputeCapability": NvmlError(NOT_SUPPORTED)})
    told = {c.source: c.reading for c in opened(library).channels}
    assert told["nvml.power_usage"] is Reading.AVERAGE


@pytest.mark.parametrize("name", ["NVIDIA GH200 480GB", "NVIDIA GB200", "NVIDIA GB300"])
def test_beside_a_grace_cpu_each_figure_has_the_scope_that_was_asked_for(name: str) -> None:
    """Usage and counter may be the module's; only the instant power says which it is."""
    library = FakeNvml({"nvmlDeviceGetName": name})
    library.fields[186, 1] = 310_000
    channels = [c for c in opened(library).channels if c.scope is not None]
    assert [(c.name, c.source, c.scope) for c in channels] == [
        ("gpu0", "nvml.field186", Scope.GPU_BOARD),
        ("module0", "nvml.field186.module", Scope.MODULE),
        ("gpu0", "nvml.power_usage", Scope.UNKNOWN),
        ("gpu0", "nvml.total_energy", Scope.UNKNOWN),
    ]
    assert by_source(opened(library))["nvml.field186.module"] == 310.0


def test_module_power_of_several_gpus_is_not_summed() -> None:
    """Two GPUs may share one module, and each would tell all of it."""
    library = FakeNvml({"nvmlDeviceGetName": "NVIDIA GB200", "nvmlDeviceGetCount": 2})
    library.fields[186, 1] = 310_000
    of_modules = [c for c in opened(library).channels if c.scope is Scope.MODULE]
    assert [c.parts_of_total for c in of_modules] == [False, False]
    of_modules = [c for c in opened(library, "GPU-1").channels if c.scope is Scope.MODULE]
    assert [(c.name, c.parts_of_total) for c in of_modules] == [("module0", False), ("module1", True)]


def test_module_power_is_not_asked_where_there_is_no_grace() -> None:
    """A B200 or H200 has no module of that kind, whatever its field would answer."""
    for name in ("NVIDIA H200", "NVIDIA B200", "NVIDIA A100-SXM4-80GB", NvmlError(NOT_SUPPORTED)):
        library = FakeNvml({"nvmlDeviceGetName": name})
        library.fields[186, 1] = 310_000
        assert Scope.MODULE not in {c.scope for c in opened(library).channels}


def test_a_lost_gpu_is_missing_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line when it goes and one when it is back, however many calls and ticks lie between."""
    library = FakeNvml({"nvmlDeviceGetCount": 2})
    meter = opened(library)
    answers = dict(library.calls)
    with caplog.at_level(logging.WARNING):
        library.refuse_devices("GPU is lost")
        gone = [meter.read(closely=True) for _ in range(5)]
        library.calls = answers
        library.clock.sleep(1.0)
        meter.read()
        library.clock.sleep(1.0)
        back = meter.read()
    assert {value for row in gone for value in row} == {None}
    assert None not in back
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "gpu0",
        "gpu1",
        "gpu0 answers again, after",
        "gpu1 answers again, after",
    ]


def test_one_call_that_fails_costs_its_own_value_alone(caplog: pytest.LogCaptureFixture) -> None:
    library = FakeNvml()
    meter = opened(library)
    library.calls["nvmlDeviceGetPowerUsage"] = NvmlError("Unknown Error")
    for _ in range(3):
        values = by_source(meter)
    assert values["nvml.power_usage"] is None
    assert values["nvml.field186"] is not None
    assert [r.getMessage() for r in caplog.records] == [
        "gpu0: Unknown Error: nvml.power_usage reads as missing from now on"
    ]


def test_a_counter_that_runs_backwards_is_passed_on_as_it_is() -> None:
    """To judge it is the energy function's part; hiding it here would look like no energy."""
    library = FakeNvml()
    meter = opened(library)
    meter.read()
    library.calls[COUNTER] = 100
    assert by_source(meter)["nvml.total_energy"] == pytest.approx(0.1)


def test_nvml_that_does_not_start_is_unavailable() -> None:
    with pytest.raises(MeterUnavailable, match="no NVIDIA driver here"):
        opened(FakeNvml({"nvmlInit": NvmlError("Driver Not Loaded")}))


def test_a_gpu_without_handle_is_passed_over() -> None:
    """A handle that is refused costs that GPU; a count that is refused costs the meter."""

    def handle_of(index: int) -> int:
        if index == 0:
            raise NvmlError("GPU is lost")
        return index

    meter = opened(FakeNvml({"nvmlDeviceGetCount": 2, "nvmlDeviceGetHandleByIndex": handle_of}))
    assert {c.name for c in meter.channels} == {"gpu1"}
    assert meter.refused == ("gpu0: GPU is lost",)
    with pytest.raises(MeterUnavailable, match="gpu0: GPU is lost"):
        opened(FakeNvml({"nvmlDeviceGetHandleByIndex": NvmlError("GPU is lost")}))
    with pytest.raises(MeterUnavailable, match="does not count"):
        opened(FakeNvml({"nvmlDeviceGetCount": NvmlError("Unknown Error")}))


@pytest.fixture
def real() -> Iterator[Nvml]:
    meter = Nvml(PERIOD_S)
    yield meter
    meter.close()


@pytest.mark.gpu
def test_real_gpu_answers_on_every_channel(real: Nvml) -> None:
    """Within four seconds of ordinary readings each channel has shown a value, the counter too."""
    seen: dict[str, float] = {}
    for _ in range(90):
        seen |= {source: value for source, value in by_source(real).items() if value is not None}
        time.sleep(PERIOD_S)
    assert set(seen) == {c.source for c in real.channels} >= {"nvml.power_usage", "nvml.sm_clock"}
    assert 10 < seen["nvml.power_usage"] < 2000
    assert 100e6 < seen["nvml.sm_clock"] < 4e9
    assert real.driver
    assert real.mode


@pytest.mark.gpu
def test_real_gpu_read_closely_gives_its_counter_each_time(real: Nvml) -> None:
    values = [by_source(real, closely=True)["nvml.total_energy"] for _ in range(20)]
    assert None not in values
    assert values == sorted(values, key=lambda value: value or 0.0)
