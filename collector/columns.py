"""Columns of the tables that trials are exported as: name, kind and unit, so that every format says the same. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

# A figure's name ends in its unit; what ends in none of these is a count, a share or no figure.
_UNITS = {
    **{"_s": "s", "_w": "W", "_hz": "Hz", "_c": "°C", "_bytes": "byte"},
    **{"_tokens": "token", "_chunk": "token", "_load": "core"},
}


class CellKind(enum.Enum):
    """What the cells of a column hold, where they hold anything."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    TRUTH = "truth"


class Column(NamedTuple):
    """One column; a missing value has an empty cell."""

    name: str
    kind: CellKind
    unit: str | None = None  # None: no figure, a count, a share, or named by another column


_KINDS: dict[Any, CellKind] = {int: CellKind.INTEGER, float: CellKind.REAL, bool: CellKind.TRUTH}


def fields_of(records: Iterable[type[Struct]]) -> Iterator[Column]:
    """The fields of some records as columns; what is neither a number nor a truth is text, lists included."""
    for record in records:
        for name, hint in get_type_hints(record).items():
            kind = _KINDS.get(_bare(hint), CellKind.TEXT)
            yield Column(name, kind, _unit(name))


def distinct(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Each name once, in the order in which it is met first."""
    found: dict[str, Column] = {}
    for column in columns:
        found.setdefault(column.name, column)
    return tuple(found.values())


def _unit(name: str) -> str | None:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)


def _bare(hint: Any) -> Any:
    """The type without `None`."""
    if get_origin(hint) in {Union, UnionType}:
        others = [each for each in get_args(hint) if each is not NoneType]
        return others[0] if len(others) == 1 else hint
    return hint
