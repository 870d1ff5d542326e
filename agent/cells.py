"""Suites: TOML files that say which cells to measure and how long; a list of values in a cell is a sweep."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from agent import engines, models
from agent.served.client import endpoint_of
from phasewatt import settings
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Phase
from phasewatt.window_energy import WIDE_SHARE

Positive = Annotated[int, Meta(ge=1, le=2**31)]
Seconds = Annotated[float, Meta(ge=0, le=86400)]
Limit = Annotated[float, Meta(gt=0, le=86400)]
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*\Z"  # what a terminal would obey has no place in a name
WEIGHTS = ("random", "path", "hub")
MAX_CELLS = 1000
MAX_RANKS = 64
MAX_LABEL = 256  # of a cell in a trial
ALL_PHASES = "prefill, decode, request"
_LIKE_PHASES = r"^(prefill|decode|request)(, *(prefill|decode|request))*\Z"
_OF_ONE_PROMPT = frozenset(
    {"prompt_tokens", "output_tokens", "batch", "threads", "prompt_seed", "phases", "prefill_chunk"}
)
_OF_ONE_MODE = frozenset({"mode", "tf32"})
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_PLAIN)]
NameOrNone = Annotated[str, Meta(max_length=200, pattern=_PLAIN)]  # "": none


_ALL = (Phase.PREFILL, Phase.DECODE, Phase.REQUEST)


class Measure(Struct, frozen=True, forbid_unknown_fields=True):
    """How a cell is measured."""

    repetitions: Annotated[int, Meta(ge=3, le=4096)] = 6
    window_s: Seconds = 3.0  # a phase's steady window lasts at least this long where there is power to meter ...
    unmetered_window_s: Seconds = 1.0  # ... and this long where there is none
    limit_s: Seconds = 60.0  # a phase's window ends after this, whatever the repetitions
    warmup_limit_s: Seconds = 15.0
    idle_s: Seconds = 3.0
    gate_s: Seconds = 10.0  # at most, for others to let the CPU be; then the trial is marked
    decode_steps: Positive = 64  # of a decode repetition, at most the output length
    profile_repetitions: Positive = 3
    operators: bool = False  # a pass of its own for where the time of prefill and decode goes
    counters: bool = False  # a pass by Nsight Compute for what the GPU did in each operator of prefill and decode
    ceilings: bool = False  # what the host does at most, measured before the cells
    rate_hz: Annotated[float, Meta(gt=0, le=100)] = 20.0
    energy_target: Annotated[float, Meta(gt=0, le=1)] = WIDE_SHARE  # a window grows until its energy is so sure ...
    longest_window_s: Seconds = 30.0  # ... at most to this
    repeats: Annotated[int, Meta(ge=1, le=100)] = 1  # of every cell, the cells between them
    cool_to_c: Annotated[float, Meta(gt=0, le=150)] | None = None  # a cell waits until the processor is no hotter ...
    cool_limit_s: Seconds = 120.0  # ... at most so long; then the trial is marked
    course_s: Seconds = 0.0  # between two looks at clock and temperature while phases run; 0: none
    ttft_limit_s: Limit | None = None  # a request within both limits, of those that are set, counts as goodput
    tpot_limit_s: Limit | None = None


class Cell(Struct, frozen=True, forbid_unknown_fields=True):
    """One piece of work under one set of settings."""

    prompt_tokens: Positive
    output_tokens: Annotated[int, Meta(ge=2, le=2**31)]
    model: Name = "smollm2-135m"  # a preset; not read where the weights bring their own configuration
    weights: Name = "random:7"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    quantization: Literal["none", "int8", "int4"] = "none"  # of the weights, once they are loaded in `dtype`
    engine: Name = "transformers"
    mode: Name = "eager"
    attention: Name = "sdpa"
    tf32: bool = False
    fused_weights: bool = False  # query, key and value in one product, gate and up in one
    prefill_chunk: Positive | None = None  # prompt tokens a forward pass; None: all in one
    experts: Name | None = None  # how a mixture's are computed; None: the engine's own choice
    tensor_parallel: Annotated[int, Meta(ge=1, le=MAX_RANKS)] = 1  # ranks that share the model, each on its own GPU
    accelerator: Name = "auto"
    batch: Positive = 1
    threads: Positive | None = None
    prompt_seed: Annotated[int, Meta(ge=0)] = 1
    phases: Annotated[str, Meta(pattern=_LIKE_PHASES)] = ALL_PHASES  # which of them are measured
    endpoint: NameOrNone = ""  # of engine served: http://HOST:PORT on this host
    served_model: NameOrNone = ""  # what its server calls the model; not needed where it has one alone

    @property
    def label(self) -> str:
        """What tells this cell from the others of a suite."""
        model = f"{self.model} {self.weights}" if self.weights.startswith("random:") else self.weights
        threads = "" if self.threads is None else f" threads={self.threads}"
        quantized = "" if self.quantization == "none" else f" {self.quantization}"
        work = f"{model} {self.dtype}{quantized} batch={self.batch} {self.prompt_tokens}/{self.output_tokens}"
        how = f"{self.engine} {self.mode} {self.attention} {self.accelerator}"
        if self.endpoint:  # mode and attention are the server's own
            how = f"{self.engine} {self.accelerator}"
        phases = "" if self.measured == _ALL else f" {'+'.join(phase.value for phase in self.measured)} only"
        return f"{work} {how}{threads}{self._settings} seed={self.prompt_seed}{phases}{self._where}"

    @property
    def measured(self) -> tuple[Phase, ...]:
        """The phases that are measured, in the order in which they come."""
        asked = {name.strip() for name in self.phases.split(",")}
        return tuple(phase for phase in _ALL if phase.value in asked)

    @property
    def model_key(self) -> tuple[str, ...]:
        """What cells must share to be measured on one model in memory."""
        named = (name for name in self.__struct_fields__ if name not in _OF_ONE_PROMPT | _OF_ONE_MODE)
        return tuple(f"{name}={getattr(self, name)}" for name in named)

    @property
    def load_key(self) -> tuple[str, ...]:
        """What cells must share to be measured one after another: the model, made ready in one way."""
        named = (name for name in self.__struct_fields__ if name not in _OF_ONE_PROMPT)
        return tuple(f"{name}={getattr(self, name)}" for name in named)

    @property
    def _settings(self) -> str:
        """Those that are not as they mostly are."""
        told = (
            (self.tf32, "tf32"),
            (self.fused_weights, "fused"),
            (self.prefill_chunk, f"chunk={self.prefill_chunk}"),
            (self.experts, f"experts={self.experts}"),
            (self.tensor_parallel > 1, f"tensor={self.tensor_parallel}"),
        )
        return "".join(f" {text}" for chosen, text in told if chosen)

    @property
    def _where(self) -> str:
        return f" at {self.endpoint} {self.served_model}".rstrip() if self.endpoint else ""


class Suite(Struct, frozen=True):
    """A named list of cells."""

    name: str
    about: str
    measure: Measure
    cells: tuple[Cell, ...]
    seed: int = 1  # of the order in which they are measured
    alone: Cell | None = None  # where there are no cells: on what ceilings are measured, all that are known

    @property
    def digest(self) -> str:
        """Id of what this suite measures, whatever it is called."""
        on = [] if self.alone is None else [self.alone.label]
        content = msgspec.json.encode([self.measure, [*(cell.label for cell in self.cells), *on]])
        return hashlib.sha256(content).hexdigest()[:16]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    """A suite file as written: every key of a cell may hold one value or a list of them."""

    about: Annotated[str, Meta(pattern=_PLAIN)]
    cells: list[dict[str, Any]] = []
    measure: Measure = Measure()
    defaults: dict[str, Any] = {}
    seed: Annotated[int, Meta(ge=0, le=2**31)] = 1


def shipped() -> dict[str, Suite]:
    """The suites that come with the agent, by name."""
    files = [f for f in resources.files("agent.suites").iterdir() if f.name.endswith(".toml")]
    names = sorted(f.name.removesuffix(".toml") for f in files)
    return {name: load(name, {}) for name in names}


def load(name_or_path: str, overrides: Mapping[str, Any]) -> Suite:
    """The shipped suite of that name, or the suite in that file, with `overrides` in every cell.

    Raises:
        ConfigInvalid: no such suite, or a key or value in it is wrong.
    """
    is_file = name_or_path.endswith(".toml")
    path = Path(name_or_path) if is_file else resources.files("agent.suites") / f"{name_or_path}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if is_file:
            raise ConfigInvalid(f"suite: cannot read {name_or_path}: {error}") from error
        raise ConfigInvalid(
            f"suite: no suite {name_or_path!r}; known: {', '.join(shipped())}, or the path of a .toml file"
        ) from error
    name = Path(name_or_path).stem if is_file else name_or_path
    return parse(name, text, overrides, origin=Path(str(path)).name)


def parse(name: str, text: str, overrides: Mapping[str, Any], origin: str) -> Suite:
    """The suite in `text`; lists are swept in the order of the cell's keys.

    Raises:
        ConfigInvalid: as `load`.
    """
    file = settings.parse(text, _File, origin)
    tables = [{**file.defaults, **written, **overrides} for written in file.cells]
    count = sum(math.prod(len(value) for value in table.values() if isinstance(value, list)) for table in tables)
    if count > MAX_CELLS:
        raise ConfigInvalid(f"{origin}: {count} cells, more than the {MAX_CELLS} that a suite may have: sweep less")
    cells = [
        settings.convert(values, Cell, origin, f"cells[{index}]")
        for index, table in enumerate(tables)
        for values in _swept(table)
    ]
    if not file.cells and not file.measure.ceilings:
        raise ConfigInvalid(f"{origin}: cells: expected one or more, or ceilings = true in [measure], got none")
    if file.cells and not cells:
        raise ConfigInvalid(f"{origin}: no cell is left: an empty list sweeps nothing")
    for cell in cells:
        _check(cell)
    alone = None if cells else _alone({**file.defaults, **overrides}, origin)
    several = tuple(dict.fromkeys(cells))
    return Suite(name=name, about=file.about, measure=file.measure, cells=several, seed=file.seed, alone=alone)


def _alone(settings_of_all: Mapping[str, Any], origin: str) -> Cell:
    """What a suite without cells is measured on: an engine and a processor, and no work."""
    told = {"prompt_tokens": 1, "output_tokens": 2} | {
        key: value for key, value in settings_of_all.items() if key in ("engine", "accelerator")
    }
    (values,) = itertools.islice(_swept(told), 1)
    cell = settings.convert(values, Cell, origin, "defaults")
    _check(cell)
    return cell


def _check(cell: Cell) -> None:
    """Raise ConfigInvalid for a name that no agent of this version knows, before anything is started."""
    engines.check(cell.engine)
    if (cell.engine == "served") != bool(cell.endpoint):
        raise ConfigInvalid('endpoint: expected with engine = "served", and with it alone')
    if cell.endpoint:
        endpoint_of(cell.endpoint)
    if cell.tensor_parallel > 1 and cell.engine != "transformers":
        raise ConfigInvalid(f"tensor_parallel: not with engine {cell.engine!r}; engine transformers shares a model")
    if cell.endpoint and cell.threads is not None:
        raise ConfigInvalid('threads: a server has its own; leave it out with engine = "served"')
    kind, _, where = cell.weights.partition(":")
    if kind not in WEIGHTS or not where:
        raise ConfigInvalid(f"weights: expected random:SEED, path:DIR or hub:OWNER/NAME, got {cell.weights!r}")
    if kind == "random":
        models.named(cell.model)
    if len(cell.label) > MAX_LABEL:
        raise ConfigInvalid(f"weights: a name of {len(cell.weights)} letters is too long: {cell.weights[:40]}...")


def _swept(written: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    choices = [value if isinstance(value, list) else [value] for value in written.values()]
    for values in itertools.product(*choices):
        yield dict(zip(written, values, strict=True))
