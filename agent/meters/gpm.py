"""How busy a GPU's parts are (NVML's GPM, Hopper and newer): averages between two samples of its own counters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

SPACING_S = 0.1  # nearer samples give no figures. Source: nvml.h, nvmlGpmMetricsGet


class Metric(NamedTuple):
    """One figure of GPM: its number in nvml.h, our name and unit, and what makes that unit of it."""

    number: int
    source: str
    unit: str
    factor: float


METRICS = (
    Metric(2, "nvml.gpm.sm_util", "1", 1e-2),
    Metric(5, "nvml.gpm.tensor_util", "1", 1e-2),
    Metric(10, "nvml.gpm.dram_bw_util", "1", 1e-2),
    Metric(3, "nvml.gpm.sm_occupancy", "1", 1e-2),
    Metric(20, "nvml.gpm.pcie_tx", "B/s", 2.0**20),  # from the GPU
    Metric(21, "nvml.gpm.pcie_rx", "B/s", 2.0**20),
)


class Gpm:
    """The metrics that one GPU gives, each an average since the reading before. Must be closed before NVML is.

    Raises `nvml.NVMLError` where it is not supported or not permitted.
    """

    def __init__(self, nvml: Any, device: Any, pause: Callable[[float], None] = time.sleep) -> None:
        self._nvml = nvml
        self._device = device
        self._samples: list[Any] = []
        self._primed = False
        self.metrics: tuple[Metric, ...] = METRICS
        if not nvml.nvmlGpmQueryDeviceSupport(device).isSupportedDevice:
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
        try:
            self._probe(pause)
        except nvml.NVMLError:
            self.close()
            raise

    def read(self) -> tuple[float | None, ...]:
        """One value a metric; all None the first time, and the first time after a failure."""
        pair = self._next_pair()
        if pair is None:
            return (None,) * len(self.metrics)
        answers = self._between(*pair)
        return tuple(self._value(metric, answer) for metric, answer in zip(self.metrics, answers, strict=True))

    def close(self) -> None:
        """Free the samples."""
        while self._samples:
            self._nvml.nvmlGpmSampleFree(self._samples.pop())

    def _probe(self, pause: Callable[[float], None]) -> None:
        """Take two samples, and keep the metrics that are answered."""
        for _ in range(2):
            self._samples.append(self._nvml.nvmlGpmSampleAlloc())
        self._next_pair()
        pause(SPACING_S)
        self._next_pair()
        answers = self._between(*reversed(self._samples))
        self.metrics = tuple(m for m, answer in zip(METRICS, answers, strict=True) if self._is_answered(answer))
        if not self.metrics:
            raise self._nvml.NVMLError(answers[0].nvmlReturn)

    def _next_pair(self) -> tuple[Any, Any] | None:
        """The sample before and one of now."""
        primed, self._primed = self._primed, False  # an average across a failure is not one of now
        before, now = self._samples
        self._nvml.nvmlGpmSampleGet(self._device, now)
        self._samples.reverse()  # what was before is overwritten next
        self._primed = True
        return (before, now) if primed else None

    def _between(self, before: Any, now: Any) -> list[Any]:
        request = self._nvml.c_nvmlGpmMetricsGet_t()
        request.version = self._nvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(self.metrics)
        request.sample1, request.sample2 = before, now
        for place, metric in enumerate(self.metrics):
            request.metrics[place].metricId = metric.number
        self._nvml.nvmlGpmMetricsGet(request)
        return list(request.metrics[: len(self.metrics)])

    def _value(self, metric: Metric, answer: Any) -> float | None:
        """The answer in the metric's unit; None where it is refused this time, or is no number."""
        if not self._is_answered(answer) or not math.isfinite(answer.value):
            return None
        return float(answer.value) * metric.factor

    def _is_answered(self, answer: Any) -> bool:
        return bool(answer.nvmlReturn == self._nvml.NVML_SUCCESS)
