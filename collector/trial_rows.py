"""Trials as flat rows for notebooks: one a trial, with its conditions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import asdict

from collector.columns import distinct, fields_of
from collector.stored import StoredTrial
from collector.trial_line import TrialLine, trial_line
from phasewatt.conditions import Conditions, Cooling, HostState

COLUMNS = distinct(fields_of((TrialLine, Conditions)))


def trial_rows(stored: StoredTrial) -> Iterator[dict[str, Any]]:
    """The one row of a trial, by name of column."""
    conditions = {name: cell(value) for name, value in asdict(stored.trial.conditions).items()}
    yield conditions | asdict(trial_line(stored))


def cell(value: Any) -> Any:
    """Several values in one cell, separated by semicolons; states and what was waited for as JSON."""
    if isinstance(value, Cooling) or (isinstance(value, tuple) and any(isinstance(item, HostState) for item in value)):
        return msgspec.json.encode(value).decode()
    if isinstance(value, dict):
        return ";".join(f"{name}={item}" for name, item in sorted(value.items()))
    return ";".join("" if item is None else str(item) for item in value) if isinstance(value, tuple) else value
