"""`export`: the records to a file, as they came (jsonl, for `import`) or as numbers (csv, for notebooks)."""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from collector import metric_rows
from collector.store import Store, TrialQuery, open_store
from collector.whole_file import draft_of
from phasewatt import codec
from phasewatt.messages import ExportHeader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, in which form, and whose."""
    parser.add_argument("file", type=Path, metavar="FILE", help="gzipped if its name ends in .gz")
    parser.add_argument(
        "--format",
        choices=("jsonl", "csv"),
        default="jsonl",
        help="jsonl: every record, to be imported elsewhere (the default); csv: one row a trial and metric",
    )
    parser.add_argument("--device", help="of this device only")


def run(args: argparse.Namespace) -> int:
    """Write the file, whole or not at all."""
    write = _write_csv if args.format == "csv" else _write_jsonl
    with contextlib.closing(open_store(args.db)) as store, _replacing(args.file) as file:
        written = write(store, args.device, file)
    print(f"{args.file}: {written}")
    return 0


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[io.TextIOBase]:
    """A file that takes the place of `path` once it is complete."""
    opened = gzip.open if path.suffix == ".gz" else open
    with draft_of(path) as draft, opened(draft, "wt", encoding="utf-8", newline="") as file:
        yield file


def _write_jsonl(store: Store, device: str | None, file: io.TextIOBase) -> str:
    header = ExportHeader(phasewatt="export", schema=codec.SCHEMA, device=device)
    file.write(codec.encode(header).decode() + "\n")
    records = 0
    for batch in store.batches(device):
        file.write(codec.encode(batch).decode() + "\n")
        records += len(batch.items)
    return f"{records} records written"


def _write_csv(store: Store, device: str | None, file: io.TextIOBase) -> str:
    writer = csv.DictWriter(file, metric_rows.COLUMNS)
    writer.writeheader()
    trials = store.trials(TrialQuery(device=device))
    for stored in trials:
        writer.writerows(metric_rows.metric_rows(stored))
    return f"{len(trials)} trials written"
