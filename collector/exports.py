"""Export files: a header and then batches, one a line, gzipped or not."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from collector.ingest import batch_in
from phasewatt import codec
from phasewatt.errors import RecordRejected
from phasewatt.messages import Batch, ExportHeader

_GZIP_MAGIC = b"\x1f\x8b"
_EXPECTED = "expected a file written by `phasewatt-agent export` or `phasewatt-collector export`"


class _Line(NamedTuple):
    place: str  # file and line, as messages name it
    body: bytes


def batches_in(file: IO[bytes], name: str) -> Iterator[Batch]:
    """The batches of an export file, one after another; `name` is what messages call it.

    Raises:
        RecordRejected: not an export of ours, or damaged from some line on; the batches before it were good.
    """
    lines = _lines(file, name)
    first = next(lines, None)
    if first is None:
        raise RecordRejected(f"{name} is empty; {_EXPECTED}")
    header = _header(first)
    for line in lines:
        batch = _batch(line)
        if header.device not in {None, batch.device}:
            raise RecordRejected(f"{line.place}: a batch of {batch.device} in an export of {header.device}")
        yield batch


def _lines(file: IO[bytes], name: str) -> Iterator[_Line]:
    number = 1
    try:
        with _inflated(file) as inflated:
            while body := inflated.readline(codec.MAX_INFLATED_BYTES + 1):
                yield _Line(f"{name} line {number}", body)
                number += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RecordRejected(f"{name} line {number}: the compressed data is damaged or cut short") from error
    except OSError as error:
        raise RecordRejected(f"{name}: {error.strerror}") from error


@contextlib.contextmanager
def _inflated(file: IO[bytes]) -> Iterator[IO[bytes] | gzip.GzipFile]:
    compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    if not compressed:
        yield file
        return
    with gzip.open(file) as inflated:
        yield inflated


def _header(line: _Line) -> ExportHeader:
    with contextlib.suppress(RecordRejected):
        header = codec.decode(line.body, ExportHeader)
        if header.phasewatt == "export":
            return header
    raise RecordRejected(f"{line.place}: no phasewatt export; {_EXPECTED}")


def _batch(line: _Line) -> Batch:
    try:
        return batch_in(line.body)
    except RecordRejected as error:
        raise RecordRejected(f"{line.place}: {error}") from error
