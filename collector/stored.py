"""A trial as the collector holds it: what was measured, and where it came from."""

from __future__ import annotations

from typing import NamedTuple

from phasewatt.records import Trial


class StoredTrial(NamedTuple):
    """A trial with its record id; `origin` is "store", or "reference" for those shipped with phasewatt."""

    record_id: str
    trial: Trial
    origin: str = "store"
