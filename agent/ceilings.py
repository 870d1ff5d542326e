"""The ceilings of a host, measured: a trial of its own at the start of a campaign, and all of the suite `ceilings`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from agent import sheets
from agent.attempt import Attempt, Finished
from agent.bench import Bench, Placed
from agent.cells import Cell, Suite
from agent.course import Watch
from agent.host import Host
from agent.orders import CeilingMeasured, Described, MeasureCeiling
from phasewatt.errors import EngineAbsent, EngineFailed
from phasewatt.fields import Outcome
from phasewatt.profiles import Ceiling
from phasewatt.work import Architecture

CELL = "ceilings"  # what the trial is called among those of its campaign
BRIEF_S, WHOLE_S = 6.0, 40.0  # about how long all of them take, engine and random data included
_UNITS = {"matmul": "FLOP/s", "copy": "byte/s", "read": "byte/s", "launch": "s"}
_LAUNCHES = (1000,)
_LIMIT_S = 300.0
_LOOK_S = 0.05  # between two looks at the clock
_SIDES = {"cuda": (4096, 8192), "cpu": (512, 1024)}  # of square products; a campaign takes the second


class Kind(NamedTuple):
    """One ceiling that is to be measured."""

    work: str
    shape: tuple[int, ...]
    dtype: str


def kinds(accelerator: str, cell: Cell, shape: Architecture, whole: bool) -> tuple[Kind, ...]:
    """The ceilings of a processor: a few for a campaign of `cell`'s model, or all that are known."""
    dtypes = ("bfloat16", "float16", "tf32", "float32") if accelerator == "cuda" else ("float32", "bfloat16")
    half_first = "bfloat16" if accelerator == "cuda" else "float32"
    chosen = cell.dtype if not whole else half_first
    found = [*_products(accelerator, dtypes if whole else (chosen,), whole)]
    if not whole:
        found.append(Kind("matmul", (cell.prompt_tokens, shape.intermediate_size, shape.hidden_size), chosen))
        found.append(Kind("read", (shape.vocab_size, shape.hidden_size), chosen))
    wide = 16384 if accelerator == "cuda" else 8192  # beyond any cache
    found += [Kind("copy", (wide * wide,), chosen), Kind("read", (wide, wide), chosen)]
    return tuple(dict.fromkeys([*found, Kind("launch", _LAUNCHES, "float32")]))


def _products(accelerator: str, dtypes: tuple[str, ...], whole: bool) -> Iterator[Kind]:
    sides = _SIDES[accelerator] if accelerator in _SIDES else _SIDES["cpu"]
    for dtype in dtypes:
        for side in sides if whole else sides[1:2]:
            yield Kind("matmul", (side,) * 3, dtype)


class Ceilings:
    """Measures them on a bench, before a model is loaded there."""

    def __init__(self, host: Host, bench: Bench, progress: Callable[[str], None]) -> None:
        self._host = host
        self._bench = bench
        self._progress = progress

    def measure(self, attempt: Attempt, whole: bool) -> Finished:
        """The trial: OK with ceilings and no work, or failed or skipped with its reason.

        Raises:
            Stopped: asked to end.
        """
        found: tuple[Ceiling, ...] = ()
        try:
            found = self._all(attempt, whole)
        except EngineFailed as error:
            attempt.outcome = Outcome.SKIPPED if isinstance(error, EngineAbsent) else Outcome.FAILED
            attempt.reason = str(error)
            self._bench.clear()
        trial = attempt.finished().trial
        conditions = msgspec.structs.replace(trial.conditions, mode="eager", attention=None, fused_weights=None)
        reason = "ceilings are not metered"
        named = msgspec.structs.replace(trial, cell=CELL, conditions=conditions, energy_reason=reason)
        return Finished(msgspec.structs.replace(named, ceilings=found), ())

    def _all(self, attempt: Attempt, whole: bool) -> tuple[Ceiling, ...]:
        self._progress("measuring ceilings")
        described = self._bench.describe(attempt.cell)
        attempt.placed = Placed(described, None, None, None)
        attempt.observe()
        asked = kinds(described.accelerator, attempt.cell, described.architecture, whole)
        found = tuple(self._one(kind, described, attempt.cell.threads, whole) for kind in asked)
        attempt.observe()
        if not any(ceiling.values for ceiling in found):
            raise EngineFailed(found[0].reason or "no ceiling was measured")
        return found

    def _one(self, kind: Kind, described: Described, threads: int | None, whole: bool) -> Ceiling:
        """One ceiling, or why it could not be had: a dtype that is not known there costs one figure."""
        order = MeasureCeiling(
            work=kind.work,
            shape=kind.shape,
            dtype=kind.dtype,
            accelerator=described.accelerator,
            repetitions=7 if whole else 3,
            seconds=0.1 if whole else 0.03,
            threads=threads,
        )
        self._progress(f"measuring ceilings: {kind.work} {kind.dtype} {'x'.join(map(str, kind.shape))}")
        reason, measured = None, CeilingMeasured(values=())
        with Watch(lambda: self._host.observe(described.accelerator, described.gpu_uuid), _LOOK_S) as watch:
            try:
                measured = self._bench.ask(order, CeilingMeasured, _LIMIT_S)
            except EngineFailed as error:  # this dtype is not known there, or its matrices do not fit
                reason = str(error)
        clock_hz = _clock_hz(watch)
        sheet = sheets.sheet_of(described.processor, self._host.jetson.module if self._host.jetson else None)
        known = sheets.expected(sheet, kind.work, kind.dtype, clock_hz) if sheet else None
        return Ceiling(
            work=kind.work,
            unit=_UNITS[kind.work],
            shape=kind.shape,
            dtype=kind.dtype,
            values=measured.values,
            processor=described.accelerator,
            threads=measured.threads,
            clock_hz=clock_hz,
            sheet=known.value if known and described.accelerator == "cuda" else None,
            sheet_source=known.source if known and described.accelerator == "cuda" else None,
            reason=reason,
        )


def _clock_hz(watch: Watch) -> int | None:
    """The median of what was seen; the first looks may still be of an idle clock."""
    seen = [] if watch.course is None else [clock for clock in watch.course.clock_hz if clock is not None]
    return round(statistics.median(seen)) if seen else None


def seconds(suite: Suite) -> float:
    """About how long the ceilings of `suite` take."""
    if not suite.measure.ceilings:
        return 0.0
    return BRIEF_S if suite.cells else WHOLE_S


def basis(cells: Sequence[Cell]) -> Cell:
    """Where the ceilings of a campaign are measured: by torch, where the work of its first cell is done.

    With as many CPU threads as all cells have, with torch's own number where they differ. An engine that computes
    elsewhere, or by other means, has no ceilings of its own: they are the machine's.
    """
    cell = cells[0]
    threads = cell.threads if len({each.threads for each in cells}) == 1 else None
    if cell.engine in ("transformers", "fake"):
        return cell if cell.threads == threads else msgspec.structs.replace(cell, threads=threads)
    plain = Cell(
        prompt_tokens=cell.prompt_tokens,
        output_tokens=cell.output_tokens,
        dtype=cell.dtype,
        accelerator=cell.accelerator,
        threads=threads,
    )
    return msgspec.structs.replace(plain, model=cell.model) if cell.weights.startswith("random:") else plain
