"""`phasewatt-agent export FILE`: what the outbox holds, under the keys that it is sent with, for `import`."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from agent.host import Host, device_id
from agent.outbox import Outbox
from phasewatt import codec
from phasewatt.errors import StoreUnavailable
from phasewatt.messages import ExportHeader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to write."""
    parser.add_argument("file", type=Path, help="file to write; .gz compresses")


def run(args: argparse.Namespace) -> int:
    """Write the file whole or not at all; receipted rows that are still kept are in it too."""
    outbox = Outbox.read(args.state_dir)
    host = Host(device_id(args.state_dir, None))
    rows = 0
    try:
        with _whole(args.file) as output:
            output.write(codec.encode(ExportHeader(phasewatt="export", schema=codec.SCHEMA, device=host.device)))
            for batch in outbox.batches(host.device, host.boot_id, host.clock()):
                output.write(b"\n" + codec.encode(batch))
                rows += len(batch.items)
            output.write(b"\n")
    except OSError as error:
        raise StoreUnavailable(f"export: cannot write {args.file}: {error.strerror or error}") from error
    print(f"{args.file}: {rows} records of {host.device}; load it with: phasewatt-collector import {args.file}")
    return 0


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when all of it is on disk."""
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise StoreUnavailable(f"export: cannot write {path}: it is no regular file")
    draft = target.with_name(f"{target.name}.part")
    try:
        with draft.open("wb") as raw:
            packed = gzip.GzipFile(fileobj=raw, mode="wb") if path.suffix == ".gz" else contextlib.nullcontext(raw)
            with packed as output:
                yield cast("IO[bytes]", output)
            raw.flush()
            os.fsync(raw.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
