"""The ceilings of a host as a table: what was measured, beside what the data sheet says."""

from __future__ import annotations

import statistics

from rich.markup import escape
from rich.table import Table

from agent.measuring import CeilingsDone
from phasewatt.profiles import Ceiling

_SCALES = {"FLOP/s": (1e-12, "TFLOP/s"), "byte/s": (1e-9, "GB/s"), "s": (1e6, "us")}
_SMALL = {"FLOP/s": (1e-9, "GFLOP/s")}  # of what does less than one of the large unit
_WORDS = {"matmul": "product", "copy": "copy", "read": "read", "launch": "launch"}


def table(done: CeilingsDone) -> Table:
    """Medians over repetitions, the span of these, and the sheet's figure at the clock that was seen meanwhile."""
    simulated = " (simulated)" if done.simulated else ""
    title = escape(f"ceilings of {done.processor or 'this host'}{simulated}")
    made = Table(title=title, box=None, pad_edge=False, title_justify="left", caption_justify="left")
    for heading in ("work", "dtype", "shape"):
        made.add_column(heading, no_wrap=True)
    for heading in ("measured", "spread", "MHz", "sheet", "of it"):
        made.add_column(heading, justify="right")
    for ceiling in done.ceilings:
        made.add_row(*map(escape, _row(ceiling)))
    made.caption = escape("; ".join(_sources(done))) or None
    return made


def _row(ceiling: Ceiling) -> tuple[str, ...]:
    named = (_WORDS.get(ceiling.work, ceiling.work), ceiling.dtype or "-", "x".join(map(str, ceiling.shape)))
    clock = "-" if ceiling.clock_hz is None else f"{ceiling.clock_hz * 1e-6:.0f}"
    if not ceiling.values:
        return (*named, ceiling.reason or "-", "-", clock, "-", "-")
    middle = statistics.median(ceiling.values)
    spread = (max(ceiling.values) - min(ceiling.values)) / middle
    sheet = "-" if ceiling.sheet is None else _figure(ceiling.sheet, ceiling.unit)
    share = "-" if ceiling.sheet is None else f"{middle / ceiling.sheet:.0%}"
    return (*named, _figure(middle, ceiling.unit), f"{spread:.1%}", clock, sheet, share)


def _figure(value: float, unit: str) -> str:
    scale, name = _SCALES.get(unit, (1.0, unit))
    if value * scale < 1 and unit in _SMALL:
        scale, name = _SMALL[unit]
    return f"{value * scale:.4g} {name}"


def _sources(done: CeilingsDone) -> list[str]:
    """Each sheet once, without the clock that it is scaled to."""
    told = (ceiling.sheet_source for ceiling in done.ceilings if ceiling.sheet_source is not None)
    return list(dict.fromkeys(source.rpartition(", ")[0] or source for source in told))
