"""A model on the bench: the engine's process with the right model loaded and the right prompt set."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from agent import memory
from agent.cells import Cell
from agent.engines.sources import DRAWN_ON_CPU_LIMIT
from agent.orders import Described, Load, Loaded, Prompt, Question, Ready, Resolve
from agent.stopping import Stop
from agent.worker_process import WorkerProcess
from phasewatt import prompt, roofline
from phasewatt.errors import DoesNotFit, EngineFailed
from phasewatt.work import Architecture, Task, Weights, Work

_RESERVE_BYTES = 512 * 1024 * 1024  # the engine's own code and buffers
_DESCRIBE_S = 600.0  # importing torch from an SD card, or fetching weights
_LOAD_S = 1800.0
_PROMPT_S = 1800.0  # a mode may compile the model for its shapes

Expected = TypeVar("Expected")


class Placed(NamedTuple):
    """What lies on the bench."""

    described: Described
    work: Work | None  # None: an engine alone
    threads: int | None
    tf32: bool | None
    cache_tokens: int | None = None
    experts: str | None = None


class Bench:
    """Keeps one engine's process, and in it one model, for as long as the cells ask for the same."""

    def __init__(self, stop: Stop, progress: Callable[[str], None], exports: Path | None = None) -> None:
        """`exports` is where models in another engine's format are kept; None: they go with the engine."""
        self._exports = exports
        self._stop = stop
        self._progress = progress
        self._worker: WorkerProcess | None = None
        self._key: tuple[str, ...] = ()
        self._described: Described | None = None
        self._loaded: Loaded | None = None
        self.loading_s = 0.0  # spent on engines and models so far
        self._order: Load | None = None  # that it was loaded by
        self._meeting: tempfile.TemporaryDirectory[str] | None = None  # of the ranks that share its model

    def place(self, cell: Cell) -> Placed:
        """Load the model and set the prompt of `cell`.

        Raises:
            EngineFailed: the engine cannot do it.
            DoesNotFit: it needs more memory or positions than there are; both figures are given.
        """
        began_s = time.monotonic()
        described = self._describe(cell)
        _check_fit(_task(cell, described, ""), cell, described)
        task = _task(cell, described, _prompt_digest(cell, described.architecture.vocab_size))
        loaded = self._load(cell, described)
        self.loading_s += time.monotonic() - began_s
        self._progress("setting the prompt" if cell.mode == "eager" else f"preparing mode {cell.mode}")
        order = Prompt(
            seed=cell.prompt_seed,
            batch=cell.batch,
            tokens=cell.prompt_tokens,
            threads=cell.threads,
            room=cell.prompt_tokens + cell.output_tokens,
            chunk=cell.prefill_chunk,
        )
        ready = self.ask(order, Ready, _PROMPT_S)
        weights = Weights(
            source=loaded.weights_source,
            parameters=loaded.parameters,
            digest=loaded.weights_digest,
            drawn_on=loaded.drawn_on,
        )
        work = Work(task=task, weights=weights, dtype=cell.dtype, quantization=loaded.quantization)
        return Placed(described, work, ready.threads, loaded.tf32, ready.cache_tokens, loaded.experts)

    def describe(self, cell: Cell) -> Described:
        """The engine of `cell` started, with no model loaded: `place` goes on from there.

        Raises:
            EngineFailed: it does not start.
        """
        began_s = time.monotonic()
        described = self._describe(cell)
        self.loading_s += time.monotonic() - began_s
        return described

    def ask(self, question: Question, answer: type[Expected], limit_s: float) -> Expected:
        """See `WorkerProcess.ask`."""
        if self._worker is None:
            raise EngineFailed("no engine is running")
        return self._worker.ask(question, answer, limit_s)

    def clear(self) -> None:
        """End the engine's process, and with it all memory that it held."""
        if self._worker is not None:
            self._worker.close()
        self._worker, self._key, self._described, self._loaded, self._order = None, (), None, None, None
        if self._meeting is not None:
            self._meeting.cleanup()
            self._meeting = None

    @property
    def ranks(self) -> tuple[int, ...]:
        """Process ids of those that share the model with that process."""
        return () if self._loaded is None else self._loaded.ranks

    @property
    def is_on_gpu(self) -> bool:
        """Whether that process holds a model on a GPU."""
        return self._loaded is not None and self._described is not None and self._described.accelerator == "cuda"

    @property
    def pid(self) -> int | None:
        """Process id of the engine's process; None while there is none."""
        return None if self._worker is None else self._worker.pid

    def _describe(self, cell: Cell) -> Described:
        key = cell.model_key
        if key != self._key or self._described is None:
            self.clear()
            self._progress(f"starting engine {cell.engine}")
            self._worker = WorkerProcess(cell.engine, self._stop)
            order = Resolve(
                model=cell.model,
                weights=cell.weights,
                accelerator=cell.accelerator,
                endpoint=cell.endpoint,
                served_model=cell.served_model,
                tensor_parallel=cell.tensor_parallel,
            )
            self._described = self.ask(order, Described, _DESCRIBE_S)
            self._key = key
        return self._described

    def _load(self, cell: Cell, described: Described) -> Loaded:
        if cell.tensor_parallel > 1 and self._meeting is None:
            self._meeting = tempfile.TemporaryDirectory(prefix="phasewatt-ranks-")
        order = Load(
            architecture=described.architecture,
            weights=cell.weights,
            dtype=cell.dtype,
            mode=cell.mode,
            attention=cell.attention,
            accelerator=described.accelerator,
            tf32=cell.tf32,
            fused_weights=cell.fused_weights,
            experts=cell.experts,
            quantization=cell.quantization,
            exports=None if self._exports is None else str(self._exports),
            tensor_parallel=cell.tensor_parallel,
            meeting=None if self._meeting is None else self._meeting.name,
        )
        if self._loaded is None or order != self._order:
            self._progress(f"loading {described.architecture.name} in {cell.dtype}")
            self._loaded, self._order = None, order
            self._loaded = self.ask(order, Loaded, _LOAD_S)
        return self._loaded


def _prompt_digest(cell: Cell, vocab_size: int) -> str:
    return prompt.digest(prompt.token_ids(cell.prompt_seed, cell.batch, cell.prompt_tokens, vocab_size))


def _task(cell: Cell, described: Described, prompt_digest: str) -> Task:
    return Task(
        architecture=described.architecture,
        batch=cell.batch,
        prompt_tokens=cell.prompt_tokens,
        prompt_digest=prompt_digest,
        output_tokens=cell.output_tokens,
    )


def needed_bytes(task: Task, cell: Cell, on_cpu: bool) -> int:
    """Memory that a task needs at least, the engine's own included; of all ranks together, where several share it."""
    shape, ranks = task.architecture, cell.tensor_parallel
    scores = cell.attention == "eager"
    once = roofline.needed_bytes(task, cell.dtype, cell.prefill_chunk, scores)
    repeated = roofline.embedding_bytes(shape, cell.dtype)  # by every rank, and so is a head that they do not divide
    if not shape.tied_embeddings and shape.vocab_size % ranks:
        repeated *= 2
    if on_cpu and ranks > 1:
        repeated = roofline.weight_bytes(shape, cell.dtype)  # each holds the whole model before it cuts it
    return once + (ranks - 1) * repeated + ranks * _RESERVE_BYTES


def _check_fit(task: Task, cell: Cell, described: Described) -> None:
    """Raise DoesNotFit, with both figures, before anything is loaded."""
    shape = task.architecture
    length = task.prompt_tokens + task.output_tokens
    if length > shape.max_position:
        raise DoesNotFit(f"{length} tokens are more than the {shape.max_position} positions of {shape.name}")
    on_cpu = described.accelerator == "cpu"
    if cell.tensor_parallel > 1 and not on_cpu and (said := _too_much_for_host(shape, cell)):
        raise DoesNotFit(said)
    needed = needed_bytes(task, cell, on_cpu)
    free = described.memory_free_bytes
    if free is not None and needed > free:
        raise DoesNotFit(
            f"{shape.name} in {cell.dtype} with {task.batch} x {length} tokens needs {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free on {described.processor or described.accelerator}: "
            "choose a smaller model, dtype or batch"
        )


def _too_much_for_host(shape: Architecture, cell: Cell) -> str | None:
    """Why the host's memory is too little for ranks that each hold the whole model there before they cut it."""
    if cell.weights.startswith("random:") and roofline.parameter_count(shape) > DRAWN_ON_CPU_LIMIT:
        return None  # drawn on the GPUs
    needed, free = cell.tensor_parallel * roofline.weight_bytes(shape, cell.dtype), memory.available_bytes()
    if needed <= free:
        return None
    return (
        f"{cell.tensor_parallel} ranks hold all of {shape.name} in the host's memory while they load it: that takes "
        f"{needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    )
