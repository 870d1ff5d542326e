"""A running suite on a terminal, or as JSON: progress while it runs, a table of first figures when it is done."""

from __future__ import annotations

import json
import sys

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from agent import ceiling_table
from agent.measuring import AnyReport, Begun, Broken, CeilingsDone, CellBegun, CellDone, Ended, OutOfTime, Stage
from agent.pace import in_words
from phasewatt.fields import Outcome

_COLUMNS = (
    ("ttft", "TTFT", 1e3, "ms"),
    ("tpot", "TPOT", 1e3, "ms"),
    ("prefill_rate", "prefill", 1.0, "tok/s"),
    ("decode_rate", "decode", 1.0, "tok/s"),
    ("decode_token_energy", "energy", 1.0, "J/tok"),
)
_STOPPED = 130
_OUT_OF_TIME = 3


class Screen:
    """For a person: a bar that says what is being done, then the table."""

    def __init__(self) -> None:
        self.campaign: str | None = None
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[left]}"),
            TextColumn("[dim]{task.fields[stage]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("cells", total=None, stage="", left="")
        self._done: list[CellDone] = []
        self._ceilings: CeilingsDone | None = None
        self._code = 0
        self._last_lines: list[str] = []
        self._progress.start()

    def tell(self, report: AnyReport) -> None:
        """Show one report."""
        if isinstance(report, Begun):
            self._begun(report)
        elif isinstance(report, Stage):
            self._progress.update(self._task, stage=escape(report.text))
        elif isinstance(report, CellBegun):
            self._progress.update(self._task, left=_left(report.left_s))
            self._line(f"measuring {report.label}" + (f" #{report.repeat}" if report.repeat > 1 else ""))
        elif isinstance(report, CellDone):
            self._cell_done(report)
        elif isinstance(report, CeilingsDone):
            self._ceilings_done(report)
        elif isinstance(report, Ended):
            self._last_lines += report.optima
        elif isinstance(report, OutOfTime):
            self._code = _OUT_OF_TIME
            self._last_lines.append(f"{report.message}; the same command goes on with them")
        elif isinstance(report, Broken):
            self._code = report.exit_code
            self._last_lines.append(f"phasewatt-agent: {report.message}")

    def archived(self, message: str) -> None:
        """What became of the archive."""
        self._last_lines.append(message)

    def stopped(self, message: str) -> None:
        """The user ended it."""
        self._code = _STOPPED
        self._last_lines.append(
            f"phasewatt-agent: {message} ({len(self._done)} in this run); the same command goes on with the rest"
        )

    def delivery(self, message: str, done: bool) -> None:
        """What became of the records; not `done` makes the exit code 1."""
        self._code = self._code or int(not done)
        self._last_lines.append(f"delivery: {message}" if done else f"phasewatt-agent: {message}")

    def close(self) -> None:
        """Take the bar away, print the table and the last lines."""
        self._progress.stop()
        if self._ceilings is not None and self._ceilings.ceilings:
            Console().print(ceiling_table.table(self._ceilings))
        if self._done:
            Console().print(_table(self._done))
        for reason in dict.fromkeys(cell.energy_reason for cell in self._done if cell.energy_reason):
            self._line(f"energy: {reason}")
        for line in self._last_lines:
            self._line(line)

    def exit_code(self) -> int:
        """0 if every cell of this run was measured."""
        failed = any(cell.outcome is not Outcome.OK for cell in self._done)
        return self._code or int(failed)

    def _begun(self, begun: Begun) -> None:
        self.campaign = begun.campaign
        self._progress.update(self._task, total=begun.cells, completed=begun.done_before, left=_left(begun.left_s))
        if begun.done_before:
            self._line(f"going on with campaign {begun.campaign}: {begun.done_before} of {begun.cells} cells are done")
        if begun.left_s is not None and begun.cells:
            self._line(f"{begun.cells - begun.done_before} cells, {in_words(begun.left_s)}")

    def _cell_done(self, cell: CellDone) -> None:
        self._done.append(cell)
        self._progress.advance(self._task)
        for note in cell.notes:
            self._line(note)
        for mark in cell.marks:
            self._line(f"note: {mark}")
        if cell.outcome is not Outcome.OK:
            self._line(f"phasewatt-agent: cell {cell.outcome.value}: {cell.reason} [{cell.label}]")

    def _ceilings_done(self, done: CeilingsDone) -> None:
        self._ceilings = done
        if done.outcome is not Outcome.OK:
            self._line(f"phasewatt-agent: ceilings {done.outcome.value}: {done.reason}")
            self._code = self._code or int(done.asked)

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class JsonScreen:
    """For a program: one object at the end, on standard output; failures of cells also on standard error."""

    def __init__(self) -> None:
        self.campaign: str | None = None
        self._reports: list[CellDone] = []
        self._ceilings: CeilingsDone | None = None
        self._seed: int | None = None
        self._optima: tuple[str, ...] = ()
        self._left: OutOfTime | None = None
        self._archive: str | None = None
        self._delivery: str | None = None
        self._stopped: str | None = None
        self._code = 0

    def tell(self, report: AnyReport) -> None:
        """Keep what the object will hold."""
        if isinstance(report, Begun):
            self.campaign, self._seed = report.campaign, report.seed
        elif isinstance(report, CellDone):
            self._reports.append(report)
            if report.outcome is not Outcome.OK:
                print(f"phasewatt-agent: cell {report.outcome.value}: {report.reason}", file=sys.stderr)
        elif isinstance(report, CeilingsDone):
            self._ceilings = report
            self._code = self._code or int(report.asked and report.outcome is not Outcome.OK)
        elif isinstance(report, Ended):
            self._optima = report.optima
        elif isinstance(report, OutOfTime):
            self._code, self._left = _OUT_OF_TIME, report
        elif isinstance(report, Broken):
            self._code = report.exit_code
            print(f"phasewatt-agent: {report.message}", file=sys.stderr)

    def archived(self, message: str) -> None:
        """What became of the archive."""
        self._archive = message

    def stopped(self, message: str) -> None:
        """The user ended it."""
        self._code, self._stopped = _STOPPED, message

    def delivery(self, message: str, done: bool) -> None:
        """What became of the records; not `done` makes the exit code 1."""
        self._code = self._code or int(not done)
        self._delivery = message

    def close(self) -> None:
        """Print the object."""
        content = {
            "schema": "run/0",
            "campaign": self.campaign,
            "seed": self._seed,
            "cells": msgspec.to_builtins(self._reports),
            "ceilings": None if self._ceilings is None else msgspec.to_builtins(self._ceilings),
            "optima": list(self._optima),
            "left": None if self._left is None else {"cells": self._left.left, "expected_s": self._left.left_s},
            "stopped": self._stopped if self._left is None else self._left.message,
            "archive": self._archive,
            "delivery": self._delivery,
        }
        print(json.dumps(content, indent=2))

    def exit_code(self) -> int:
        """0 if every cell of this run was measured."""
        failed = any(cell.outcome is not Outcome.OK for cell in self._reports)
        return self._code or int(failed)


def _left(left_s: float | None) -> str:
    return "" if left_s is None else f"{in_words(left_s)} left"


def _table(cells: list[CellDone]) -> Table:
    table = Table(title="medians, for a first look")
    table.add_column("cell", overflow="fold")
    for _, heading, _, unit in _COLUMNS:
        table.add_column(f"{heading}\n{unit}", justify="right")
    for cell in cells:
        simulated = " (simulated)" if cell.simulated else ""
        table.add_row(escape(cell.label) + simulated, *(_figure(cell, name, scale) for name, _, scale, _ in _COLUMNS))
    return table


def _figure(cell: CellDone, name: str, scale: float) -> str:
    value = cell.figures.get(name)
    scope = f" ({cell.scope.value})" if name.endswith("_energy") and cell.scope else ""
    return "-" if value is None else f"{value * scale:.4g}{scope}"
