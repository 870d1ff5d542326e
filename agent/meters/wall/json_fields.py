"""Numbers out of JSON that a device sent: whatever it holds, a number or None."""

from __future__ import annotations

import msgspec

from agent.meters.wall.latest import Latest
from agent.meters.wall.spec import Quantity

MAX_BYTES = 64 * 1024


def values_in(body: bytes, quantities: tuple[Quantity, ...], latest: Latest) -> list[float | None]:
    """One number a quantity, in the device's unit; what is missing is counted as dropped."""
    if len(body) > MAX_BYTES:
        latest.drop(f"an answer above {MAX_BYTES} bytes")
        return [None] * len(quantities)
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        latest.drop("an answer that is neither a number nor JSON")
        return [None] * len(quantities)
    return [_value(document, quantity, latest) for quantity in quantities]


def _value(document: object, quantity: Quantity, latest: Latest) -> float | None:
    found = (number_at(document, name) for name in quantity.names)
    value = next((number for number in found if number is not None), None)
    if value is None:
        latest.drop(f"an answer without a number at {' or '.join(quantity.names)}")
    return value


def number_at(document: object, path: str) -> float | None:
    """The number at a dotted path, whose steps are keys or positions in lists; "." is the document itself."""
    for step in path.split(".") if path != "." else []:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return _number(document)


def plain_number(text: str) -> float:
    """The number that a meter wrote; Python alone reads "1_000" as one.

    Raises:
        ValueError: it is none.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"not a number: {text!r}")
    return float(text)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return plain_number(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        return None
