"""The reference engine: Hugging Face transformers on PyTorch, in the modes of transformers_modes.py."""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from agent import memory, out_of_memory
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
from phasewatt.errors import DoesNotFit, EngineAbsent, EngineFailed
from phasewatt.profiles import OperatorProfile
from phasewatt.records import MemoryUse

try:
    import torch
    import transformers

    from agent.engines import (
        ceilings,
        operator_pass,
        quantized,
        tensor_parallel,
        transformers_attention,
        transformers_fused,
        transformers_modes,
    )
    from agent.engines.burner import Burner
    from agent.engines.rank_calls import ResetPeak
    from agent.engines.ranks import Led, Ranks
    from agent.engines.sources import architecture
    from agent.engines.tensor_parallel import Rank
    from agent.engines.transformers_model import build, config_of
    from agent.engines.transformers_modes import Mode, Plan
except ModuleNotFoundError as error:
    raise EngineAbsent(f"engine transformers needs {error.name}: pip install 'phasewatt[torch]'") from error
except ImportError as error:  # a library beside it is missing, or a release is too old
    raise EngineFailed(f"torch or transformers does not load here: {error}; install the platform's build") from error

__all__ = ["Transformers", "config_of", "device_events"]


class Transformers:
    """See `Engine`; a token is an int64 tensor, [batch, 1]."""

    simulated = False

    def __init__(self) -> None:
        transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.set_grad_enabled(False)
        transformers_attention.register()
        self._device = torch.device("cpu")
        self._model: Any = None
        self._loaded: tuple[Load, Loaded] | None = None  # the model as it was asked for, and what came of it
        self._mode: Mode | None = None
        self._ranks: Ranks | None = None  # that share the model
        self._burners: dict[str, Burner] = {}

    def describe(self, order: Resolve) -> Described:
        """See `Engine.describe`."""
        accelerator = _accelerator(order.accelerator)
        shape = architecture(order)
        tensor_parallel.check_shape(shape, order.tensor_parallel)
        gpus = _gpus(order.tensor_parallel) if accelerator == "cuda" else ()
        return Described(
            architecture=shape,
            accelerator=accelerator,
            processor=torch.cuda.get_device_name() if accelerator == "cuda" else memory.cpu_model(),
            gpu_uuid=gpus[0] if gpus else None,
            other_gpus=gpus[1:],
            memory_free_bytes=_free_bytes(accelerator, order.tensor_parallel),
            versions=_versions(),
            simulated=False,
        )

    def load(self, order: Load) -> Loaded:
        """See `Engine.load`: where only mode or TF32 differ, the weights stay where they are."""
        self._mode = None
        self._device = torch.device(_accelerator(order.accelerator))
        transformers_attention.check(order.attention, order.mode, self._device.type, order.dtype)
        tensor_parallel.check(order)
        _set_tf32(order.tf32, self._device.type)
        model = msgspec.structs.replace(order, mode="", tf32=False)
        if self._loaded is None or self._loaded[0] != model:
            self._let_go()
        if self._ranks is None and order.tensor_parallel > 1:
            self._ranks = Ranks(order.tensor_parallel, self._device.type, order.meeting)
        self._mode = self._made(order) if self._ranks is None else self._made_together(order, self._ranks)
        assert self._loaded is not None
        return msgspec.structs.replace(self._loaded[1], tf32=order.tf32 if self._device.type == "cuda" else None)

    def plan(self, order: Prompt) -> int | None:
        """See `Engine.plan`."""
        room = order.room or 2 * order.tokens
        return self._ready.plan(Plan(batch=order.batch, tokens=order.tokens, room=room, chunk=order.chunk))

    def set_prompt(self, ids: array[int], batch: int) -> None:
        """See `Engine.set_prompt`."""
        self._ready.set_prompt(torch.tensor(ids, dtype=torch.int64).reshape(batch, -1).to(self._device))

    def reset(self) -> None:
        """See `Engine.reset`."""
        self._ready.reset()

    def prefill(self) -> torch.Tensor:
        """See `Engine.prefill`."""
        return self._ready.prefill()

    def decode_one(self, token: torch.Tensor) -> torch.Tensor:
        """See `Engine.decode_one`."""
        return self._ready.decode_one(token)

    def crop(self, depth: int) -> None:
        """See `Engine.crop`."""
        self._ready.crop(depth)

    @property
    def model(self) -> Any:
        """The loaded model, for those that mark its parts; None: none is loaded."""
        return self._model

    @property
    def _ready(self) -> Mode:
        if self._mode is None:
            raise EngineFailed("no model is loaded")
        return self._mode

    def _made(self, order: Load) -> Mode:
        """The mode of `order`, on the model that is there, or is brought now."""
        if self._loaded is None:
            self._loaded = msgspec.structs.replace(order, mode="", tf32=False), self._bring(order)
        return transformers_modes.create(order.mode, self._model)

    def _made_together(self, order: Load, ranks: Ranks) -> Mode:
        """See `_made`; with what the others refuse they end."""
        try:
            with ranks.together(order):
                mode = self._made(order)
        except EngineFailed:
            self._let_go()
            raise
        return Led(mode, ranks)

    def _let_go(self) -> None:
        self._model = self._loaded = self._mode = None
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    def _bring(self, order: Load) -> Loaded:
        """Build the model on the device."""
        started = time.monotonic()
        built = build(order, self._device, None if self._ranks is None else Rank(0, self._ranks.count))
        model = built.model.eval()
        if order.fused_weights:
            transformers_fused.fuse(model)
        quantization = quantized.quantize(model, order.quantization, order.dtype)
        self._model = model
        mixture = order.architecture.experts is not None
        return Loaded(
            parameters=built.parameters,
            weights_source=order.weights,
            weights_digest=built.digest,
            drawn_on=built.drawn_on,
            seconds=time.monotonic() - started,
            tf32=None,
            quantization=quantization,
            experts=model.config._experts_implementation if mixture else None,
            ranks=() if self._ranks is None else self._ranks.pids,
        )

    def sync(self) -> None:
        """See `Engine.sync`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def device_busy_ns(self, work: Callable[[], object]) -> int:
        """See `Engine.device_busy_ns`: the union of all kernel and copy intervals."""
        if self._device.type != "cuda":
            raise EngineFailed("the CPU is the device: it has no device time apart from host time")
        busy_ns = _union_ns(sorted((start, end) for _, start, end in device_events(work, self.sync)))
        if busy_ns == 0:
            raise EngineFailed("the profiler saw no kernel: its access to the GPU may be restricted")
        return busy_ns

    def operator_profile(self, order: ProfileOperators, work: Callable[[], object]) -> OperatorProfile:
        """See `TellsOperators.operator_profile`."""
        if self._ranks is not None:
            raise EngineFailed("the sums over several ranks are not told apart by operator")
        on = operator_pass.Pass(self._model, self._ready, self._device.type == "cuda", self.sync)
        return operator_pass.profile(on, order, work)

    def ceiling(self, order: MeasureCeiling) -> CeilingMeasured:
        """See `HasCeilings.ceiling`."""
        try:
            return ceilings.measure(order)
        finally:
            if order.accelerator == "cuda":
                torch.cuda.empty_cache()

    def burn(self, order: Burn) -> Burned:
        """See `Engine.burn`."""
        accelerator = _accelerator(order.accelerator)
        if accelerator not in self._burners:
            self._burners[accelerator] = Burner(accelerator)
        start_ns, end_ns = self._burners[accelerator].burn(order.seconds)
        return Burned(start_ns=start_ns, end_ns=end_ns, accelerator=accelerator)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """See `Engine.guarded`."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise DoesNotFit(out_of_memory.reason_here(str(error).splitlines()[0])) from error
        except RuntimeError as error:
            said = str(error).strip()
            if sign := out_of_memory.sign_in(said):
                raise DoesNotFit(out_of_memory.reason_here(sign)) from error
            raise EngineFailed(f"{type(error).__name__}: {said.splitlines()[0] if said else 'no message'}") from error

    def reset_peak_memory(self) -> None:
        """See `Engine.reset_peak_memory`."""
        memory.reset_peak()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if self._ranks is not None:
            self._ranks.tell(ResetPeak())

    def memory(self) -> MemoryUse:
        """See `Engine.memory`."""
        on_gpu = self._device.type == "cuda"
        others = [] if self._ranks is None else self._ranks.peak()
        of_host = [memory.peak_bytes(), *(each.host_bytes for each in others)]
        of_gpus = [torch.cuda.max_memory_allocated() if on_gpu else 0, *(each.gpu_bytes for each in others)]
        return MemoryUse(
            host_peak_bytes=None if None in of_host else sum(filter(None, of_host)),
            accelerator_peak_bytes=sum(of_gpus) if on_gpu else None,
            reason=None if on_gpu else "the CPU has no memory of its own",
        )

    def close(self) -> None:
        """See `Engine.close`."""
        self._let_go()
        self._burners.clear()


def _accelerator(asked: str) -> str:
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and found != "cuda":
        raise EngineFailed(f"no CUDA device answers to torch {torch.__version__}; see phasewatt-agent doctor")
    return found if asked == "auto" else asked


def _set_tf32(asked: bool, accelerator: str) -> None:
    """Let float32 products be computed in TF32, or not."""
    if asked and (accelerator != "cuda" or torch.cuda.get_device_capability() < (8, 0)):
        raise EngineFailed("tf32 needs an NVIDIA GPU of compute capability 8.0 or above")
    torch.set_float32_matmul_precision("high" if asked else "highest")


def _gpus(count: int) -> tuple[str, ...]:
    """The first so many GPUs, as NVML writes them."""
    there = torch.cuda.device_count()
    if there < count:
        raise EngineFailed(f"tensor_parallel = {count} needs {count} GPUs, and torch sees {there}")
    return tuple(f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in range(count))


def _free_bytes(accelerator: str, ranks: int) -> int:
    """Free memory where the model would live, on `ranks` GPUs as many times the least of theirs.

    A GPU that shares the host's memory counts as the host.
    """
    if accelerator != "cuda":
        return memory.available_bytes()
    if torch.cuda.get_device_properties(0).is_integrated:
        return memory.shared_free_bytes()
    return ranks * min(torch.cuda.mem_get_info(number)[0] for number in range(ranks))


def _versions() -> dict[str, str]:
    versions = {"torch": str(torch.__version__), "transformers": transformers.__version__}
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    return versions | {"numpy": importlib.metadata.version("numpy")}


def device_events(work: Callable[[], object], sync: Callable[[], None]) -> list[tuple[str, int, int]]:
    """Name, start and end in ns of every kernel and copy during `work`, by the profiler."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        work()
        sync()
    events = profiler.profiler.kineto_results.events()
    on_gpu = [event for event in events if event.device_type() == torch._C._autograd.DeviceType.CUDA]
    return [(event.name(), event.start_ns(), event.start_ns() + event.duration_ns()) for event in on_gpu]


def _union_ns(intervals: list[tuple[int, int]]) -> int:
    busy_ns = reached = 0
    for start, end in intervals:
        busy_ns += max(0, end - max(start, reached))
        reached = max(reached, end)
    return busy_ns
