"""What goes by age: in small steps, once an hour in the daemon, and when `db vacuum` asks for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from collector.periodic import Periodic
from collector.settings import FOREVER, Days, Retention
from collector.store import Store
from phasewatt.errors import StoreUnavailable
from phasewatt.fields import Kind

PERIOD_S = 3600.0
_PAUSE_S = 0.05  # between steps, for boards' messages to be stored
_DAY_S = 86400.0
_STOP_TIMEOUT_S = 60

logger = logging.getLogger(__name__)


class Gone(NamedTuple):
    """How many records of a kind lost their bodies."""

    kind: Kind
    records: int


def apply(
    store: Store, retention: Retention, now_unix_s: float, between: Callable[[], bool] = lambda: False
) -> Iterator[Gone]:
    """Remove what is older than `retention` allows, kind by kind; `between` is called between steps, and may end it.

    Age counts from when the collector received a record: a board's clock may be wrong by decades.

    Raises:
        StoreUnavailable: the database failed; the steps before are done.
    """
    for kind in Kind:
        days: Days = getattr(retention, f"{kind.value}_days")
        if days == FOREVER:
            continue
        gone = 0
        while (step := store.remove(kind, now_unix_s - days * _DAY_S)).arrivals:
            gone += step.keys
            if between():
                return
        if gone:
            yield Gone(kind, gone)


class Housekeeper:
    """Applies retention once an hour, in a thread of its own."""

    def __init__(
        self,
        store: Store,
        retention: Retention,
        *,
        clock: Callable[[], float] = time.time,
        period_s: float = PERIOD_S,
    ) -> None:
        self._store = store
        self._retention = retention
        self._clock = clock
        self._rounds = Periodic(
            self._round, _note, name="retention", period_s=period_s, patience_s=_STOP_TIMEOUT_S, at_once=True
        )

    def start(self) -> None:
        """Begin, at once."""
        self._rounds.start()

    def stop(self) -> None:
        """End after the step that is going on."""
        self._rounds.stop()

    def _round(self) -> None:
        for gone in apply(self._store, self._retention, self._clock(), lambda: self._rounds.pause(_PAUSE_S)):
            logger.info("%d %s records went by age", gone.records, gone.kind.value)


def _note(error: Exception) -> None:
    if isinstance(error, StoreUnavailable):
        logger.warning("nothing goes by age for now: %s", error)
    else:
        logger.error("nothing goes by age for now", exc_info=error)
