"""How long the hardware took: device-busy time, graph mode, or a CPU's own time; never eager host time of a GPU. Pure.

Eager decode of an 8B model took 18 to 82 ms a step on one H200 by its host's CPU alone, and the device 6 ms of them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from collector.findings import bounds
from collector.findings.bounds import Bounds
from collector.findings.families import Family
from collector.stored import StoredTrial
from phasewatt.fields import Phase
from phasewatt.metrics import Readings
from phasewatt.records import PhaseRun, Trial

_BUSY, _GRAPH, _CPU = "device-busy time", "graph mode", "time of the CPU, which is the device"


class Cell(NamedTuple):
    """What was run: so many sequences, from one depth of their caches to another."""

    batch: int
    kv_start: int
    kv_end: int


class Timed(NamedTuple):
    """Seconds of a prefill, or of one decode step."""

    cell: Cell
    seconds: Bounds
    basis: str
    trials: tuple[StoredTrial, ...]


def timed(family: Family, phase: Phase, batch: int | None = 1) -> list[Timed]:
    """What the family's trials say of `phase`, by length; `batch` None: every batch."""
    found: defaultdict[Cell, list[tuple[StoredTrial, Readings, str]]] = defaultdict(list)
    for stored in family.trials:
        run = stored.trial.run_of(phase)
        if run is None or stored.trial.work is None:
            continue
        cell = Cell(stored.trial.work.task.batch, run.kv_start, run.kv_end)
        times, basis = _times(stored.trial, run)
        if basis is not None and (batch is None or cell.batch == batch):
            found[cell].append((stored, Readings(tuple(times)), basis))
    return [each for cell in sorted(found) if (each := _timed(cell, phase, found[cell])) is not None]


def bases(several: list[Timed]) -> str | None:
    """What they rest on."""
    return " and ".join(dict.fromkeys(each.basis for each in several)) or None


def without_device_time(family: Family) -> str | None:
    """Why trials of the family that were run say nothing of the hardware; None: they do, or there are none."""
    for stored in family.trials:
        for run in stored.trial.runs:
            if run.phase in (Phase.PREFILL, Phase.DECODE) and _times(stored.trial, run)[1] is None:
                mode = stored.trial.conditions.mode
                return f"{mode} host time says nothing of the hardware: {_reason(stored.trial, run)}"
    return None


def _reason(trial: Trial, run: PhaseRun) -> str:
    if trial.conditions.engine == "served":
        return "a server is timed from outside"
    return run.device_busy_reason or "no device-busy time was taken"


def _times(trial: Trial, run: PhaseRun) -> tuple[list[float], str | None]:
    """Seconds of repetitions, and what they are; none where only the host was timed."""
    how = trial.conditions
    if how.engine == "served":
        return [], None
    if run.device_busy_ns:
        return [busy * 1e-9 for busy in run.device_busy_ns], _BUSY
    seconds = [span.duration_s for span in run.spans()]
    if how.mode == "graph":
        return seconds, _GRAPH
    return (seconds, _CPU) if how.accelerator == "cpu" else ([], None)


def _timed(cell: Cell, phase: Phase, several: list[tuple[StoredTrial, Readings, str]]) -> Timed | None:
    found = bounds.measured([readings for _, readings, _ in several], f"{phase.value} {cell}")
    if found is None:
        return None
    steps = phase.steps(cell.kv_start, cell.kv_end)
    basis = " and ".join(dict.fromkeys(basis for _, _, basis in several))
    return Timed(cell, found.times(1 / steps), basis, tuple(stored for stored, _, _ in several))
