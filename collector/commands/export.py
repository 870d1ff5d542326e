"""`export`: records to a file, as they came (jsonl), as tables for notebooks (csv, parquet), or as a timeline."""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from collector.commands.selection import trial_named
from collector.flat_tables import TABLES
from collector.store import Store, TrialQuery, open_store
from collector.stored import StoredTrial
from collector.whole_file import draft_of
from phasewatt import codec, identity
from phasewatt.errors import ConfigInvalid
from phasewatt.messages import Batch, ExportHeader

_TABLES_OF = "; ".join(f"{name}: {table.told}" for name, table in TABLES.items())


class Asked(NamedTuple):
    """What is to be written."""

    store: Store
    device: str | None
    trial: StoredTrial | None  # None: all
    table: str

    def trials(self) -> Sequence[StoredTrial]:
        """The trials that are asked for, newest first."""
        return [self.trial] if self.trial else self.store.trials(TrialQuery(device=self.device))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, in which form, and whose."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=".gz compresses; none: standard output")
    parser.add_argument(
        "--format",
        choices=("jsonl", "csv", "parquet", "perfetto"),
        default="jsonl",
        help="jsonl: every record, to be imported elsewhere (the default); csv, parquet: a table; "
        "perfetto: one trial as a timeline for ui.perfetto.dev",
    )
    parser.add_argument("--table", choices=tuple(TABLES), help=f"of csv and parquet; {_TABLES_OF} (default: metrics)")
    parser.add_argument("--device", help="of this device only")
    parser.add_argument("--trial", metavar="RECORD_ID", help="this trial only; the beginning of its id will do")


def run(args: argparse.Namespace) -> int:
    """Write the file, whole or not at all."""
    _check(args)
    with contextlib.closing(open_store(args.db)) as store:
        trial = trial_named(store.trials(TrialQuery(device=args.device)), args.trial, "--trial") if args.trial else None
        asked = Asked(store, args.device, trial, args.table or "metrics")
        if args.format == "parquet":
            written = _write_parquet(asked, args.file)
        else:
            with _replacing(args.file) as file:
                written = _WRITERS[args.format](asked, file)
    print(f"{args.file or 'standard output'}: {written}", file=sys.stdout if args.file else sys.stderr)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.table and args.format not in {"csv", "parquet"}:
        raise ConfigInvalid(f"--table: expected with --format csv or parquet, got {args.format}")
    if args.format == "perfetto" and not args.trial:
        raise ConfigInvalid(
            "--format perfetto: expected --trial RECORD_ID, as `phasewatt-collector trials --json` has it"
        )
    if args.format == "parquet" and (args.file is None or args.file.suffix == ".gz"):
        raise ConfigInvalid("--format parquet: expected a FILE, which is compressed already")


@contextlib.contextmanager
def _replacing(path: Path | None) -> Iterator[io.TextIOBase]:
    """A file that takes the place of `path` once it is complete; or standard output."""
    if path is None:
        assert isinstance(sys.stdout, io.TextIOBase)
        yield sys.stdout
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with draft_of(path) as draft, opened(draft, "wt", encoding="utf-8", newline="") as file:
        yield file


def _write_jsonl(asked: Asked, file: io.TextIOBase) -> str:
    header = ExportHeader(phasewatt="export", schema=codec.SCHEMA, device=asked.device)
    file.write(codec.encode(header).decode() + "\n")
    records = 0
    for batch in asked.store.batches(asked.device):
        chosen = batch if asked.trial is None else _of_trial(batch, asked.trial)
        if chosen.items:
            file.write(codec.encode(chosen).decode() + "\n")
            records += len(chosen.items)
    return f"{records} records written"


def _of_trial(batch: Batch, stored: StoredTrial) -> Batch:
    """What of a batch is the trial, or one of its traces."""
    wanted = {stored.record_id, *stored.trial.traces}
    items = [item for item in batch.items if identity.record_id(batch.kind, bytes(item.body)) in wanted]
    return msgspec.structs.replace(batch, items=tuple(items))


def _write_csv(asked: Asked, file: io.TextIOBase) -> str:
    table, trials = TABLES[asked.table], asked.trials()
    writer = csv.DictWriter(file, [column.name for column in table.columns])
    writer.writeheader()
    writer.writerows(table.rows(trials))
    return f"{len(trials)} trials written"


def _write_parquet(asked: Asked, path: Path) -> str:
    from collector import parquet

    table, trials = TABLES[asked.table], asked.trials()
    with draft_of(path) as draft:
        rows = parquet.write(draft, table.columns, table.rows(trials))
    return f"{len(trials)} trials written, {rows} rows"


def _write_perfetto(asked: Asked, file: io.TextIOBase) -> str:
    from collector.perfetto import trace_of

    assert asked.trial is not None  # as was checked
    named = asked.trial.trial.traces
    traces = asked.store.traces(named)
    json.dump(trace_of(asked.trial, traces), file, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    lacking = asked.trial.trial.energy_reason if not named else "its traces are not in this store"
    return "open it in ui.perfetto.dev" + ("" if traces else f"; no power over time: {lacking}")


_WRITERS: Mapping[str, Callable[[Asked, io.TextIOBase], str]] = {
    "jsonl": _write_jsonl,
    "csv": _write_csv,
    "perfetto": _write_perfetto,
}
