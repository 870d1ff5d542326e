"""The reference engine: Hugging Face transformers on PyTorch, eager, with a dynamic KV cache."""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent import memory, models, out_of_memory
from agent.orders import Burn, Burned, Described, Load, Loaded, Resolve
from phasewatt.errors import ConfigInvalid, DoesNotFit, EngineAbsent, EngineFailed
from phasewatt.records import Architecture, MemoryUse

try:
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
    from transformers.initialization import no_init_weights

    from agent.engines import quantized, weights
    from agent.engines.burner import Burner
except ModuleNotFoundError as error:
    raise EngineAbsent(f"engine transformers needs {error.name}: pip install 'phasewatt[torch]'") from error
except ImportError as error:  # a library beside it is missing, or a release is too old
    raise EngineFailed(f"torch or transformers does not load here: {error}; install the platform's build") from error


class Transformers:
    """See `Engine`; a token is an int64 tensor, [batch, 1]."""

    simulated = False

    def __init__(self) -> None:
        transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.set_grad_enabled(False)
        self._device = torch.device("cpu")
        self._model: Any = None
        self._prompt: torch.Tensor | None = None  # [batch, tokens]
        self._cache: Any = None
        self._burners: dict[str, Burner] = {}

    def describe(self, order: Resolve) -> Described:
        """See `Engine.describe`."""
        accelerator = _accelerator(order.accelerator)
        return Described(
            architecture=_architecture(order),
            accelerator=accelerator,
            processor=torch.cuda.get_device_name() if accelerator == "cuda" else memory.cpu_model(),
            gpu_uuid=f"GPU-{torch.cuda.get_device_properties(0).uuid}" if accelerator == "cuda" else None,
            memory_free_bytes=_free_bytes(accelerator),
            versions=_versions(),
            simulated=False,
        )

    def load(self, order: Load) -> Loaded:
        """See `Engine.load`."""
        if order.mode != "eager":
            raise EngineFailed(f"engine transformers has no mode {order.mode!r}; known: eager")
        self._device = torch.device(_accelerator(order.accelerator))
        started = time.monotonic()
        model, digest, drawn_on = _build(order, self._device)
        self._model = model.eval()
        parameters = sum(p.numel() for p in self._model.parameters())
        return Loaded(
            parameters=parameters,
            quantization=quantized.quantize(self._model, order.quantization, order.dtype),
            weights_source=order.weights,
            weights_digest=digest,
            drawn_on=drawn_on,
            seconds=time.monotonic() - started,
            tf32=torch.get_float32_matmul_precision() != "highest" if self._device.type == "cuda" else None,
        )

    def set_prompt(self, ids: array[int], batch: int) -> None:
        """See `Engine.set_prompt`."""
        self._prompt = torch.tensor(ids, dtype=torch.int64).reshape(batch, -1).to(self._device)
        self.reset()

    def reset(self) -> None:
        """See `Engine.reset`."""
        self._cache = DynamicCache(config=self._model.config)

    def prefill(self) -> torch.Tensor:
        """See `Engine.prefill`."""
        return self._forward(self._prompt)

    def decode_one(self, token: torch.Tensor) -> torch.Tensor:
        """See `Engine.decode_one`."""
        return self._forward(token)

    def crop(self, depth: int) -> None:
        """See `Engine.crop`."""
        surplus = self._cache.get_seq_length() - depth
        if surplus > 0:
            self._cache.crop(-surplus)

    def sync(self) -> None:
        """See `Engine.sync`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def device_busy_ns(self, work: Callable[[], object]) -> int:
        """See `Engine.device_busy_ns`: the union of all kernel and copy intervals."""
        if self._device.type != "cuda":
            raise EngineFailed("the CPU is the device: it has no device time apart from host time")
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
            work()
            self.sync()
        busy_ns = _union_ns(_device_intervals_ns(profiler))
        if busy_ns == 0:
            raise EngineFailed("the profiler saw no kernel: its access to the GPU may be restricted")
        return busy_ns

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

    def memory(self) -> MemoryUse:
        """See `Engine.memory`."""
        on_gpu = self._device.type == "cuda"
        return MemoryUse(
            host_peak_bytes=memory.peak_bytes(),
            accelerator_peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
            reason=None if on_gpu else "the CPU has no memory of its own",
        )

    def close(self) -> None:
        """See `Engine.close`."""
        self._model = self._cache = self._prompt = None
        self._burners.clear()

    def _forward(self, ids: torch.Tensor | None) -> torch.Tensor:
        logits = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1).logits
        token: torch.Tensor = logits[:, -1].argmax(-1, keepdim=True)  # [batch, vocab] -> [batch, 1]
        return token


def _accelerator(asked: str) -> str:
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and found != "cuda":
        raise EngineFailed(f"no CUDA device answers to torch {torch.__version__}; see phasewatt-agent doctor")
    return found if asked == "auto" else asked


def _free_bytes(accelerator: str) -> int:
    """Free memory where the model would live; a GPU that shares the host's memory counts as the host."""
    if accelerator != "cuda":
        return memory.available_bytes()
    is_shared = torch.cuda.get_device_properties(0).is_integrated
    return memory.shared_free_bytes() if is_shared else torch.cuda.mem_get_info()[0]


def _versions() -> dict[str, str]:
    versions = {"torch": str(torch.__version__), "transformers": transformers.__version__}
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    return versions | {"numpy": importlib.metadata.version("numpy")}


def _architecture(order: Resolve) -> Architecture:
    kind, _, where = order.weights.partition(":")
    if kind == "random":
        return models.preset(order.model)
    return models.from_config_file(_snapshot(kind, where, ("config.json",)) / "config.json")


def _snapshot(kind: str, where: str, wanted: Sequence[str] = ("*.safetensors", "*.json")) -> Path:
    """Directory of a model's files, those `wanted` fetched from the hub if that is where it is."""
    if kind == "path":
        return Path(where).expanduser()
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only hub: weights need it

    repository, _, revision = where.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(wanted)))
    except Exception as error:  # the hub's client has no common root for its own and its transport's errors
        cause = str(error).strip().splitlines()
        raise EngineFailed(f"weights {kind}:{where} could not be fetched: {cause[0] if cause else error!r}") from error


def _build(order: Load, device: torch.device) -> tuple[Any, str | None, str | None]:
    """The model on `device`, the digest of its weights, and where they were drawn."""
    dtype = getattr(torch, order.dtype)
    kind, _, where = order.weights.partition(":")
    if kind == "random":
        config = config_of(order.architecture)
        with no_init_weights(), torch.device(device):
            model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, dtype=dtype, attn_implementation=order.attention
            )
        model.tie_weights()
        return model, *weights.fill(model, _seed(where))
    try:
        model = AutoModelForCausalLM.from_pretrained(
            _snapshot(kind, where),
            dtype=dtype,
            attn_implementation=order.attention,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise EngineFailed(f"weights {order.weights} cannot be loaded: {str(error).splitlines()[0]}") from error
    return model.to(device), weights.digest(model), None


def config_of(shape: Architecture) -> Any:
    """The Hugging Face configuration of an architecture."""
    extra = {"attention_bias": shape.qkv_bias} if shape.family == "llama" else {}
    try:
        return AutoConfig.for_model(
            shape.family,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            intermediate_size=shape.intermediate_size,
            vocab_size=shape.vocab_size,
            max_position_embeddings=shape.max_position,
            tie_word_embeddings=shape.tied_embeddings,
            rms_norm_eps=shape.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
            **extra,
        )
    except (TypeError, ValueError) as error:
        raise EngineFailed(f"transformers {transformers.__version__} cannot build {shape.name}: {error}") from error


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise ConfigInvalid(f"weights: expected random:SEED with a whole number, got 'random:{text}'")
    return int(text)


def _device_intervals_ns(profiler: torch.profiler.profile) -> list[tuple[int, int]]:
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]  # present after the block
    on_gpu = [event for event in events if event.device_type() == torch._C._autograd.DeviceType.CUDA]
    return sorted((event.start_ns(), event.start_ns() + event.duration_ns()) for event in on_gpu)


def _union_ns(intervals: list[tuple[int, int]]) -> int:
    busy_ns = reached = 0
    for start, end in intervals:
        busy_ns += max(0, end - max(start, reached))
        reached = max(reached, end)
    return busy_ns
