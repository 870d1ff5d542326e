"""`watch`: what boards sample, as it happens, until Ctrl-C. Nothing of it is stored."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from collector.commands import broker
from collector.conditions import printable
from collector.live_figures import figure
from collector.numbers import quantity
from collector.signals import on_signals
from collector.watched import SILENT_S, Board, Boards, Heard
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Identifier
from phasewatt.messages import Presence

if TYPE_CHECKING:
    from rich.console import RenderableType

    from collector.watching import Watching

_HEADERS = ("DEVICE", "POWER", "GPU", "CLOCK", "TEMPERATURE", "CPU", "MEMORY FREE", "AGE")
_REFRESH_S = 0.5
_REMIND_S = 20.0  # JSON: how often it is said that a board does not answer


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line in JSON, as docs/json.md describes it."""

    schema: str = "watch/0"
    device: str
    received_unix_s: float
    silent_s: float | None  # None: a sample just came
    reason: str | None  # why there is none
    power_w: dict[str, float | None]
    values: dict[str, dict[str, str | float | None]]
    simulated: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The boards, and the broker."""
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help="board to watch (default: all that are online)")
    broker.add_arguments(parser, embedded="the one inside the collector that serves on this host (the default)")


def run(args: argparse.Namespace) -> int:
    """Show until told to end."""
    from collector.watching import Watching

    for device in args.devices:
        _check_name(device)
    config = broker.settings_of(args)
    address, proof = broker.reached(args, config.broker)
    if not args.json and not sys.stdout.isatty():
        raise ConfigInvalid("watch: standard output is no terminal; add --json for one object a line")
    stopped = threading.Event()
    with contextlib.closing(Watching(address, proof, args.devices)) as watching:
        on_signals(stopped.set, signal.SIGTERM, signal.SIGINT)
        boards = Boards(args.devices, time.monotonic())
        show = _print_lines if args.json else _show_table
        show(boards, watching, stopped)
    return 0


def _print_lines(boards: Boards, watching: Watching, stopped: threading.Event) -> None:
    told_s: dict[str, float] = {}  # when it was last said of a board that it is silent
    trouble: str | None = None
    for heard in _heard(boards, watching, stopped):
        if heard is not None:
            print(msgspec.json.encode(_line(heard)).decode(), flush=True)
        if watching.trouble != trouble:
            trouble = watching.trouble
            words = trouble or "connected to the broker again"
            print(f"phasewatt-collector: {printable(words)}", file=sys.stderr, flush=True)
        now_s = time.monotonic()
        for board in boards.shown():
            if not _is_silent(board, now_s):
                told_s.pop(board.device, None)
            elif now_s - told_s.get(board.device, -_REMIND_S) >= _REMIND_S:
                told_s[board.device] = now_s
                print(msgspec.json.encode(_silence(board, now_s, watching.trouble)).decode(), flush=True)


def _show_table(boards: Boards, watching: Watching, stopped: threading.Event) -> None:
    from rich.live import Live

    drawn_s = 0.0
    with Live(auto_refresh=False) as screen:
        for _ in _heard(boards, watching, stopped):
            if (now_s := time.monotonic()) - drawn_s >= _REFRESH_S:
                drawn_s = now_s
                screen.update(_table(boards, now_s, watching.trouble), refresh=True)


def _heard(boards: Boards, watching: Watching, stopped: threading.Event) -> Iterator[Heard | None]:
    """Every sample as it comes, and None at least every `_REFRESH_S`; boards are asked in between."""
    while not stopped.is_set():
        watching.ask(boards.due(time.monotonic()))
        came = watching.next(_REFRESH_S)
        yield None if came is None else boards.take(came.topic, came.payload, time.monotonic())


def _line(heard: Heard) -> Line:
    values = {
        printable(name): {"unit": printable(unit), "value": value}
        for name, (unit, value) in heard.sample.values.items()
    }
    return Line(
        device=heard.device,
        received_unix_s=time.time(),
        silent_s=None,
        reason=None,
        power_w=heard.power_w,
        values=values,
        simulated=heard.sample.simulated,
    )


def _silence(board: Board, now_s: float, trouble: str | None) -> Line:
    return Line(
        device=board.device,
        received_unix_s=time.time(),
        silent_s=round(board.silent_s(now_s), 1),
        reason=_why(board, trouble),
        power_w={},
        values={},
        simulated=board.last is not None and board.last.sample.simulated,
    )


def _why(board: Board, trouble: str | None) -> str:
    """Why a board shows nothing, as far as that is known here."""
    if trouble is not None:
        return trouble
    if board.presence is Presence.OFFLINE:
        return "offline"
    if board.presence is None:
        return "no answer: no such board, or this user may not read it"
    return "no answer: is it `phasewatt-agent serve`, and may this user write to its watch topic?"


def _table(boards: Boards, now_s: float, trouble: str | None) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(*_HEADERS, box=None, header_style="bold", pad_edge=False)
    for board in boards.shown():
        table.add_row(*(Text(printable(cell)) for cell in _cells(board, now_s)))
    remarks = [f"{board.device}: {_why(board, trouble)}" for board in boards.shown() if _is_silent(board, now_s)]
    if not table.row_count:
        remarks.append(trouble or "no board is online yet")
    if boards.refused:
        remarks.append(f"messages not understood: {boards.refused}, the last: {boards.last_refusal}")
    return Group(table, *(Text(printable(remark), style="dim") for remark in remarks))


def _cells(board: Board, now_s: float) -> tuple[str, ...]:
    if board.last is None:
        return (board.device, *["-"] * (len(_HEADERS) - 2), f"silent {board.silent_s(now_s):.0f} s")
    sample = board.last.sample
    power = ", ".join(f"{quantity(power_w, 'W')} {scope}" for scope, power_w in board.last.power_w.items())
    age = f"silent {board.silent_s(now_s):.0f} s" if _is_silent(board, now_s) else f"{board.silent_s(now_s):.0f} s"
    return (
        f"{board.device} (simulated)" if sample.simulated else board.device,
        power or "-",
        quantity(figure(sample, "gpu_busy"), "1"),
        quantity(figure(sample, "gpu_clock"), "Hz"),
        quantity(figure(sample, "gpu_temperature", "temperature"), "°C"),
        quantity(figure(sample, "cpu_busy"), "1"),
        quantity(figure(sample, "memory_available"), "B"),
        age,
    )


def _is_silent(board: Board, now_s: float) -> bool:
    return board.silent_s(now_s) >= SILENT_S


def _check_name(device: str) -> None:
    """Raise ConfigInvalid if no board can be named so; a wildcard of MQTT is no name."""
    try:
        msgspec.convert(device, Identifier)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(
            f"device: expected up to 64 letters, digits, '.', '_' and '-', a letter or digit first, got {device!r}"
        ) from error
