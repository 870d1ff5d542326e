"""Numbers as a person reads them: SI prefixes, three significant digits, intervals on the scale of their value."""

from __future__ import annotations

import math
from typing import NamedTuple

from collector.comparison import Cell

_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
_PREFIXED = frozenset({"s", "J", "J/token", "W", "B", "B/token", "Hz", "FLOP", "FLOP/s", "B/s"})
_DIGITS = 3
MISSING = "—"


class Scale(NamedTuple):
    """What a value is divided by to be shown, and the unit that it is shown in."""

    divisor: float
    unit: str


def scale_of(value: float, unit: str) -> Scale:
    """The scale on which `value` has one to three digits before the point; rates keep their unit, shares are in %."""
    if unit == "1":
        return Scale(0.01, "%")
    if unit not in _PREFIXED or value == 0 or not math.isfinite(value):
        return Scale(1.0, unit)
    exponent = 3 * math.floor(math.log10(abs(float(f"{value:.{_DIGITS - 1}e}"))) / 3)
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    return Scale(10.0**exponent, _PREFIXES[exponent] + unit)


def significant(value: float) -> str:
    """`value` with three significant digits, thousands set apart and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    magnitude = math.floor(math.log10(abs(float(f"{value:.{_DIGITS - 1}e}"))))
    rounded = round(value, _DIGITS - 1 - magnitude)
    return f"{rounded:,.{max(0, _DIGITS - 1 - magnitude)}f}"


def quantity(value: float | None, unit: str) -> str:
    """A value with its unit, such as "12.3 ms"."""
    if value is None:
        return MISSING
    scale = scale_of(value, unit)
    return f"{significant(value / scale.divisor)} {scale.unit}"


def interval(cell: Cell, unit: str) -> str:
    """The interval of a cell on the scale of its value, such as "[11.9, 12.8]"; empty where there is none."""
    if cell.value is None or cell.low is None or cell.high is None:
        return ""
    divisor = scale_of(cell.value, unit).divisor
    return f"[{significant(cell.low / divisor)}, {significant(cell.high / divisor)}]"


def ratio(cell: Cell) -> str:
    """The ratio of a cell to the baseline, such as "0.556×"."""
    return "" if cell.ratio is None else f"{significant(cell.ratio)}×"


def ratio_interval(cell: Cell) -> str:
    """The interval of a cell's ratio, such as "[0.549, 0.562]"."""
    if cell.ratio_low is None or cell.ratio_high is None:
        return ""
    return f"[{significant(cell.ratio_low)}, {significant(cell.ratio_high)}]"


def evidence(cell: Cell) -> str:
    """What a cell rests on, such as "2 trials, 40 repetitions"; without repetitions where a trial gives one value."""
    if cell.trials == cell.repetitions:
        return count(cell.trials, "trial") if cell.trials else ""
    return f"{count(cell.trials, 'trial')}, {count(cell.repetitions, 'repetition')}"


def count(number: int, noun: str) -> str:
    """Such as "1 trial" and "2 trials"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
