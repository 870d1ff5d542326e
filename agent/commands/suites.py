"""`phasewatt-agent suites [NAME]`."""

from __future__ import annotations

import argparse

import msgspec

from agent import cells


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A suite to show in full, or none."""
    parser.add_argument("name", nargs="?", help="a suite, or the path of a .toml file; none: list all")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the suites, or the cells of one."""
    suites = cells.shipped() if args.name is None else {args.name: cells.load(args.name, {})}
    if args.json:
        print(msgspec.json.encode({"schema": "suites/0", "suites": list(suites.values())}).decode())
        return 0
    for name, suite in suites.items():
        print(f"{name}: {suite.about} ({len(suite.cells)} cells)")
        if args.name is not None:
            for cell in suite.cells:
                print(f"  {cell.label}")
    return 0
