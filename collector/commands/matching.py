"""The trials that a command is about: those of the database, or those that come with phasewatt."""

from __future__ import annotations

import contextlib

from collector import reference
from collector.store import TrialQuery, open_store
from collector.stored import StoredTrial


def matching(db: str, query: TrialQuery, shipped: bool) -> list[StoredTrial]:
    """The trials that `query` asks for, newest first; `shipped`: of those that come with phasewatt instead.

    Raises:
        StoreUnavailable: no such database.
    """
    if shipped:
        return reference.load().matching(query)
    with contextlib.closing(open_store(db)) as store:
        return store.trials(query)
