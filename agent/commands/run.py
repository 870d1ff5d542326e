"""`phasewatt-agent run SUITE`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.commands import options
from phasewatt.errors import ConfigInvalid, StateBusy, Stopped

if TYPE_CHECKING:
    from agent.control import RunRequest
    from agent.screen import JsonScreen, Screen
    from agent.station import Station
    from agent.stopping import Stop

_TEXTS = ("model", "weights", "dtype", "engine", "attention", "accelerator", "endpoint", "served_model")
_SLICE_S = 0.5
_NUMBERS = ("batch", "threads", "prompt_tokens", "output_tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite, what to change in its cells, and the settings."""
    parser.add_argument("suite", help="a suite, or the path of a .toml file")
    for name in (*_TEXTS, *_NUMBERS):
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="V[,V]", help=f"{name} of every cell, whatever the suite says"
        )
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier run was interrupted")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument(
        "--wait-s", type=float, default=30.0, help="time for delivery at the end (default: %(default)s)"
    )
    options.add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, or let the daemon do it; 0 if every cell was measured."""
    from agent import cells
    from agent.control import RunRequest
    from agent.stopping import Stop

    request = RunRequest(suite=cells.load(args.suite, _overrides(args)), fresh=args.fresh)
    stop = Stop()
    stop.on_signals()
    with _shown(args.json, len(request.suite.cells)) as screen:
        try:
            _here(args, request, screen, stop)
        except StateBusy:
            _by_daemon(args, request, screen, stop)
    return screen.exit_code()


def _here(args: argparse.Namespace, request: RunRequest, screen: Screen | JsonScreen, stop: Stop) -> None:
    """Be the daemon for as long as the suite takes."""
    from agent.station import Station

    station = Station(args.state_dir, options.settings_of(args))
    try:
        station.execute(request, screen.tell, stop)
    except Stopped as error:
        screen.stopped(str(error))
    finally:
        screen.delivery(*_delivered(station, args.wait_s, stop))
        station.close()


def _delivered(station: Station, wait_s: float, stop: Stop) -> tuple[str, bool]:
    """What became of the records, in words, and whether that is what was asked for."""
    link = station.link
    if link is None:
        return f"no broker is set: {station.outbox.pending()} records wait in the outbox (--broker HOST:PORT)", True
    deadline = time.monotonic() + wait_s
    while not (drained := link.wait_drained(_SLICE_S)) and time.monotonic() < deadline and not stop.is_set():
        pass
    if not drained:
        why = link.last_error or "no receipt from a collector yet"
        return f"{station.outbox.pending()} records wait in the outbox: {why}", False
    if refused := station.outbox.rejected():
        return f"delivered, but the collector refused {len(refused)} records: {refused[-1].reason}", False
    return "all records are in the collector's store", True


def _by_daemon(args: argparse.Namespace, request: RunRequest, screen: Screen | JsonScreen, stop: Stop) -> None:
    from agent.control import hand_over

    if args.meter or args.broker or args.device or args.config or args.root:
        raise ConfigInvalid(
            "a daemon lives in this state directory and has its own settings: leave out options for them"
        )
    for report in hand_over(args.state_dir, request, stop):
        screen.tell(report)
    if stop.is_set():
        screen.stopped("the daemon was told to stop; what was finished is kept")
    screen.delivery("the daemon delivers the records", True)


@contextmanager
def _shown(as_json: bool, cells: int) -> Iterator[Screen | JsonScreen]:
    from agent.screen import JsonScreen, Screen

    screen = JsonScreen() if as_json else Screen(cells)
    try:
        yield screen
    finally:
        screen.close()


def _overrides(args: argparse.Namespace) -> dict[str, object]:
    given = {name: getattr(args, name) for name in (*_TEXTS, *_NUMBERS) if getattr(args, name) is not None}
    return {name: _values(name, text) for name, text in given.items()}


def _values(name: str, text: str) -> list[object]:
    parts = [part.strip() for part in text.split(",")]
    if name in _TEXTS:
        return list(parts)
    if not all(part.isdecimal() for part in parts):
        raise ConfigInvalid(f"--{name.replace('_', '-')}: expected whole numbers, got {text!r}")
    return [int(part) for part in parts]
