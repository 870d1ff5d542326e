"""Power over time whose joules over any stretch are exact, and the words by which a user asks for one. Pure but CSV."""

from __future__ import annotations

import bisect
import csv
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from phasewatt.errors import ConfigInvalid

MOST_W = 1000.0  # more than any module takes


class Waveform(Protocol):
    """Power in watts over seconds."""

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Exact energy between two times."""

    def power_w(self, at_s: float) -> float:
        """Power at a time; at a jump, what follows it."""


class Wave:
    """Piecewise linear power; two corners at one time are a jump. Beyond its ends its last pieces run on."""

    def __init__(self, corners: Sequence[tuple[float, float]]) -> None:
        self.times_s = [at for at, _ in corners]
        self.powers_w = [power for _, power in corners]
        pairs = itertools.pairwise(corners)
        self._joules = list(itertools.accumulate(((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs), initial=0.0))

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Exact energy between two times."""
        return self._until_j(end_s) - self._until_j(start_s)

    def mean_w(self, start_s: float, end_s: float) -> float:
        """Mean power between two times."""
        return self.energy_j(start_s, end_s) / (end_s - start_s)

    def power_w(self, at_s: float) -> float:
        """Power at a time; at a jump, what follows it."""
        left = self._left(at_s)
        before_s, after_s = self.times_s[left], self.times_s[left + 1]
        share = (at_s - before_s) / (after_s - before_s) if after_s > before_s else 0.0
        return self.powers_w[left] + share * (self.powers_w[left + 1] - self.powers_w[left])

    def _until_j(self, at_s: float) -> float:
        left = self._left(at_s)
        return self._joules[left] + (at_s - self.times_s[left]) * (self.powers_w[left] + self.power_w(at_s)) / 2

    def _left(self, at_s: float) -> int:
        return min(max(bisect.bisect_right(self.times_s, at_s) - 1, 0), len(self.times_s) - 2)


class Repeated:
    """A wave from its first to its last corner, over and over."""

    def __init__(self, corners: Sequence[tuple[float, float]]) -> None:
        self._wave = Wave(corners)
        self._start_s, self._length_s = corners[0][0], corners[-1][0] - corners[0][0]
        self._whole_j = self._wave.energy_j(corners[0][0], corners[-1][0])

    def energy_j(self, start_s: float, end_s: float) -> float:
        """See `Waveform.energy_j`."""
        return self._until_j(end_s) - self._until_j(start_s)

    def power_w(self, at_s: float) -> float:
        """See `Waveform.power_w`."""
        return self._wave.power_w(self._start_s + (at_s - self._start_s) % self._length_s)

    def _until_j(self, at_s: float) -> float:
        rounds, into_s = divmod(at_s - self._start_s, self._length_s)
        return rounds * self._whole_j + self._wave.energy_j(self._start_s, self._start_s + into_s)


class Settling(NamedTuple):
    """Power that nears `end_w` from `start_w`, by a time constant: as a chip's that warms."""

    start_w: float
    end_w: float
    constant_s: float

    def energy_j(self, start_s: float, end_s: float) -> float:
        """See `Waveform.energy_j`."""
        return self._until_j(end_s) - self._until_j(start_s)

    def power_w(self, at_s: float) -> float:
        """See `Waveform.power_w`."""
        return self.end_w + (self.start_w - self.end_w) * math.exp(-max(at_s, 0.0) / self.constant_s)

    def _until_j(self, at_s: float) -> float:
        if at_s <= 0:
            return self.start_w * at_s
        return self.end_w * at_s - (self.start_w - self.end_w) * self.constant_s * math.expm1(-at_s / self.constant_s)


def constant(power_w: float) -> Waveform:
    """The same power always."""
    return Wave([(0.0, power_w), (1.0, power_w)])


def square(low_w: float, high_w: float, period_s: float) -> Waveform:
    """Half of each period low, then half of it high."""
    half_s = period_s / 2
    return Repeated([(0.0, low_w), (half_s, low_w), (half_s, high_w), (period_s, high_w)])


def saw_tooth(low_w: float, high_w: float, period_s: float) -> Waveform:
    """A rise in each period, and a fall at its end."""
    return Repeated([(0.0, low_w), (period_s, high_w)])


def ramp(start_w: float, end_w: float, length_s: float) -> Waveform:
    """From one power to another in that time, and back in as long, over and over."""
    return Repeated([(0.0, start_w), (length_s, end_w), (2 * length_s, start_w)])


class Form(NamedTuple):
    """A waveform that a user can name, with what its numbers are."""

    make: Callable[..., Waveform]
    numbers: tuple[str, ...]  # those in W may be 0, those in s may not


FORMS: Mapping[str, Form] = {
    "constant": Form(constant, ("W",)),
    "square": Form(square, ("LOW_W", "HIGH_W", "PERIOD_S")),
    "saw-tooth": Form(saw_tooth, ("LOW_W", "HIGH_W", "PERIOD_S")),
    "ramp": Form(ramp, ("FROM_W", "TO_W", "LENGTH_S")),
    "drift": Form(Settling, ("FROM_W", "TO_W", "CONSTANT_S")),
}
FORMS_IN_WORDS = ", ".join([*(f"{name}:{','.join(form.numbers)}" for name, form in FORMS.items()), "csv:FILE"])


def parse(text: str, folder: Path = Path()) -> Waveform:
    """The waveform that `text` asks for, such as "square:12,40,4" or "csv:power.csv", which begins anew at its end.

    The file of a CSV is looked for in `folder`, unless its path is whole.

    Raises:
        ConfigInvalid: there is no such form, or a number or the file is wrong.
    """
    name, _, rest = text.partition(":")
    if name == "csv":
        return Repeated(_corners(folder / rest))
    if name not in FORMS:
        raise ConfigInvalid(f"power: expected one of {FORMS_IN_WORDS}; got {text!r}")
    form = FORMS[name]
    numbers = _numbers(rest.split(","))
    whole = numbers is not None and len(numbers) == len(form.numbers)
    if numbers is None or not whole or not all(map(_fits, numbers, form.numbers)):
        raise ConfigInvalid(
            f"power: expected {name}:{','.join(form.numbers)} with W from 0 to {MOST_W:.0f} and s above 0, got {text!r}"
        )
    return form.make(*numbers)


def _fits(number: float, name: str) -> bool:
    return 0 <= number <= MOST_W if name.endswith("W") else 0.001 <= number <= 1e6


def _numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def _corners(path: Path) -> list[tuple[float, float]]:
    """Rows of `time_s,power_w`, joined by straight lines."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigInvalid(f"power: cannot read {path}: {error}") from error
    if not rows or [cell.strip() for cell in rows[0]] != ["time_s", "power_w"]:
        raise ConfigInvalid(f"power: {path}: expected a first line time_s,power_w")
    corners: list[tuple[float, float]] = []
    for count, row in enumerate(rows[1:], 2):
        numbers = _numbers(row)
        if numbers is None or len(numbers) != 2 or not _follows(corners, *numbers):
            raise ConfigInvalid(
                f"power: {path}: row {count}: expected a later time_s and a power_w from 0 to {MOST_W:.0f}"
            )
        corners.append((numbers[0], numbers[1]))
    if len(corners) < 2 or not _fits(corners[-1][0] - corners[0][0], "LENGTH_S"):
        raise ConfigInvalid(f"power: {path}: expected two rows or more that span 0.001 to 1e6 s")
    return corners


def _follows(corners: Sequence[tuple[float, float]], time_s: float, power_w: float) -> bool:
    later = math.isfinite(time_s) and (not corners or time_s >= corners[-1][0])
    return later and 0 <= power_w <= MOST_W
