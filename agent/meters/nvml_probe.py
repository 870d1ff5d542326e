"""Which GPUs and which calls of NVML answer on this host, and what a call costs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from agent.gpus import whole_gpu
from agent.meters.gpm import SPACING_S, Gpm
from agent.meters.nvml_calls import Call, Gpu, gpm_call, power_calls, side_calls
from phasewatt.errors import MeterUnavailable

Answer = TypeVar("Answer")

_ROUNDS = 3


class Probe:
    """Asks each call once before it is relied on; `refused` says which do not answer, and why."""

    def __init__(self, nvml: Any, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self._nvml = nvml
        self._clock = clock
        self._pause = pause
        self.refused: list[str] = []
        self.gpms: list[Gpm] = []  # to be closed by who uses them

    def gpus(self, uuid: str) -> list[Gpu]:
        """Every GPU that has a handle; the one named by `uuid` counts, or several with "+" between, or all without.

        Raises:
            MeterUnavailable: NVML does not count its GPUs, or knows none of that name.
        """
        named = {self._uuid_of(each) for each in uuid.split("+")} if uuid else None
        found = []
        for index in range(self._count()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                counts = named is None or self._nvml.nvmlDeviceGetUUID(handle) in named
            except self._nvml.NVMLError as error:
                self.refused.append(f"gpu{index}: {error}")
                continue
            found.append(Gpu(index, handle, counts, alone=True))
        alone = sum(gpu.counts for gpu in found) == 1
        return [gpu._replace(alone=alone) for gpu in found]

    def calls(self, gpu: Gpu) -> Iterator[Call]:
        """The calls that this GPU answers; those beside power only if it counts."""
        seen = set()
        for call in power_calls(self._nvml, gpu):
            reading = (call.gpu, call.channels[0].scope, call.channels[0].reading)
            if reading not in seen and self._answers(call):
                seen.add(reading)
                yield call
        if gpu.counts:
            yield from filter(self._answers, side_calls(self._nvml, gpu))
            yield from self._gpm_calls(gpu)

    def costs_s(self, calls: Sequence[Call]) -> list[float]:
        """What each call takes: the least of some rounds, apart from each other since some answers are cached."""
        rounds = []
        for _ in range(_ROUNDS):
            self._pause(SPACING_S)
            rounds.append([self._cost_s(call) for call in calls])
        return [min(costs_s) for costs_s in zip(*rounds, strict=True)]

    def driver(self) -> str | None:
        """Version of the driver."""
        return self._told(lambda: str(self._nvml.nvmlSystemGetDriverVersion()))

    def mode(self, gpu: Gpu) -> str | None:
        """What else decides how the GPU's power and its sensors behave: "limit 700 W, MIG"."""
        limit_w = self._told(lambda: self._nvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle) * 1e-3)
        divided = self._told(lambda: bool(self._nvml.nvmlDeviceGetMigMode(gpu.handle)[0]))
        words = [] if limit_w is None else [f"limit {limit_w:.0f} W"]
        return ", ".join([*words, "MIG"] if divided else words) or None

    def _told(self, ask: Callable[[], Answer]) -> Answer | None:
        try:
            return ask()
        except self._nvml.NVMLError:
            return None

    def _answers(self, call: Call) -> bool:
        try:
            call.ask()
        except self._nvml.NVMLError as error:
            self.refused.append(f"{call.source} of {call.gpu}: {error}")
            return False
        return True

    def _gpm_calls(self, gpu: Gpu) -> Iterator[Call]:
        try:
            gpm = Gpm(self._nvml, gpu.handle, self._pause)
        except self._nvml.NVMLError as error:
            self.refused.append(f"GPM of {gpu.name}: {error}")
            return
        self.gpms.append(gpm)
        yield gpm_call(gpu, gpm)

    def _cost_s(self, call: Call) -> float:
        started_s = self._clock()
        with contextlib.suppress(self._nvml.NVMLError):  # it did answer: what it says now is the reader's to judge
            call.ask()
        return self._clock() - started_s

    def _uuid_of(self, uuid: str) -> str:
        try:
            return str(self._nvml.nvmlDeviceGetUUID(whole_gpu(self._nvml, uuid)))
        except self._nvml.NVMLError as error:
            raise MeterUnavailable(f"NVML finds no GPU {uuid!r} ({error}); `nvidia-smi -L` lists them") from error

    def _count(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            raise MeterUnavailable(f"NVML does not count its GPUs: {error}") from error
