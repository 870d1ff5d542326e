"""A model behind an OpenAI-compatible server on this host: llama.cpp, vLLM, TensorRT-LLM, SGLang.

The server does the phases; this engine asks for them and takes the times. It brings its own loops, see `Remote`.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from agent import memory, models
from agent.gpus import Gpus
from agent.orders import Burn, Burned, Described, Load, Loaded, Resolve
from agent.served import process
from agent.served.client import Client, endpoint_of
from agent.served.phases import ServedPhases
from agent.served.server import Server, look
from phasewatt import prompt, roofline
from phasewatt.errors import EngineFailed
from phasewatt.records import MemoryUse
from phasewatt.work import Architecture

MODE = "server's own"
_PROBE_TOKENS = 64  # of a first request, asked twice: several blocks of what a cache could know the second time


class Proof(NamedTuple):
    """What is known of a server's weights."""

    source: str
    digest: str | None
    drawn_on: str | None
    quantization: str | None


class Served:
    """See `Remote`."""

    simulated = False

    def __init__(self) -> None:
        self._found: tuple[Client, Server] | None = None
        self._pid: int | None = None

    def describe(self, order: Resolve) -> Described:
        """See `Engine.describe`."""
        endpoint = endpoint_of(order.endpoint)
        if not process.is_here(endpoint):
            raise EngineFailed(
                f"{endpoint.url} is not on this host, whose meters do not see what it costs: run the agent there"
            )
        client = Client(endpoint)
        server = look(client, order.served_model)
        self._found, self._pid = (client, server), process.listener(endpoint)
        accelerator = _accelerator(order.accelerator, process.family(self._pid))
        return Described(
            architecture=models.preset(order.model),
            accelerator=accelerator,
            processor=_processor(accelerator),
            gpu_uuid=None,
            memory_free_bytes=None,  # the server has its memory already
            versions=server.versions,
            simulated=False,
            mode=MODE,
        )

    def load(self, order: Load) -> Loaded:
        """See `Engine.load`: nothing is loaded; what the server holds is proven."""
        began_s = time.monotonic()
        server, shape = self._server, order.architecture
        parameters = roofline.parameter_count(shape)
        if server.parameters not in (None, parameters):
            raise EngineFailed(f"the server's model has {server.parameters} parameters, {shape.name} has {parameters}")
        self._probe(shape)
        proof = _by_file(order, server.model_file, self._pid) if server.model_file else _by_word(order)
        return Loaded(
            parameters=parameters,
            weights_source=proof.source,
            weights_digest=proof.digest,
            drawn_on=proof.drawn_on,
            seconds=time.monotonic() - began_s,
            tf32=None,
            quantization=proof.quantization,
        )

    def phases(self, context: Callable[[int], array[int]], batch: int, tokens: int) -> ServedPhases:
        """See `Remote.phases`."""
        if self._found is None:
            raise EngineFailed("a phase was asked for before a server was looked at")
        return ServedPhases(*self._found, context, batch, tokens)

    def burn(self, order: Burn) -> Burned:
        """See `Engine.burn`."""
        raise EngineFailed("a served model is no load with sharp ends")

    def guarded(self) -> AbstractContextManager[None]:
        """See `Engine.guarded`: whatever fails here is `EngineFailed` already."""
        return contextlib.nullcontext()

    def reset_peak_memory(self) -> None:
        """See `Engine.reset_peak_memory`: a server's is not ours to reset."""

    def memory(self) -> MemoryUse:
        """See `Engine.memory`."""
        peak = process.peak_bytes(self._pid)
        why = "of the server's process since it started" if peak else "the server's process is not shown to this user"
        return MemoryUse(
            host_peak_bytes=peak, accelerator_peak_bytes=None, reason=f"{why}; its accelerator is not seen"
        )

    def close(self) -> None:
        """See `Engine.close`: the server goes on."""
        self._found = None

    @property
    def _server(self) -> Server:
        if self._found is None:
            raise EngineFailed("a model was asked for before a server was looked at")
        return self._found[1]

    def _probe(self, shape: Architecture) -> None:
        """The same request twice, so that a server that cannot be held to the work is refused before it is measured."""
        tokens = min(_PROBE_TOKENS, shape.max_position // 2, (self._server.context or _PROBE_TOKENS * 2) // 2)
        phases = self.phases(lambda count: prompt.token_ids(0, 1, count, shape.vocab_size), 1, tokens)
        ids = list(prompt.token_ids(0, 1, tokens, shape.vocab_size))
        for _ in range(2):
            phases.complete(ids, 2)


def _by_file(order: Load, model_file: str, pid: int | None) -> Proof:
    """The weights in the file that the server says it has loaded."""
    path = process.file_of(pid, model_file)
    if path is None:
        raise EngineFailed(
            f"the server's file {model_file} cannot be read from here, so nothing proves its weights: "
            "run the agent as the server's user or as root"
        )
    from agent.gguf.reading import held  # noqa: PLC0415 - only servers of GGUF files need it

    found = held(path, order.architecture)
    if found.dtype not in (None, order.dtype):
        raise EngineFailed(f"the server's file holds {found.dtype} weights, dtype {order.dtype} was asked for")
    is_random = order.weights.startswith("random:")
    if (is_random or found.source is not None) and found.source != order.weights:
        raise EngineFailed(
            f"the server's file holds weights {found.source or 'of unknown origin'}, not {order.weights}"
        )
    return Proof(order.weights, found.digest, "cpu" if is_random else None, found.quantization)


def _by_word(order: Load) -> Proof:
    """Weights that only their name tells, which a reader can look up."""
    if not order.weights.startswith("hub:"):
        raise EngineFailed(
            f"nothing proves that this server has weights {order.weights}: it names no file; "
            "name what it serves as hub:OWNER/NAME@REVISION"
        )
    return Proof(order.weights, None, "a server, by its word", None)


def _accelerator(asked: str, server: tuple[int, ...]) -> str:
    """Where the server works: as asked, or as the GPUs tell, or the CPU where there is no GPU."""
    if asked != "auto":
        return asked
    gpus = Gpus()
    if not gpus.facts():
        return "cpu"
    if server and gpus.runs_any(server):
        return "cuda"
    raise EngineFailed('whether the server works on a GPU is not seen here: say accelerator = "cpu" or "cuda"')


def _processor(accelerator: str) -> str | None:
    if accelerator == "cpu":
        return memory.cpu_model()
    names = [gpu.name for gpu in Gpus().facts()]
    return names[0] if len(set(names)) == 1 else None
