"""Records of the outbox as one file, under the keys that they are sent with: whole, or not there at all."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import msgspec

from agent.outbox import Outbox
from phasewatt import codec, identity
from phasewatt.errors import StoreUnavailable
from phasewatt.fields import Kind
from phasewatt.messages import Batch, Clock, ExportHeader
from phasewatt.records import Trial


class Source(msgspec.Struct, frozen=True):
    """Whose outbox is written."""

    outbox: Outbox
    device: str
    boot_id: str
    clock: Clock


def write(source: Source, path: Path, campaign: str | None = None) -> int:
    """How many records were written to `path`: all that are kept, or those of one campaign; receipted ones too.

    Raises:
        StoreUnavailable: the file cannot be written.
    """
    rows = 0
    try:
        with _whole(path) as output:
            output.write(codec.encode(ExportHeader(phasewatt="export", schema=codec.SCHEMA, device=source.device)))
            for batch in _batches(source, campaign):
                output.write(b"\n" + codec.encode(batch))
                rows += len(batch.items)
            output.write(b"\n")
    except OSError as error:
        raise StoreUnavailable(f"export: cannot write {path}: {error.strerror or error}") from error
    return rows


def _batches(source: Source, campaign: str | None) -> Iterator[Batch]:
    named: set[str] = set()  # traces of the campaign's trials, which are read before the traces are
    for batch in source.outbox.batches(source.device, source.boot_id, source.clock):
        chosen = batch if campaign is None else _of_campaign(batch, campaign, named)
        if chosen.items:
            yield chosen


def _of_campaign(batch: Batch, campaign: str, named: set[str]) -> Batch:
    """Only the trials of a campaign, whose traces are added to `named`; of traces, those that are in it."""
    if batch.kind is Kind.TRACE:
        items = [item for item in batch.items if identity.record_id(Kind.TRACE, bytes(item.body)) in named]
    elif batch.kind is Kind.TRIAL:
        items = []
        for item in batch.items:
            trial = codec.decode_record(Kind.TRIAL, item.schema, bytes(item.body))
            if isinstance(trial, Trial) and trial.campaign == campaign:
                named.update(trial.traces)
                items.append(item)
    else:
        items = []
    return msgspec.structs.replace(batch, items=tuple(items))


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
