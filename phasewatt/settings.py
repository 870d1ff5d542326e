"""Configuration from TOML: parsed, validated and frozen once, with errors that name key, value and expectation."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from phasewatt.errors import ConfigInvalid

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = TypeVar("Settings")

_AT = re.compile(r"(?P<problem>.*?)(?: - at `\$(?P<path>[^`]*)`)?\Z", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]*)`(?P<bounds>[^,]*)(?:, got .*)?")


def parse(text: str, settings: type[Settings], origin: str) -> Settings:
    """The TOML in `text` as `settings`; `origin` names it in errors.

    Raises:
        ConfigInvalid: not TOML, an unknown or missing key, or a value of another type or range.
    """
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid(f"{origin}: not valid TOML: {error}") from error
    return convert(tables, settings, origin)


def convert(tables: Mapping[str, Any], settings: type[Settings], origin: str, at: str = "") -> Settings:
    """`tables`, as a TOML parser gives them, as `settings`; `at` is the key under which they stand in `origin`.

    Raises:
        ConfigInvalid: as `parse`.
    """
    try:
        return msgspec.convert(tables, type=settings)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"{origin}: {_explained(str(error), tables, at)}") from error


def _explained(message: str, tables: Mapping[str, Any], at: str) -> str:
    """msgspec's message, turned round to `key: expected ..., got ...`."""
    match = _AT.match(message)
    assert match is not None
    problem, inner = match["problem"], match["path"] or ""
    path = (at + inner).lstrip(".")
    expected = _EXPECTED.match(problem)
    if expected is None:
        problem = problem.replace("Object contains unknown field", "unknown key").replace("Object missing", "missing")
        return f"{path}: {problem}" if path else problem
    wanted = expected["expected"].replace(" | ", " or ") + expected["bounds"]
    return f"{path}: expected {wanted}, got {_value_at(tables, inner)}"


def _value_at(tables: Any, path: str) -> str:
    """The value that stands at `path`, as it would be written; lists are searched no further."""
    value = tables
    for name, index in _STEP.findall(path):
        if index == "...":
            break
        value = value[int(index)] if index else value[name]
    return msgspec.json.encode(value).decode()
