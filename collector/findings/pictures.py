"""What a picture of a finding shows; `report.finding_pictures` draws it. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Point(NamedTuple):
    """One value at one place, with its interval where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """Points of one kind, joined."""

    label: str
    points: tuple[Point, ...]
    joined: bool = True


class Lines(NamedTuple):
    """Something over something, on scales that are logarithmic or not."""

    title: str
    along: str
    up: str
    lines: tuple[Line, ...]
    log_x: bool = True
    log_y: bool = True
    level: tuple[str, float] | None = None  # a horizontal line, and what it is
    mark: tuple[str, float] | None = None  # a vertical one


class Bar(NamedTuple):
    """One value by name."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


class Bars(NamedTuple):
    """Values of one unit below each other."""

    title: str
    unit: str
    bars: tuple[Bar, ...]
    level: tuple[str, float] | None = None  # what they are to be above or below


Picture = Lines | Bars
