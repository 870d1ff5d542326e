"""`phasewatt-agent run SUITE`."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.commands import options
from phasewatt.errors import ConfigInvalid, StateBusy, Stopped

if TYPE_CHECKING:
    from agent.cells import Suite
    from agent.control import RunRequest
    from agent.screen import JsonScreen, Screen
    from agent.station import Station
    from agent.stopping import Stop

_TEXTS = (
    *("model", "weights", "dtype", "quantization", "engine", "mode", "attention", "experts"),
    *("accelerator", "endpoint", "served_model"),
)
_PASSES = ("operators", "counters", "ceilings")  # that a suite asks for, and options say otherwise
_SLICE_S = 0.5
_CLOSING_S = 10.0  # of a slice: the worker ends, the last records are delivered
_LIKE_TIME = re.compile(r"(?:(\d{1,3})h)?(?:(\d{1,4})m)?(?:(\d{1,6})s)?")
_NUMBERS = ("batch", "threads", "prompt_tokens", "output_tokens", "prefill_chunk", "tensor_parallel")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite, what to change in its cells, and the settings."""
    parser.add_argument("suite", help="a suite, or the path of a .toml file")
    add_overrides(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="of the order of the cells (default: the suite's)")
    parser.add_argument(
        "--for", dest="slice", metavar="TIME", help="end within 90s, 9m, 1h30m; the same command goes on with the rest"
    )
    parser.add_argument(
        "--operators",
        action=argparse.BooleanOptionalAction,
        help="profile where the time of each phase goes, or not, whatever the suite says",
    )
    parser.add_argument(
        "--counters",
        action=argparse.BooleanOptionalAction,
        help="count by Nsight Compute what the GPU did in each operator, or not, whatever the suite says",
    )
    parser.add_argument(
        "--ceilings",
        action=argparse.BooleanOptionalAction,
        help="measure what this host does at most before the cells, or not, whatever the suite says",
    )
    parser.add_argument("--archive", type=Path, metavar="FILE", help="write the campaign's records there at the end")
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

    if args.archive is not None and not args.archive.absolute().parent.is_dir():
        raise ConfigInvalid(f"--archive: expected a file in a folder that exists, got {str(args.archive)!r}")
    slice_s = None if args.slice is None else seconds_of(args.slice)
    args.wait_s = args.wait_s if slice_s is None else min(args.wait_s, _CLOSING_S)
    suite = cells.load(args.suite, overrides(args))
    request = RunRequest(
        suite=_as_asked(suite, args),
        fresh=args.fresh,
        for_s=None if slice_s is None else max(0.0, slice_s - _CLOSING_S),
    )
    stop = Stop()
    stop.on_signals()
    with _shown(args.json) as screen:
        try:
            _here(args, request, screen, stop)
        except StateBusy:
            _by_daemon(args, request, screen, stop)
        if args.archive is not None:
            screen.archived(_archived(args.state_dir, args.archive, screen.campaign))
    return screen.exit_code()


def _as_asked(suite: Suite, args: argparse.Namespace) -> Suite:
    """`suite` with what the options say of it as a whole."""
    said = {name: getattr(args, name) for name in _PASSES if getattr(args, name) is not None}
    measure = msgspec.structs.replace(suite.measure, **said)
    return msgspec.structs.replace(suite, measure=measure, seed=suite.seed if args.seed is None else args.seed)


def _archived(state: Path, file: Path, campaign: str | None) -> str:
    """What was written, in words."""
    from agent import archive
    from agent.archive import Source
    from agent.host import Host, device_id
    from agent.outbox import Outbox

    if campaign is None:
        return "archive: nothing was begun, so that there is nothing to write"
    host = Host(device_id(state, None))
    source = Source(Outbox.read(state), host.device, host.boot_id, host.clock())
    return f"archive: {archive.write(source, file, campaign)} records of campaign {campaign} in {file}"


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
def _shown(as_json: bool) -> Iterator[Screen | JsonScreen]:
    from agent.screen import JsonScreen, Screen

    screen = JsonScreen() if as_json else Screen()
    try:
        yield screen
    finally:
        screen.close()


def seconds_of(text: str) -> float:
    """A time such as "90s", "9m" or "1h30m".

    Raises:
        ConfigInvalid: it is none, or nothing.
    """
    match = _LIKE_TIME.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total_s = 3600.0 * hours + 60.0 * minutes + seconds
    if not total_s:
        raise ConfigInvalid(f"--for: expected a time such as 90s, 9m or 1h30m, got {text!r}")
    return total_s


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """What to change in every cell of a suite."""
    for name in (*_TEXTS, *_NUMBERS):
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="V[,V]", help=f"{name} of every cell, whatever the suite says"
        )


def overrides(args: argparse.Namespace) -> dict[str, object]:
    """The keys of cells that the options set.

    Raises:
        ConfigInvalid: text where a number is expected.
    """
    given = {name: getattr(args, name) for name in (*_TEXTS, *_NUMBERS) if getattr(args, name) is not None}
    return {name: _values(name, text) for name, text in given.items()}


def _values(name: str, text: str) -> list[object]:
    parts = [part.strip() for part in text.split(",")]
    if name in _TEXTS:
        return list(parts)
    if not all(part.isdecimal() for part in parts):
        raise ConfigInvalid(f"--{name.replace('_', '-')}: expected whole numbers, got {text!r}")
    return [int(part) for part in parts]
