"""A table as a Parquet file, by DuckDB: the smallest kept package that writes the format (docs/exports.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from collector.columns import CellKind, Column
from collector.flat_tables import Row
from phasewatt.errors import ConfigInvalid

_TYPES = {
    CellKind.TEXT: "VARCHAR",
    CellKind.INTEGER: "BIGINT",
    CellKind.REAL: "DOUBLE",
    CellKind.TRUTH: "BOOLEAN",
}
_ABSENT = "parquet: duckdb is not installed: pip install 'phasewatt[parquet]'"


def write(path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    """How many rows were written to `path`; units are in the file's metadata under "units", as JSON.

    Raises:
        ConfigInvalid: DuckDB is not installed.
        OSError: the disk does not take it.
    """
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise ConfigInvalid(_ABSENT) from error
    # Lines of JSON on the way: typed, exact, and read by DuckDB a hundred times as fast as inserts.
    with tempfile.NamedTemporaryFile(suffix=".jsonl", dir=path.parent) as lines:
        count = 0
        for row in rows:
            lines.write(msgspec.json.encode(row) + b"\n")
            count += 1
        lines.flush()
        with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
            try:
                connection.execute(_copy(Path(lines.name), path, columns))
            except duckdb.IOException as error:
                raise OSError(None, str(error).splitlines()[0], str(path)) from error
    return count


def _copy(source: Path, target: Path, columns: Sequence[Column]) -> str:
    typed = ", ".join(f"{_quoted(column.name)}: {_quoted(_TYPES[column.kind])}" for column in columns)
    units = msgspec.json.encode({column.name: column.unit for column in columns if column.unit}).decode()
    read = f"read_json({_quoted(str(source))}, columns={{{typed}}}, format='newline_delimited')"
    kept = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{units: {_quoted(units)}}}"
    return f"COPY (SELECT * FROM {read}) TO {_quoted(str(target))} ({kept})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
