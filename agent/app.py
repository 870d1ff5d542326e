"""The agent's command line: parses, reads the environment, and turns every expected failure into one line."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from phasewatt import __version__
from phasewatt.errors import PhasewattError

PROGRAM = "phasewatt-agent"
_SYSTEM_STATE = Path("/var/lib/phasewatt-agent")


class Command(NamedTuple):
    """A command: its module has `add_arguments(parser)` and `run(args) -> int`, and imports what is heavy in `run`."""

    module: str
    help: str


COMMANDS = {
    "doctor": Command("agent.commands.doctor", "say what this host can measure, and what stops it"),
    "run": Command("agent.commands.run", "measure a suite now, or hand it to the daemon that lives here"),
    "serve": Command("agent.commands.serve", "run as a daemon: telemetry, delivery, and suites on demand"),
    "join": Command("agent.commands.join", "install the bundle that lets this board in at its broker"),
    "meters": Command("agent.commands.meters", "show the power sensors of this host; find out how they behave"),
    "simulate": Command("agent.commands.simulate", "play a Jetson in a folder, for trying things out without one"),
    "suites": Command("agent.commands.suites", "list the suites, or show what one would do here"),
    "models": Command("agent.commands.models", "list the models, or what one asks of the hardware, by operator"),
    "counters": Command("agent.commands.counters", "count what the hardware did, operator by operator, by ncu"),
    "gguf": Command("agent.commands.gguf", "write a model with random weights as a GGUF file, for a llama.cpp server"),
    "export": Command("agent.commands.export", "write what the outbox holds to a file, for carrying by hand"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    _prepare_output()
    try:
        args = _parsed(arguments)
        level = logging.INFO if args.command == "serve" else logging.ERROR
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        code: int = importlib.import_module(COMMANDS[args.command].module).run(args)
        sys.stdout.flush()
    except PhasewattError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has what it wanted; Python would still complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{PROGRAM}: {error.strerror or error}: {error.filename or 'standard output'}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return _parser(os.environ).parse_args(arguments)
    finally:
        sys.stdout.flush()  # of the help, here rather than at exit, where a failure has no handler


def _prepare_output() -> None:
    """Let no letter that the terminal lacks, and no closed output, end a command."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as we live
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Measure what each phase of LLM inference costs here.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=command.help)
        subparser.add_argument(
            "--state-dir", type=Path, default=_state(environment), help="where the outbox lives (default: %(default)s)"
        )
        importlib.import_module(command.module).add_arguments(subparser)
    return parser


def _state(environment: Mapping[str, str]) -> Path:
    """State of the service where it is installed and may be used, else of the user."""
    if os.access(_SYSTEM_STATE, os.W_OK):
        return _SYSTEM_STATE
    home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "phasewatt" / "agent"


if __name__ == "__main__":
    sys.exit(main())
