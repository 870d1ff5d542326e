"""onnxruntime on an exported decoder: CPU, CUDA, or TensorRT where it is; the cache stays on the device.

Any length, so the cache grows by a copy at each step, as the reference engine's does. Here are the calls; the graph is
made in `onnx_graph` and kept by `onnx_exports`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from agent import memory, onnx_builds, out_of_memory
from agent.engines import cuda_device, onnx_exports, sources
from agent.orders import Burn, Burned, Described, Load, Loaded, Prompt, Resolve
from phasewatt import quantization
from phasewatt.errors import DoesNotFit, EngineAbsent, EngineFailed
from phasewatt.records import MemoryUse

_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_MODES = {"eager": _CUDA, "compiled": _TENSORRT}  # on a GPU; on a CPU there is the one provider
_ERRORS_ONLY = 3

Provider = tuple[str, dict[str, str]]

try:
    import numpy
    import onnxruntime

    from agent.engines import onnx_graph
except ModuleNotFoundError as error:
    raise EngineAbsent(f"engine onnxruntime needs {error.name}: pip install 'phasewatt[onnx,torch]'") from error
except ImportError as error:  # a library beside it is missing, such as another CUDA's
    raise EngineFailed(f"onnxruntime does not load here: {error}; install the platform's build") from error


class _Cache(NamedTuple):
    """Keys and values as the graph gave them; never written again, so an earlier one is a depth to return to."""

    depth: int
    values: list[Any]  # key and value of each layer in turn, [batch, key-value heads, depth, head's size]


class Onnxruntime:
    """See `Engine`; a token is an OrtValue on the device, int64 [batch, 1]."""

    simulated = False

    def __init__(self) -> None:
        _check_builds(onnx_builds.installed())
        onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
        self._own_cache: tempfile.TemporaryDirectory[str] | None = None
        self._model: Path | None = None
        self._providers: list[Provider] = []
        self._session: Any = None
        self._threads = 0
        self._device = "cpu"
        self._pasts: list[str] = []
        self._presents: list[str] = []
        self._size = (0, 0, "")  # key-value heads, head's size, dtype
        self._prompt: Any = None  # int64 [batch, tokens]
        self._empty = self._filled = self._cache = _Cache(0, [])

    def describe(self, order: Resolve) -> Described:
        """See `Engine.describe`."""
        accelerator = _accelerator(order.accelerator)
        gpu = cuda_device.first() if accelerator == "cuda" else None
        return Described(
            architecture=sources.architecture(order),
            accelerator=accelerator,
            processor=gpu.name if gpu else memory.cpu_model(),
            gpu_uuid=gpu.uuid if gpu else None,
            memory_free_bytes=gpu.free_bytes if gpu else memory.available_bytes(),
            versions={"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__},
            simulated=False,
        )

    def load(self, order: Load) -> Loaded:
        """See `Engine.load`: the export, made or found, and a session on it."""
        started = time.monotonic()
        self.close()
        if order.quantization != quantization.NONE:
            raise EngineFailed(f"engine onnxruntime has no quantization {order.quantization!r}; known: none")
        _check_settings(order)
        onnx_graph.check(order.architecture, order.dtype, order.attention)
        self._providers = _providers(order)
        self._device = order.accelerator
        found = onnx_exports.of(order, Path(order.exports or self._temporary()), _weight_files(order.weights))
        self._model = found.folder / onnx_graph.MODEL_FILE
        shape = order.architecture
        self._pasts, self._presents = (onnx_graph.cache_names(shape.layers, when) for when in ("past", "present"))
        self._size = (shape.kv_heads, shape.head_dim, order.dtype)
        self.set_threads(None)
        return Loaded(
            parameters=found.export.parameters,
            weights_source=order.weights,
            weights_digest=found.export.weights_digest,
            drawn_on=found.export.drawn_on,
            seconds=time.monotonic() - started,
            tf32=False if order.accelerator == "cuda" else None,
        )

    def plan(self, order: Prompt) -> None:
        """See `Engine.plan`: the cache grows."""
        if order.chunk is not None:
            raise EngineFailed("engine onnxruntime takes a prompt in one pass: leave prefill_chunk out")

    def set_threads(self, asked: int | None) -> int:
        """See `OwnThreads.set_threads`: a session has its threads for good, so another number is another session."""
        threads = asked or _processor_cores()
        if self._session is None or threads != self._threads:
            self._session = None  # its memory goes before that of the next one comes
            self._session = self._opened(threads)
            self._threads = threads
        return threads

    def set_prompt(self, ids: array[int], batch: int) -> None:
        """See `Engine.set_prompt`."""
        heads, size, dtype = self._size
        self._prompt = self._placed(numpy.array(ids, numpy.int64).reshape(batch, -1))
        empty = numpy.empty((batch, heads, 0, size), dtype)
        self._empty = _Cache(0, [self._placed(empty) for _ in self._pasts])
        self.reset()

    def reset(self) -> None:
        """See `Engine.reset`."""
        self._cache = self._filled = self._empty

    def prefill(self) -> Any:
        """See `Engine.prefill`."""
        token = self._forward(self._prompt, self._prompt.shape()[1])
        self._filled = self._cache
        return token

    def decode_one(self, token: Any) -> Any:
        """See `Engine.decode_one`."""
        return self._forward(token, 1)

    def crop(self, depth: int) -> None:
        """See `Engine.crop`: where the prefill ended, by what was there then; elsewhere by a copy."""
        if depth >= self._cache.depth:
            return
        if depth == self._filled.depth:
            self._cache = self._filled
            return
        kept = (value.numpy()[:, :, :depth] for value in self._cache.values)
        self._cache = _Cache(depth, [self._placed(numpy.ascontiguousarray(values)) for values in kept])

    def sync(self) -> None:
        """See `Engine.sync`: a run has ended on the device when it returns."""

    def device_busy_ns(self, work: Callable[[], object]) -> int:
        """See `Engine.device_busy_ns`."""
        if self._device == "cpu":
            raise EngineFailed("the CPU is the device: it has no device time apart from host time")
        raise EngineFailed("engine onnxruntime takes no device time: its profiler was not tried on a GPU")

    def burn(self, order: Burn) -> Burned:
        """See `Engine.burn`."""
        raise EngineFailed("engine onnxruntime drives no load by itself: engine transformers does")

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """See `Engine.guarded`: the library's errors have no common root, and are told by where they come from."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, RuntimeError | ValueError) and "onnxruntime" not in type(error).__module__:
                raise
            raise _failed(str(error)) from error

    def reset_peak_memory(self) -> None:
        """See `Engine.reset_peak_memory`."""
        memory.reset_peak()

    def memory(self) -> MemoryUse:
        """See `Engine.memory`."""
        return MemoryUse(
            host_peak_bytes=memory.peak_bytes(),
            accelerator_peak_bytes=None,
            reason="the CPU has no memory of its own" if self._device == "cpu" else "onnxruntime does not tell",
        )

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = self._prompt = None
        self._empty = self._filled = self._cache = _Cache(0, [])
        if self._own_cache is not None:
            self._own_cache.cleanup()
            self._own_cache = None

    def _forward(self, ids: Any, new: int) -> Any:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("input_ids", ids)
        for name, value in zip(self._pasts, self._cache.values, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("token", self._device)
        for name in self._presents:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        token, *values = binding.get_outputs()
        self._cache = _Cache(self._cache.depth + new, values)
        return token

    def _placed(self, values: numpy.ndarray[Any, Any]) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_numpy(values, self._device)

    def _opened(self, threads: int) -> Any:
        """A session on the model.

        Raises:
            EngineFailed: it does not load, or another provider than the one asked for would do the work.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        with self.guarded():
            session = onnxruntime.InferenceSession(str(self._model), options, providers=self._providers)
        wanted = self._providers[0][0]
        if wanted not in session.get_providers():
            raise EngineFailed(
                f"{wanted} is in this onnxruntime, but does not load: its CUDA, cuDNN or TensorRT libraries "
                "are missing or of another version"
            )
        return session

    def _temporary(self) -> str:
        """A folder for exports that goes with this engine, where the order names none."""
        self._own_cache = tempfile.TemporaryDirectory(prefix="phasewatt-export-")
        return self._own_cache.name


def _check_builds(found: Mapping[str, str]) -> None:
    """Raise EngineFailed where two builds share one folder: what is loaded is a mixture, often without CUDA."""
    if told := onnx_builds.conflict(found):
        raise EngineFailed(f"{told}: {onnx_builds.REMEDY}")


def _accelerator(asked: str) -> str:
    """What would do the work.

    Raises:
        EngineFailed: CUDA is asked for, and this build or host has none.
    """
    if asked == "cpu":
        return "cpu"
    try:
        _check_provider(_CUDA)
        cuda_device.first()
    except EngineFailed:
        if asked == "cuda":
            raise
        return "cpu"
    return "cuda"


def _check_settings(order: Load) -> None:
    """Raise EngineFailed for what only the torch engine can be told."""
    told = {"tf32": order.tf32, "fused_weights": order.fused_weights, "experts": order.experts}
    for name in (name for name, value in told.items() if value):
        raise EngineFailed(f"{name}: engine onnxruntime has no such setting; leave it out")


def _providers(order: Load) -> list[Provider]:
    """Where operators run, the wanted provider first; a GPU's is not asked to leave the whole work to the CPU."""
    if order.mode not in _MODES or (order.accelerator != "cuda" and order.mode != "eager"):
        known = ", ".join(_MODES) if order.accelerator == "cuda" else "eager"
        raise EngineFailed(f"engine onnxruntime has no mode {order.mode!r} on {order.accelerator}; known: {known}")
    if order.accelerator != "cuda":
        return [(_CPU, {})]
    wanted = _MODES[order.mode]
    _check_provider(wanted)
    first = [(_TENSORRT, {"trt_fp16_enable": str(order.dtype == "float16")})] if wanted == _TENSORRT else []
    return [*first, (_CUDA, {"use_tf32": "0"}), (_CPU, {})]


def _check_provider(name: str) -> None:
    available = onnxruntime.get_available_providers()
    if name not in available:
        raise EngineFailed(
            f"this onnxruntime ({onnx_builds.words(onnx_builds.installed())}) has no {name}; it has "
            f"{', '.join(available)}: install onnxruntime-gpu or the platform's build in its place"
        )


def _weight_files(weights: str) -> list[Path]:
    """The files that weights are known by; none where they are drawn from a seed.

    Raises:
        EngineFailed: there are none, or they could not be fetched.
    """
    if weights.startswith("random:"):
        return []
    folder = sources.snapshot(weights)
    if not any(folder.glob("*.safetensors")):
        raise EngineFailed(f"weights {weights}: no safetensors in {folder}")
    return [file for pattern in sources.WEIGHT_FILES for file in folder.glob(pattern)]


def _processor_cores() -> int:
    """Cores that this process may use; two threads of one core count once, as torch counts them."""
    allowed = len(os.sched_getaffinity(0))
    return min(psutil.cpu_count(logical=False) or allowed, allowed)


def _failed(said: str) -> EngineFailed:
    if sign := out_of_memory.sign_in(said):
        return DoesNotFit(out_of_memory.reason_here(sign))
    return EngineFailed(f"onnxruntime: {said.strip().splitlines()[0] if said.strip() else 'no message'}")
