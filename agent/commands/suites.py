"""`phasewatt-agent suites [show NAME]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent import cells
from agent.commands.run import add_overrides, overrides
from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from agent.cells import Suite
    from agent.plans import SuitePlan

_PIPED_COLUMNS = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A suite to show in full, or none."""
    parser.add_argument(
        "words", nargs="*", metavar="[show] NAME", help="a suite, or the path of a .toml file; none: list all"
    )
    add_overrides(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the suites, or what one of them would do here."""
    name = _name(args.words)
    if name is None:
        _list(cells.shipped(), args.json)
        return 0
    suite = cells.load(name, overrides(args))
    planned = _plan(suite, args.state_dir)
    if args.json:
        content = {"schema": "suites/1", "suites": [suite], "plan": planned}
        print(msgspec.json.encode(content).decode())
    else:
        _show(planned)
    return 0


def _name(words: list[str]) -> str | None:
    names = words[1:] if words[:1] == ["show"] else words
    if len(names) > 1 or (words == ["show"]):
        raise ConfigInvalid(f"suites: expected the name of one suite, got {' '.join(words)!r}")
    return names[0] if names else None


def _list(suites: dict[str, Suite], as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"schema": "suites/1", "suites": list(suites.values())}).decode())
        return
    for name, suite in suites.items():
        print(f"{name}: {suite.about} ({f'{len(suite.cells)} cells' if suite.cells else 'no model'})")


def _plan(suite: Suite, state: Path) -> SuitePlan:
    from agent import plans
    from agent.durations import Durations
    from agent.host import Host
    from agent.pace import Pace, rates_of

    host = Host("this-host")
    has_gpu = bool(host.gpus.facts())
    rates = rates_of(has_gpu, host.jetson is not None)
    metered = has_gpu or host.jetson is not None  # near enough for a plan: no meter is opened for it
    pace = Pace(suite.measure, Durations(state), rates, metered)
    return plans.plan(suite, host, pace, estimated_as=rates(suite.cells[0]).about if suite.cells else "")


def _show(planned: SuitePlan) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from agent.pace import in_words
    from agent.plans import in_lines

    console = Console()
    console = console if console.is_terminal else Console(width=_PIPED_COLUMNS)
    table = Table("cell", "repeats", "needs", "free", "takes", "by", box=None, pad_edge=False, header_style="bold")
    for cell in planned.cells:
        takes = "-" if cell.skipped else in_words(cell.expected_s)
        basis = "skipped" if cell.skipped else "earlier trial" if cell.known else "rough estimate"
        texts = (str(cell.repeats), _gigabytes(cell.needed_bytes), _gigabytes(cell.free_bytes), takes, basis)
        table.add_row(Text(cell.label), *map(Text, texts))
    console.print(Text(f"{planned.name}: {planned.about}"))
    if planned.cells:
        console.print(table)
    for line in in_lines(planned):
        console.print(Text(line))


def _gigabytes(size: int | None) -> str:
    return "not known" if size is None else f"{size / 1e9:.1f} GB"
