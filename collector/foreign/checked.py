"""Fields of another tool's file, each checked as it is taken. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from phasewatt.errors import RecordRejected

_LONGEST = 256
_MOST = 2**53


def text(row: Mapping[str, Any], name: str) -> str | None:
    """Text, cut to what a record holds; None: absent or empty."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RecordRejected(f"{name}: expected text, got {value!r:.60}")
    return value[:_LONGEST]


def count(row: Mapping[str, Any], name: str) -> int | None:
    """A whole number from 0 on; None: absent."""
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise RecordRejected(f"{name}: expected a whole number from 0 on, got {value!r:.60}")
    return value


def number(row: Mapping[str, Any], name: str) -> float:
    """A number above 0, which must be there."""
    return _above_zero(row.get(name), name)


def numbers(row: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """Numbers above 0; none where they are absent."""
    values = row.get(name)
    if values is None:
        return ()
    if not isinstance(values, list):
        raise RecordRejected(f"{name}: expected a list of numbers, got {values!r:.60}")
    return tuple(_above_zero(value, name) for value in values)


def unix_s(row: Mapping[str, Any], name: str) -> float:
    """Seconds since 1970 of a time in ISO 8601, which must be there; without a zone it is UTC."""
    value = text(row, name)
    try:
        at = datetime.fromisoformat((value or "").replace("Z", "+00:00"))
    except ValueError as error:
        raise RecordRejected(f"{name}: expected a time such as 2026-01-31T12:00:00Z, got {value!r}") from error
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()


def _above_zero(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise RecordRejected(f"{name}: expected a number above 0, got {value!r:.60}")
    return float(value)
