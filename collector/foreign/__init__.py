"""Results of other tools as trials: what they do not tell is unknown, and they are never taken for the same work."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Raw

from collector.foreign import aiperf, llama_bench
from phasewatt import codec
from phasewatt.errors import ConfigInvalid, RecordRejected
from phasewatt.fields import Kind
from phasewatt.messages import Batch, Clock, Item
from phasewatt.records import Trial

TOOLS: Mapping[str, Callable[[str, str], Iterator[Trial]]] = {
    aiperf.TOOL: aiperf.trials_in,
    llama_bench.TOOL: llama_bench.trials_in,
}
_MOST_BYTES = 64 * 2**20
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def batches_in(tool: str, device: str | None, path: Path) -> Iterator[Batch]:
    """The trials of a tool's file; keyed by the file's content, so that what is imported again is stored once.

    Raises:
        ConfigInvalid: a device's name of another form.
        RecordRejected: no such file, or not the tool's.
    """
    name = device or tool
    if not _IDENTIFIER.fullmatch(name):
        raise ConfigInvalid(f"--device: expected letters, digits, dots and dashes, at most 64, got {name!r}")
    body = _content(path)
    try:
        trials = list(TOOLS[tool](body.decode("utf-8-sig"), name))
    except UnicodeDecodeError as error:
        raise RecordRejected(f"{path}: no {tool} result: not UTF-8 text") from error
    except RecordRejected as error:
        raise RecordRejected(f"{path}: no {tool} result: {error}") from error
    yield _batch(trials, name, hashlib.sha256(body).hexdigest()[:32])


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RecordRejected(f"{path}: {error.strerror}") from error
    if len(body) > _MOST_BYTES:
        raise RecordRejected(f"{path}: larger than {_MOST_BYTES >> 20} MiB")
    return body


def _batch(trials: list[Trial], device: str, digest: str) -> Batch:
    items = (Item(seq=seq, schema=codec.SCHEMA, body=Raw(codec.encode(trial))) for seq, trial in enumerate(trials, 1))
    return Batch(
        device=device,
        epoch=f"import-{digest}",
        boot_id="unknown",
        session=f"import-{digest}",
        clock=Clock(synchronised=None, offset_bound_s=None),
        sent_unix_s=max((trial.started_unix_s for trial in trials), default=0.0),
        kind=Kind.TRIAL,
        items=tuple(items),
    )
