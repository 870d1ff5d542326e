"""GPM: averages between two samples, where they are supported and permitted; its samples are always freed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agent.meters.nvml import Nvml
from tests.fixtures.nvml import (
    BESIDE,
    GPM,
    NO_PERMISSION,
    NOT_SUPPORTED,
    PERIOD_S,
    POWER,
    FakeNvml,
    NvmlError,
    by_source,
    opened,
)


@pytest.mark.parametrize(
    "calls",
    [
        {"nvmlGpmQueryDeviceSupport": NvmlError("Function Not Found")},
        {"nvmlGpmQueryDeviceSupport": SimpleNamespace(isSupportedDevice=0)},
        {"nvmlGpmSampleGet": NvmlError(NO_PERMISSION)},
        {"nvmlGpmMetricsGet": NvmlError(NO_PERMISSION)},
    ],
    ids=["old driver", "not supported", "sampling not permitted", "metrics not permitted"],
)
def test_gpm_refused_costs_its_channels_alone(calls: dict[str, object]) -> None:
    """The reason is kept, and its samples are freed."""
    library = FakeNvml()
    library.calls.update(calls)
    meter = opened(library)
    assert [c.source for c in meter.channels] == POWER + BESIDE
    assert [line for line in meter.refused if line.startswith("GPM of gpu0: ")]
    assert library.samples == {}


def test_gpm_metric_refused_costs_that_metric_alone() -> None:
    library = FakeNvml()
    library.metrics[20] = library.metrics[21] = NvmlError(NOT_SUPPORTED)
    assert [c.source for c in opened(library).channels] == POWER + BESIDE + GPM[:4]


def test_gpm_figure_that_is_no_number_is_missing() -> None:
    """An idle stretch may give nothing over nothing."""
    library = FakeNvml()
    meter = opened(library)
    library.metrics[2] = float("nan")
    library.clock.sleep(1.0)
    values = by_source(meter)
    assert values["nvml.gpm.sm_util"] is None
    assert values["nvml.gpm.sm_occupancy"] is not None


def test_gpm_average_never_spans_a_failure() -> None:
    """After the GPU failed to give a sample, the next one only begins a new stretch."""
    library = FakeNvml()
    meter = opened(library)
    seen = []
    taken = library.calls["nvmlGpmSampleGet"]
    for answer in (NvmlError("GPU is lost"), taken, taken):
        library.calls["nvmlGpmSampleGet"] = answer
        library.clock.sleep(1.0)
        seen.append(by_source(meter)["nvml.gpm.sm_util"])
    assert seen == [None, None, pytest.approx(0.98)]


def test_gpm_is_not_asked_before_its_first_stretch_is_long_enough() -> None:
    """Right after opening there is nothing to average; a quarter of a second later there is."""
    library = FakeNvml()
    meter = opened(library)
    assert by_source(meter)["nvml.gpm.sm_util"] is None
    library.clock.sleep(0.26)
    assert by_source(meter)["nvml.gpm.sm_util"] == pytest.approx(0.98)


def test_close_frees_the_samples_once() -> None:
    """They are memory of the driver's; a second close finds nothing to free."""
    library = FakeNvml()
    meter = opened(library)
    assert len(library.samples) == 2
    meter.close()
    meter.close()
    assert library.samples == {}


@pytest.mark.gpu
def test_real_gpu_gives_gpm_or_says_why_not() -> None:
    real = Nvml(PERIOD_S)
    real.close()
    shown = any(c.source.startswith("nvml.gpm.") for c in real.channels)
    assert shown != any(line.startswith("GPM of ") for line in real.refused)
