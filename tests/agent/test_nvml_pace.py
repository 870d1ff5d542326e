"""How often NVML is asked: each call by its cost, and costly ones of power when a reading is asked for closely."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agent.meters.nvml import Nvml
from tests.fixtures.nvml import PERIOD_S, FakeNvml, by_source, opened

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
COSTS_S = {  # as measured on an H200
    "nvmlDeviceGetFieldValues": 17e-6,
    "nvmlDeviceGetPowerUsage": 1e-6,
    "nvmlDeviceGetClockInfo": 5e-6,
    "nvmlDeviceGetUtilizationRates": 0.6e-3,
    COUNTER: 3.8e-3,
}


def _run(meter: Nvml, library: FakeNvml, seconds: float, closely: bool = False) -> None:
    """Read every 50 ms, or every 10 ms `closely`."""
    period_s = 0.01 if closely else PERIOD_S
    begun_s = library.clock.now_s
    for tick in range(round(seconds / period_s)):
        library.clock.now_s = max(library.clock.now_s, begun_s + tick * period_s)
        meter.read(closely)


def test_calls_are_made_as_often_as_their_cost_allows() -> None:
    """In 20 s of 400 readings: cheap ones each time, 0.6 ms each 0.6 s, 3.8 ms each 3.8 s, GPM each 0.25 s."""
    library = FakeNvml(costs_s=COSTS_S)
    meter = opened(library)
    library.asked.clear()
    _run(meter, library, 20.0)
    assert library.asked["nvmlDeviceGetFieldValues"] == 400
    assert library.asked["nvmlDeviceGetPowerUsage"] == 400
    assert library.asked["nvmlDeviceGetClockInfo"] == 400
    assert library.asked["nvmlDeviceGetCurrentClocksEventReasons"] == 400
    assert library.asked["nvmlDeviceGetTemperature"] == 400
    assert 30 <= library.asked["nvmlDeviceGetUtilizationRates"] <= 34
    assert library.asked[COUNTER] == 6
    assert 66 <= library.asked["nvmlGpmSampleGet"] <= 80


def test_power_is_read_each_time_though_a_slow_host_makes_it_dearer() -> None:
    """The share of time is for what is truly costly: 0.15 ms does not halve the rate of the samples."""
    library = FakeNvml(costs_s={"nvmlDeviceGetFieldValues": 0.15e-3})
    meter = opened(library)
    library.asked.clear()
    _run(meter, library, 5.0)
    assert library.asked["nvmlDeviceGetFieldValues"] == 100


def test_an_answer_out_of_a_cache_does_not_make_a_call_look_cheap() -> None:
    """The driver keeps some answers for some ms; what readings apart from each other pay is the cost."""
    library = FakeNvml()
    kept_until_s = [0.0]

    def utilisation(_: object) -> SimpleNamespace:
        if library.clock.now_s >= kept_until_s[0]:
            library.clock.sleep(0.6e-3)
            kept_until_s[0] = library.clock.now_s + 0.02
        return SimpleNamespace(gpu=87)

    library.calls["nvmlDeviceGetUtilizationRates"] = utilisation
    meter = opened(library)
    library.asked.clear()
    _run(meter, library, 20.0)
    assert 30 <= library.asked["nvmlDeviceGetUtilizationRates"] <= 34


def test_costly_gpm_is_spaced_by_its_cost() -> None:
    library = FakeNvml(costs_s={"nvmlGpmSampleGet": 0.4e-3, "nvmlGpmMetricsGet": 0.1e-3})
    meter = opened(library)
    library.asked.clear()
    _run(meter, library, 20.0)
    assert 36 <= library.asked["nvmlGpmSampleGet"] <= 40


def test_close_reading_makes_every_power_call_and_no_costly_one_beside() -> None:
    """Around the edge of a window the counter is read each time; utilisation and GPM are not."""
    library = FakeNvml(costs_s=COSTS_S)
    meter = opened(library)
    _run(meter, library, 1.0)
    library.asked.clear()
    _run(meter, library, 0.5, closely=True)
    assert library.asked["nvmlDeviceGetFieldValues"] == 50
    assert library.asked[COUNTER] == 50
    assert library.asked["nvmlDeviceGetUtilizationRates"] <= 1
    assert library.asked["nvmlGpmSampleGet"] <= 2


def test_close_reading_leaves_the_counters_of_other_gpus_at_their_pace() -> None:
    """On a host of eight, seven more counters would take longer than the time between two readings."""
    asked: list[int] = []
    library = FakeNvml({"nvmlDeviceGetCount": 2}, costs_s=COSTS_S)
    library.calls[COUNTER] = lambda handle: asked.append(handle) or 9_430_495
    meter = opened(library, "GPU-1")
    asked.clear()
    _run(meter, library, 0.5, closely=True)
    assert (asked.count(0), asked.count(1)) == (1, 50)


def test_close_readings_do_not_bring_ordinary_ones_forward() -> None:
    """The counter's own pace is kept by time: reading closely for a while does not count as so many ordinary turns."""
    library = FakeNvml(costs_s=COSTS_S)
    meter = opened(library)
    _run(meter, library, 1.0, closely=True)
    library.asked.clear()
    _run(meter, library, 3.0)
    assert library.asked[COUNTER] == 0
    _run(meter, library, 2.0)
    assert library.asked[COUNTER] == 1


def test_cheap_calls_come_before_costly_ones() -> None:
    """A row has one time, so the counter of one GPU must not delay the power of the next."""
    order: list[str] = []
    library = FakeNvml({"nvmlDeviceGetCount": 2}, costs_s=COSTS_S)
    meter = opened(library)
    library.calls["nvmlDeviceGetPowerUsage"] = lambda handle: order.append("power") or 154_527
    library.calls[COUNTER] = lambda handle: order.append("counter") or 9_430_495
    meter.read(closely=True)
    assert order == ["power", "power", "counter", "counter"]


def test_a_call_not_due_is_missing_and_not_repeated() -> None:
    """An old value under a new time would be a wrong update."""
    library = FakeNvml(costs_s=COSTS_S)
    meter = opened(library)
    assert by_source(meter)["nvml.total_energy"] == pytest.approx(9430.495)
    library.clock.sleep(PERIOD_S)
    assert by_source(meter)["nvml.total_energy"] is None
