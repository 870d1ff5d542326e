"""What a suite would do on this host: its cells, the memory that each needs, and about how long it takes."""

from __future__ import annotations

from msgspec import Struct

from agent import bench, ceilings, memory
from agent.cells import Cell, Suite
from agent.estimate import task_of
from agent.host import Host
from agent.pace import Expectation, Pace, in_words, shape_of, sources
from agent.sequence import sequence
from phasewatt.work import Architecture


class PlannedCell(Struct, frozen=True):
    """One cell; what is not known before its weights are there is None."""

    label: str
    repeats: int
    needed_bytes: int | None
    free_bytes: int | None
    skipped: str | None  # why it would not be measured
    expected_s: float  # of one repeat
    known: bool  # from an earlier trial of this host; else roughly estimated


class SuitePlan(Struct, frozen=True):
    """The whole suite; cells that would be skipped take no time."""

    name: str
    about: str
    seed: int
    cells: tuple[PlannedCell, ...]
    loads: int
    expected_s: float
    basis: str  # what `expected_s` rests on
    ceilings_s: float = 0.0  # of that, for what the host does at most


def plan(suite: Suite, host: Host, pace: Pace, estimated_as: str) -> SuitePlan:
    """The plan of `suite`; `estimated_as` names the hardware that rough estimates are of."""
    planned = {cell: _planned(cell, suite, host, pace.cell(cell)) for cell in suite.cells}
    turns = [turn for turn in sequence(suite) if planned[turn.cell].skipped is None]
    loads = {turn.cell.load_key: turn.cell for turn in turns}
    expected = [*(pace.cell(turn.cell) for turn in turns), *(pace.load(cell) for cell in loads.values())]
    basis = sources(expected)
    return SuitePlan(
        name=suite.name,
        about=suite.about,
        seed=suite.seed,
        cells=tuple(planned.values()),
        loads=len(loads),
        expected_s=round(pace.left_s(turns, ()) + ceilings.seconds(suite), 1),
        ceilings_s=ceilings.seconds(suite),
        basis=basis if all(each.known for each in expected) else f"{basis} as {estimated_as}",
    )


def in_lines(planned: SuitePlan) -> list[str]:
    """The plan as a person reads it, after its table."""
    skipped = [cell for cell in planned.cells if cell.skipped is not None]
    turns = sum(cell.repeats for cell in planned.cells if cell.skipped is None)
    lines = [f"{cell.label}: {cell.skipped}" for cell in skipped]
    if planned.ceilings_s:
        lines.append(f"ceilings of this host first: {in_words(planned.ceilings_s)}")
    if not planned.cells:
        return lines
    lines.append(
        f"{turns} trials, {planned.loads} {'load' if planned.loads == 1 else 'loads'}, order seed {planned.seed}: "
        f"{in_words(planned.expected_s)} ({planned.basis})"
    )
    return lines


def runs_on_cpu(cell: Cell, host: Host) -> bool:
    """Whether the CPU would do the work."""
    return cell.accelerator == "cpu" or not (host.gpus.facts() or host.jetson)


def free_bytes(cell: Cell, host: Host) -> int | None:
    """Memory that a model can have now on what would do the work; None: the host does not tell."""
    if runs_on_cpu(cell, host):
        return memory.available_bytes()
    if host.jetson:
        return memory.shared_free_bytes()
    free = host.gpus.memory_free_bytes()
    return None if free is None else free * cell.tensor_parallel  # the others are taken to be as free as the first


def _planned(cell: Cell, suite: Suite, host: Host, expected: Expectation) -> PlannedCell:
    shape = shape_of(cell)
    on_cpu = runs_on_cpu(cell, host)
    needed = None if shape is None else bench.needed_bytes(task_of(shape, cell), cell, on_cpu)
    free = free_bytes(cell, host)
    gpus = None if on_cpu else max(1, len(host.gpus.facts()))
    return PlannedCell(
        label=cell.label,
        repeats=suite.measure.repeats,
        needed_bytes=needed,
        free_bytes=free,
        skipped=None if shape is None else _why_skipped(cell, shape, needed, free, gpus),
        expected_s=round(expected.seconds, 1),
        known=expected.known,
    )


def _why_skipped(cell: Cell, shape: Architecture, needed: int | None, free: int | None, gpus: int | None) -> str | None:
    """`gpus` of this host; None: a CPU does the work."""
    if gpus is not None and cell.tensor_parallel > gpus:
        return f"skipped: needs {cell.tensor_parallel} GPUs, there {'is' if gpus == 1 else 'are'} {gpus}"
    length = cell.prompt_tokens + cell.output_tokens
    if length > shape.max_position:
        return f"skipped: {length} tokens are more than the {shape.max_position} positions of {shape.name}"
    if needed is not None and free is not None and needed > free:
        return f"skipped: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    return None
