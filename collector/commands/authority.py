"""The option of the commands that need the fleet's authority: the folder that holds it."""

from __future__ import annotations

import argparse
from pathlib import Path

FOLDER = "authority"
BROKER_FOLDER = "broker"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the authority is."""
    parser.add_argument(
        "--authority",
        type=Path,
        metavar="DIR",
        help=f"the fleet's certificate authority (default: {FOLDER} in the state directory)",
    )


def folder_of(args: argparse.Namespace) -> Path:
    """The folder, whole, since other programs read there too."""
    chosen: Path = args.authority or args.state / FOLDER
    return chosen.absolute()
