"""`compare`: how groups of trials do beside a baseline, on the terminal, as JSON or as Markdown."""

from __future__ import annotations

import argparse

from collector.by_condition import ByCondition
from collector.commands.selection import add_arguments as add_selection
from collector.commands.selection import price_of, selected, selected_by
from collector.comparison import Comparison
from phasewatt.errors import ConfigInvalid

_PIPED_COLUMNS = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which trials, and in which form."""
    add_selection(parser)
    parser.add_argument("--markdown", action="store_true", help="print Markdown")


def run(args: argparse.Namespace) -> int:
    """Print the comparison."""
    if args.json and args.markdown:
        raise ConfigInvalid("--json, --markdown: expected one of them")
    if args.by:
        _print_by(selected_by(args), args)
        return 0
    price_of(args)
    with selected(args) as selection:
        _print(selection.comparison, args)
    return 0


def _print(comparison: Comparison, args: argparse.Namespace) -> None:
    import msgspec
    from rich.console import Console

    from collector.report import markdown, terminal

    if args.json:
        print(msgspec.json.format(msgspec.json.encode(comparison)).decode())
    elif args.markdown:
        print(markdown.render(comparison), end="")
    else:
        console = Console()
        terminal.show(comparison, console if console.is_terminal else Console(width=_PIPED_COLUMNS))


def _print_by(by: ByCondition, args: argparse.Namespace) -> None:
    import msgspec
    from rich.console import Console

    from collector.report import by_markdown, by_terminal

    if args.json:
        print(msgspec.json.format(msgspec.json.encode(by)).decode())
    elif args.markdown:
        print(by_markdown.render(by), end="")
    else:
        console = Console()
        by_terminal.show(by, console if console.is_terminal else Console(width=_PIPED_COLUMNS))
