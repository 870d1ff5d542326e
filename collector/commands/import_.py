"""`import`: what export files hold, into the store, under the keys it had."""

from __future__ import annotations

import argparse
import contextlib
import functools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from collector import foreign
from collector.conditions import printable
from collector.exports import batches_in
from collector.signals import on_signals
from collector.store import Store, open_store
from phasewatt.errors import ConfigInvalid, RecordRejected
from phasewatt.messages import Batch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="written by `export` (may be gzipped), or by another tool"
    )
    parser.add_argument("--from", dest="tool", choices=sorted(foreign.TOOLS), help="results of this tool instead")
    parser.add_argument("--device", help="with --from: the board that they were measured on (default: the tool's name)")


def run(args: argparse.Namespace) -> int:
    """Import each file as far as it is good; a fault in one keeps no other out."""
    if args.device and not args.tool:
        raise ConfigInvalid("--device: an export file says itself whose it is; only results of other tools need a name")
    # Heard between batches: an exception in the middle of a transaction leaves the database's driver in disorder.
    interrupted = threading.Event()
    on_signals(interrupted.set, signal.SIGINT)
    with contextlib.closing(open_store(args.db, create=True)) as store:
        read = _batches if args.tool is None else functools.partial(foreign.batches_in, args.tool, args.device)
        return max([_import(store, path, read, interrupted) for path in args.files])


def _import(store: Store, path: Path, read: Callable[[Path], Iterable[Batch]], interrupted: threading.Event) -> int:
    """The exit code for one file."""
    try:
        print(f"{path}: {_stored(store, path, read, interrupted)} records stored")
    except ConfigInvalid as error:
        print(f"phasewatt-collector: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    return 0


def _stored(store: Store, path: Path, read: Callable[[Path], Iterable[Batch]], interrupted: threading.Event) -> int:
    """How many records of the file the store holds now; none of it twice, though it may have held them before."""
    stored = newer = 0
    reasons: list[str] = []
    try:
        for batch in read(path):
            if interrupted.is_set():
                raise KeyboardInterrupt
            receipt = store.ingest(batch, time.time())
            held = sum(last - first + 1 for first, last in receipt.ranges)
            stored += held
            newer += len({item.seq for item in batch.items}) - held - len(receipt.rejected)
            reasons += [rejection.reason for rejection in receipt.rejected]
    except RecordRejected as error:
        raise ConfigInvalid(f"{error}; {stored} records before it are stored") from error
    if reasons:
        raise ConfigInvalid(f"{path}: {stored} records stored, {len(reasons)} put aside, the first: {reasons[0]}")
    if newer > 0:
        raise ConfigInvalid(
            f"{path}: {stored} records stored, {newer} are of a newer version; upgrade this program, import again"
        )
    return stored


def _batches(path: Path) -> Iterator[Batch]:
    try:
        with _opened(path) as file:
            yield from batches_in(file, str(path))
    except OSError as error:
        raise RecordRejected(f"{path}: {error.strerror}") from error


def _opened(path: Path) -> AbstractContextManager[IO[bytes]]:
    """The file, with a bar for whoever watches."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.open(
        path, "rb", description="importing", console=console, transient=True, disable=not console.is_terminal
    )
