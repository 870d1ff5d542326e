"""An engine without a model: it waits as long as a stated device would take. For tests and for trying things out.

Whatever it measures is marked simulated.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager

from agent import memory, models
from agent.orders import (
    Burn,
    Burned,
    CeilingMeasured,
    Described,
    Load,
    Loaded,
    MeasureCeiling,
    ProfileOperators,
    Prompt,
    Resolve,
)
from phasewatt import operators, quantization, roofline
from phasewatt.errors import EngineFailed
from phasewatt.fields import Phase
from phasewatt.profiles import OperatorProfile, OperatorTime
from phasewatt.records import MemoryUse
from phasewatt.work import Architecture

_FLOP_PER_S = 20e12
_BYTES_PER_S = 200e9
_LAUNCH_S = 20e-6


class Fake:
    """See `Engine`; a token is the depth of the cache."""

    simulated = True

    def __init__(self) -> None:
        self._weight_bytes = 0
        self._parameters = 0
        self._batch = self._tokens = self._depth = 0
        self._shape: Architecture | None = None
        self._dtype = "float32"

    def describe(self, order: Resolve) -> Described:
        """See `Engine.describe`."""
        if not order.weights.startswith("random:"):
            raise EngineFailed(f"engine fake has no use for weights {order.weights!r}; expected random:SEED")
        return Described(
            architecture=models.named(order.model),
            accelerator="fake",
            processor="simulated",
            gpu_uuid=None,
            memory_free_bytes=memory.available_bytes(),
            versions={},
            simulated=True,
        )

    def load(self, order: Load) -> Loaded:
        """See `Engine.load`."""
        self._shape, self._dtype = order.architecture, order.dtype
        self._parameters = roofline.parameter_count(order.architecture)
        scheme = quantization.scheme(order.quantization)
        words = None if scheme is None else scheme.words
        width = roofline.weight_element_bytes(order.dtype, words) or 0.0
        self._weight_bytes = int(self._parameters * width)
        return Loaded(
            parameters=self._parameters,
            weights_source=order.weights,
            weights_digest=None,
            drawn_on="nowhere",
            seconds=0.0,
            tf32=None,
            quantization=words,
        )

    def plan(self, order: Prompt) -> None:
        """See `Engine.plan`."""

    def set_prompt(self, ids: array[int], batch: int) -> None:
        """See `Engine.set_prompt`."""
        self._batch, self._tokens, self._depth = batch, len(ids) // batch, 0

    def reset(self) -> None:
        """See `Engine.reset`."""
        self._depth = 0

    def prefill(self) -> int:
        """See `Engine.prefill`."""
        self._depth = self._tokens
        time.sleep(_LAUNCH_S + 2 * self._parameters * self._batch * self._tokens / _FLOP_PER_S)
        return self._depth

    def decode_one(self, token: int) -> int:
        """See `Engine.decode_one`."""
        self._depth += 1
        time.sleep(_LAUNCH_S + self._weight_bytes / _BYTES_PER_S)
        return self._depth

    def crop(self, depth: int) -> None:
        """See `Engine.crop`."""
        self._depth = min(self._depth, depth)

    def sync(self) -> None:
        """See `Engine.sync`."""

    def device_busy_ns(self, work: Callable[[], object]) -> int:
        """See `Engine.device_busy_ns`."""
        raise EngineFailed("engine fake has no device")

    def ceiling(self, order: MeasureCeiling) -> CeilingMeasured:
        """See `HasCeilings.ceiling`: the device that is pretended."""
        rates = {"matmul": _FLOP_PER_S, "copy": _BYTES_PER_S, "read": _BYTES_PER_S, "launch": _LAUNCH_S}
        return CeilingMeasured(values=(rates[order.work],) * order.repetitions, threads=order.threads)

    def operator_profile(self, order: ProfileOperators, work: Callable[[], object]) -> OperatorProfile:
        """See `TellsOperators.operator_profile`: each operator by its cost on that device."""
        assert self._shape is not None
        whole = order.kv_end - order.kv_start if order.phase is Phase.PREFILL else 1
        passes = operators.passes(self._batch, order.kv_start, order.kv_end, whole)
        costs = operators.total(self._shape, self._dtype, passes)
        times = tuple(
            OperatorTime(
                operator=name.value, device_ns=_device_ns(cost) * order.repetitions, launches=order.repetitions
            )
            for name, cost in costs.items()
        )
        busy_ns = sum(one.device_ns for one in times)
        return OperatorProfile(
            phase=order.phase,
            tool="simulated",
            tool_version=None,
            processor="fake",
            kv_start=order.kv_start,
            kv_end=order.kv_end,
            repetitions=order.repetitions,
            operators=times,
            busy_ns=busy_ns,
            elapsed_ns=busy_ns + round(_LAUNCH_S * 1e9) * order.repetitions,
        )

    def burn(self, order: Burn) -> Burned:
        """See `Engine.burn`: a wait, which no sensor shows."""
        start_ns = time.monotonic_ns()
        time.sleep(order.seconds)
        return Burned(start_ns=start_ns, end_ns=time.monotonic_ns(), accelerator="fake")

    def guarded(self) -> AbstractContextManager[None]:
        """See `Engine.guarded`."""
        return contextlib.nullcontext()

    def reset_peak_memory(self) -> None:
        """See `Engine.reset_peak_memory`."""
        memory.reset_peak()

    def memory(self) -> MemoryUse:
        """See `Engine.memory`."""
        return MemoryUse(host_peak_bytes=memory.peak_bytes(), accelerator_peak_bytes=None, reason="simulated")

    def close(self) -> None:
        """See `Engine.close`."""


def _device_ns(cost: operators.Cost) -> int:
    return round(1e9 * max(cost.flops / _FLOP_PER_S, cost.moved_bytes / _BYTES_PER_S))
