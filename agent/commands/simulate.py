"""`phasewatt-agent simulate BOARD DIR`: a Jetson played in a folder, for trying things out without one."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from agent.simulated.boards import BOARDS
from agent.simulated.waveforms import FORMS_IN_WORDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which board, where, and its power."""
    parser.add_argument("board", choices=list(BOARDS), help="the board to play")
    parser.add_argument("folder", type=Path, metavar="DIR", help="new or empty folder, or one of an earlier simulation")
    parser.add_argument(
        "--power", metavar="SPEC", help=f"power of the module over time (default: a square wave): {FORMS_IN_WORDS}"
    )
    parser.add_argument("--seed", type=int, default=1, help="of noise and supply voltages (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="make the folder and end: its values stand still")


def run(args: argparse.Namespace) -> int:
    """Play until Ctrl-C or SIGTERM."""
    from agent.simulated.board import SimulatedBoard, lock_folder
    from agent.stopping import Stop

    stop = Stop()
    stop.on_signals()
    idle_w, busy_w = BOARDS[args.board].power_w
    power = args.power or f"square:{idle_w:g},{busy_w:g},8"
    folder = args.folder.absolute()
    lock = lock_folder(folder)
    played = SimulatedBoard(folder, args.board, power, args.seed)
    name = BOARDS[args.board].name
    verb = "made" if args.once else "playing"
    print(f"{verb} a simulated {name} ({power}): phasewatt-agent meters --root {args.folder}", flush=True)
    while not args.once and not stop.is_set():
        due_ns = played.step(time.monotonic_ns())
        stop.wait(max(0.001, (due_ns - time.monotonic_ns()) * 1e-9))
    os.close(lock)
    return 0
