"""A CSV file that some logger appends to. Rows count from opening on, and from the moment that they appear.

Their own timestamps may be another host's, so those only tell whether a row is new and in order.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from agent.meters.wall.json_fields import plain_number
from agent.meters.wall.latest import Latest
from agent.meters.wall.spec import Spec, quantities
from phasewatt.errors import ConfigInvalid, MeterUnavailable

_POLL_S = 0.05
_LINE_BYTES = 64 * 1024
_DELIMITERS = (",", ";", "\t")
_POWER_NAMES = ("power_w", "power", "watts")
_TIME_NAMES = ("timestamp", "time")
_SET_BACK_ROWS = 10  # so many in order among themselves, behind the others: the logger's clock was set back


class _Layout(NamedTuple):
    delimiter: str
    time: int | None
    values: tuple[int, ...]


class CsvFile:
    """See `Source`; the body is the file's path."""

    keys = frozenset({"time", "power", "energy", "energy_unit"})
    silence = "no new row with a number; is the logger running, and does it flush every line?"

    def __init__(self, spec: Spec) -> None:
        if not spec.body:
            raise ConfigInvalid("external: expected csv:FILE, got no file")
        self._path = Path(unquote(spec.body))
        self._time_names = (spec.options["time"],) if "time" in spec.options else _TIME_NAMES
        self._needs_time = "time" in spec.options
        self.quantities = quantities(spec, _POWER_NAMES)

    def follow(self, latest: Latest, wait: Callable[[float], bool]) -> None:
        """See `Source.follow`; a file that was rotated or cut is read again from its start."""
        is_new = False
        try:
            while not wait(0):
                if not self._path.is_file():
                    raise MeterUnavailable("no such file; start the logger first")
                with self._path.open("rb") as file:
                    self._follow_one(file, is_new, latest, wait)
                is_new = True
        except OSError as error:
            raise MeterUnavailable(f"cannot be read: {error.strerror or error}") from error

    def _follow_one(self, file: BufferedReader, is_new: bool, latest: Latest, wait: Callable[[float], bool]) -> None:
        """Hand on rows until it is time to end or another file has taken this one's place."""
        header = file.readline(_LINE_BYTES)
        while is_new and not header.endswith(b"\n"):
            if wait(_POLL_S) or self._is_replaced(file):
                return
            file.seek(0)
            header = file.readline(_LINE_BYTES)
        rows = _Rows(self._layout(header), latest)
        lines = _Lines(file, latest, begins_inside=not is_new and _skip_to_end(file))
        while True:
            for line in lines.new():
                rows.take(line)
            if self._is_replaced(file) or wait(_POLL_S):
                return

    def _is_replaced(self, file: BufferedReader) -> bool:
        here = os.fstat(file.fileno())
        there = self._path.stat()
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) or there.st_size < file.tell()

    def _layout(self, header: bytes) -> _Layout:
        if not header.endswith(b"\n"):
            raise MeterUnavailable("the file has no header line; its first line must name the columns")
        text = header.decode("utf-8-sig", "replace").strip()
        delimiter = max(_DELIMITERS, key=text.count)
        names = [name.strip() for name in _cells(text, delimiter) or []]
        time = _column(names, self._time_names, "time") if self._needs_time else _find(names, self._time_names)
        values = tuple(_column(names, q.names, "power" if q.unit == "W" else "energy") for q in self.quantities)
        return _Layout(delimiter, time, values)


class _Lines:
    """Whole lines as they are appended; one above `_LINE_BYTES` is dropped."""

    def __init__(self, file: BufferedReader, latest: Latest, begins_inside: bool) -> None:
        self._file = file
        self._latest = latest
        self._rest = b""
        self._is_passing_over = begins_inside  # the rest of a line whose beginning is gone

    def new(self) -> Iterator[str]:
        """What came since the last time."""
        while chunk := self._file.read1(_LINE_BYTES):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                if len(line) > _LINE_BYTES:
                    self._drop()
                elif not self._is_passing_over:
                    yield line.decode("utf-8", "replace").strip()
                self._is_passing_over = False
            if len(self._rest) > _LINE_BYTES:
                self._drop()
                self._rest = b""
                self._is_passing_over = True

    def _drop(self) -> None:
        if not self._is_passing_over:
            self._latest.drop(f"a line above {_LINE_BYTES} bytes")


class _Rows:
    """Lines to values, by the layout of one header."""

    def __init__(self, layout: _Layout, latest: Latest) -> None:
        self._layout = layout
        self._latest = latest
        self._order = _Order()

    def take(self, line: str) -> None:
        """Hand on the values of one line, or count why there are none."""
        cells = _cells(line, self._layout.delimiter)
        if cells == []:
            return
        if cells is None or len(cells) <= max(*self._layout.values, self._layout.time or 0):
            self._latest.drop("a row that is no CSV, or has too few columns")
        elif self._is_new(cells):
            self._latest.take([self._value(cells[index]) for index in self._layout.values])

    def _is_new(self, cells: list[str]) -> bool:
        if self._layout.time is None:
            return True
        stamp_s = _stamp_s(cells[self._layout.time].strip())
        if stamp_s is None:
            self._latest.drop("a row whose time is neither a number nor ISO 8601")
            return False
        if not self._order.accepts(stamp_s):
            self._latest.drop("a row that is repeated or out of order by its own time")
            return False
        return True

    def _value(self, cell: str) -> float | None:
        if not cell.strip():
            return None
        try:
            return plain_number(cell)
        except ValueError:
            self._latest.drop("a value that is no number")
            return None


class _Order:
    """Whether rows go forward by their own time."""

    def __init__(self) -> None:
        self._last_s = float("-inf")
        self._behind_s = float("inf")
        self._behind = 0

    def accepts(self, stamp_s: float) -> bool:
        """Whether this row is newer than all before it, or the clock behind it was set back for good."""
        self._behind = self._behind + 1 if self._behind_s < stamp_s <= self._last_s else 1
        self._behind_s = stamp_s
        if stamp_s > self._last_s or self._behind > _SET_BACK_ROWS:
            self._last_s, self._behind_s, self._behind = stamp_s, float("inf"), 0
            return True
        return False


def _skip_to_end(file: BufferedReader) -> bool:
    """Go to the end of the file; True if that is inside a line."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _cells(line: str, delimiter: str) -> list[str] | None:
    """The cells of a line; None if it is no CSV."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return None


def _find(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _column(names: list[str], wanted: tuple[str, ...], option: str) -> int:
    index = _find(names, wanted)
    if index is None:
        columns = ", ".join(names)[:200]
        raise MeterUnavailable(f"no column {' or '.join(wanted)} among {columns}; name it by {option}=COLUMN")
    return index


def _stamp_s(text: str) -> float | None:
    """A row's own time as a number that grows; one without a zone is taken as it stands."""
    with suppress(ValueError):
        return float(text)
    with suppress(ValueError):
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    return None
