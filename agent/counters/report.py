"""What ncu writes as CSV, read: kernels with their counters and the NVTX ranges they ran in. Pure.

Both of its forms are read: one row a counter (`--csv`), and one row a kernel with a row of units (`--page raw --csv`).
A figure that is not there is left out and told of; it never becomes 0.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

PERMISSION = "ERR_NVGPUCTRPERM"
_PUSHED = "Push/Pop_Range"
_BETWEEN = re.compile(r'[":,\s]+')  # domain, name and payload of a range, and one range from the next
_NO_NAME = frozenset({"", "none", "<default", "domain>"})
_ERROR = re.compile(r"==ERROR==\s*(.*)")
_UNKNOWN = re.compile(r"(?:[Ff]ailed to find metric|[Uu]nknown metric|metric not found|[Ii]nvalid metric)\W*([\w.:]+)")
_KNOWN_COLUMNS = frozenset(
    {
        *("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Kernel Time", "Context", "Stream"),
        *("Block Size", "Grid Size", "Device", "CC", "Section Name", "Metric Name", "Metric Unit", "Metric Value"),
        *("Rule Name", "Rule Type", "Rule Description", "Invocations"),
    }
)
# ncu scales units where it is not told to leave them; what is read is brought back to these.
_SCALES: Mapping[str, tuple[str, float]] = {
    **dict.fromkeys(("ns", "nsecond"), ("ns", 1.0)),
    **dict.fromkeys(("us", "usecond"), ("ns", 1e3)),
    **dict.fromkeys(("ms", "msecond"), ("ns", 1e6)),
    **dict.fromkeys(("s", "second"), ("ns", 1e9)),
    "byte": ("byte", 1.0),
    "Kbyte": ("byte", 1e3),
    "Mbyte": ("byte", 1e6),
    "Gbyte": ("byte", 1e9),
}


class Kernel(NamedTuple):
    """One launch of a kernel, as it was counted."""

    number: str
    process: str
    name: str
    ranges: tuple[str, ...]  # NVTX ranges around it, outermost first
    capability: str | None
    values: Mapping[str, float]
    absent: frozenset[str]  # counters that stand in the report without a value


class Report(NamedTuple):
    """A report, and what it lacks."""

    kernels: tuple[Kernel, ...]
    units: Mapping[str, str]
    unknown: tuple[str, ...]  # counters that the tool said not to know
    problems: tuple[str, ...]  # in words, for a reader of the figures

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every counter that stands in the report."""
        return tuple(dict.fromkeys(name for kernel in self.kernels for name in (*kernel.values, *kernel.absent)))


def parse(text: str) -> Report:
    """The report in what ncu wrote, its remarks before and after the table included."""
    said, table, cut = _divided(text)
    problems = list(_complaints(said))
    unknown = tuple(dict.fromkeys(name for line in said for name in _UNKNOWN.findall(line)))
    if not table:
        return Report((), {}, unknown, tuple(problems or ["the report has no table: ncu counted no kernel"]))
    header, *rows = table
    whole = [row for row in rows if len(row) == len(header)]
    if cut or len(whole) < len(rows):
        problems.append("truncated: the report ends within a row")
    kernels, units = _long(header, whole) if "Metric Name" in header else _wide(header, whole)
    kernels, dropped = _without_partial(kernels)
    problems += dropped
    if not kernels:
        problems.append("the report has no row of a kernel")
    kernels, strangers = _of_one_process(kernels)
    return Report(tuple(kernels), units, unknown, tuple(dict.fromkeys(problems + strangers)))


def _divided(text: str) -> tuple[list[str], list[list[str]], bool]:
    """What the tool said, the table's rows, and whether the last of them is cut within quotes."""
    lines = text.splitlines()
    start = next((place for place, line in enumerate(lines) if line.startswith('"ID",')), None)
    if start is None:
        return lines, [], False
    body = [line for line in lines[start:] if line.strip() and not line.startswith("==")]
    said = [*lines[:start], *(line for line in lines[start:] if line.startswith("=="))]
    cut = body[-1].count('"') % 2 == 1
    return said, list(csv.reader(io.StringIO("\n".join(body[:-1] if cut else body)))), cut


def _complaints(said: Iterable[str]) -> Iterator[str]:
    for line in said:
        if PERMISSION in line:
            yield f"not permitted ({PERMISSION}): counters are kept for administrators"
        elif (error := _ERROR.search(line)) and error[1].strip():
            yield f"ncu: {error[1].strip()}"


def _long(header: Sequence[str], rows: Iterable[Sequence[str]]) -> tuple[list[Kernel], dict[str, str]]:
    """Kernels of a table with one row a counter."""
    column = _Columns(header)
    found: dict[tuple[str, str], Kernel] = {}
    units: dict[str, str] = {}
    for row in rows:
        name = column(row, "Metric Name")
        if not name:  # a rule's advice, which stands in rows of its own
            continue
        key = column(row, "Process ID"), column(row, "ID")
        kernel = found.get(key) or _empty(column, row)
        value, unit = _read(column(row, "Metric Value"), column(row, "Metric Unit"))
        found[key] = _with(kernel, name, value)
        units.setdefault(name, unit)
    return list(found.values()), units


def _wide(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[Kernel], dict[str, str]]:
    """Kernels of a table with one row each, under a row of units."""
    column = _Columns(header)
    if not rows or column(rows[0], "ID"):
        return [], {}
    names = {place: name for place, name in enumerate(header) if name not in _KNOWN_COLUMNS and "Domain:" not in name}
    written = rows[0]
    kernels = []
    units: dict[str, str] = {}
    for row in rows[1:]:
        kernel = _empty(column, row)
        for place, name in names.items():
            value, units[name] = _read(row[place], written[place])
            kernel = _with(kernel, name, value)
        kernels.append(kernel)
    return kernels, units


class _Columns:
    """Fields of a row by the name of their column; "" where the table has no such column."""

    def __init__(self, header: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(header)}
        pushed = next((place for name, place in self._places.items() if _PUSHED in name), None)
        if pushed is not None:
            self._places[_PUSHED] = pushed

    def __call__(self, row: Sequence[str], name: str) -> str:
        place = self._places.get(name)
        return "" if place is None else row[place].strip()


def _empty(column: _Columns, row: Sequence[str]) -> Kernel:
    return Kernel(
        number=column(row, "ID"),
        process=column(row, "Process ID"),
        name=column(row, "Kernel Name"),
        ranges=tuple(
            part for part in _BETWEEN.split(column(row, _PUSHED)) if part not in _NO_NAME and not part.isdecimal()
        ),
        capability=column(row, "CC") or None,
        values={},
        absent=frozenset(),
    )


def _with(kernel: Kernel, name: str, value: float | None) -> Kernel:
    if value is None:
        return kernel._replace(absent=kernel.absent | {name})
    return kernel._replace(values={**kernel.values, name: value})


def _read(text: str, unit: str) -> tuple[float | None, str]:
    """A figure and its unit, scaled back; None where it is no number."""
    base, scale = _SCALES.get(unit, (unit, 1.0))
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None, base
    return (value * scale if math.isfinite(value) else None), base


def _without_partial(kernels: list[Kernel]) -> tuple[list[Kernel], list[str]]:
    """Without the last kernel where it has fewer counters than the others: the report was cut between two rows."""
    if len(kernels) < 2:
        return kernels, []
    *before, last = kernels
    had = {*before[-1].values, *before[-1].absent}
    if had - {*last.values, *last.absent}:
        return before, ["truncated: the last kernel lacks counters that the others have, and was left out"]
    return kernels, []


def _of_one_process(kernels: list[Kernel]) -> tuple[list[Kernel], list[str]]:
    counts = Counter(kernel.process for kernel in kernels)
    if len(counts) < 2:
        return kernels, []
    chosen, most = counts.most_common(1)[0]
    said = f"{len(counts)} processes were counted: only the {most} kernels of process {chosen} were taken"
    return [kernel for kernel in kernels if kernel.process == chosen], [said]
