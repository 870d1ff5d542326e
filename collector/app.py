"""The collector's command line: parses, opens nothing itself, and turns every expected failure into one line."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from collector.conditions import printable
from phasewatt import __version__
from phasewatt.errors import PhasewattError, StoreUnavailable

PROGRAM = "phasewatt-collector"
_INTERRUPTED = 130  # what a shell expects after Ctrl-C


class Command(NamedTuple):
    """A command: its module has `add_arguments(parser)` and `run(args) -> int`, and imports what is heavy in `run`."""

    module: str
    help: str
    json: bool = False  # takes --json


COMMANDS = {
    "serve": Command("collector.commands.serve", "receive what boards send, until stopped"),
    "enroll": Command("collector.commands.enroll", "let a board in, renew what it has, or shut it out"),
    "broker-config": Command("collector.commands.broker_config", "configure a mosquitto that keeps boards apart"),
    "watch": Command("collector.commands.watch", "show what boards sample, as it happens", json=True),
    "devices": Command("collector.commands.devices", "list the boards and how they are", json=True),
    "trials": Command("collector.commands.trials", "list the trials", json=True),
    "jobs": Command("collector.commands.jobs", "have boards run suites: submit, list, show, cancel", json=True),
    "drift": Command("collector.commands.drift", "compare nightly canaries with each device's own history", json=True),
    "telemetry": Command("collector.commands.telemetry", "show what a board showed, hour by hour", json=True),
    "compare": Command("collector.commands.compare", "compare trials of the same work", json=True),
    "findings": Command("collector.commands.findings", "say which claims of the study hold here, and why", json=True),
    "predict": Command("collector.commands.predict", "say what a workload that was never run would take", json=True),
    "roofline": Command("collector.commands.roofline", "show where the time of each phase goes, and why", json=True),
    "sweeps": Command("collector.commands.sweeps", "show sweeps over batch sizes, and where each is best", json=True),
    "counters": Command("collector.commands.counters", "show what the hardware did in each operator", json=True),
    "course": Command("collector.commands.course", "show how a sustained trial went over time", json=True),
    "report": Command("collector.commands.report", "write a comparison as a document"),
    "import": Command("collector.commands.import_", "store what an export file holds"),
    "export": Command("collector.commands.export", "write the records to a file"),
    "db": Command(
        "collector.commands.db", "look after the database: upgrade, check, vacuum, backup, restore", json=True
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    _prepare_output()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        args = _parsed(arguments)
        args.state = _state(os.environ.get("XDG_STATE_HOME"))
        args.search_path = os.environ.get("PATH", os.defpath)  # where programs are looked for
        args.db_is_default = args.db is None  # `findings` then asks the trials that come with phasewatt
        args.db = args.db or _default_db(args.state)
        code: int = importlib.import_module(COMMANDS[args.command].module).run(args)
        sys.stdout.flush()
        return code
    except PhasewattError as error:
        print(f"{PROGRAM}: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("collector", "phasewatt")):
            raise  # our own fault, not an extra that was left out
        print(f"{PROGRAM}: {error.name} is not installed: pip install 'phasewatt[collector]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has what it wanted; Python would still complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{PROGRAM}: {error.strerror or error}: {error.filename or 'standard output'}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return _parser().parse_args(arguments)
    finally:
        sys.stdout.flush()  # of the help, here rather than at exit, where a failure has no handler


def _prepare_output() -> None:
    """Let no letter that the terminal lacks, and no closed output, end a command."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as we live
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Store, compare and show what boards measured.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=command.help)
        subparser.add_argument(
            "--db",
            metavar="URL",
            help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME (default: a file in the state directory)",
        )
        if command.json:
            subparser.add_argument("--json", action="store_true", help="print JSON, as docs/json.md describes it")
        importlib.import_module(command.module).add_arguments(subparser)
    return parser


def _state(state_home: str | None) -> Path:
    return Path(state_home or Path.home() / ".local" / "state") / "phasewatt"


def _default_db(directory: Path) -> str:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"{directory}: {error.strerror}; name a database with --db") from error
    return f"sqlite:///{directory / 'collector.db'}"


if __name__ == "__main__":
    sys.exit(main())
