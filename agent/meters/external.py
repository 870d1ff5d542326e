"""Power at the wall plug from a meter outside of this host: `external:SPEC`, see docs/wall-meters.md.

Such a meter is slow or pushes by itself, so it is followed in a thread, and reading gives the latest value at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from agent.meters import wall
from agent.meters.faults import Faults
from agent.meters.wall.latest import Latest
from agent.meters.wall.spec import Quantity, Spec, choice, number, parse
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading, Scope
from phasewatt.traces import Channel

logger = logging.getLogger(__name__)

OPENING_S = 15.0  # below the sampler's patience of 20 s; a Tasmota plug reports every 10 s at most often
_RETRY_S = 2.0
_CLOSE_S = 1.0


class External:
    """See `Meter`: watts, joules of a counter, or both, of what one wall meter feeds."""

    simulated = False
    driver: str | None = None
    mode: str | None = None
    refused: tuple[str, ...] = ()

    def __init__(
        self,
        period_s: float,
        argument: str = "",
        clock_ns: Callable[[], int] = time.monotonic_ns,
        source_of: Callable[[Spec], wall.Source] = wall.source_of,
        opening_s: float = OPENING_S,
    ) -> None:
        self._spec = parse(argument)
        self._source = source_of(self._spec)
        self.channels = tuple(_channel(self._spec, quantity) for quantity in self._source.quantities)
        self.read_costs_s = (None,) * len(self.channels)
        self._latest = Latest(str(self._spec), self._source.quantities, clock_ns)
        self._faults = Faults()
        self._ended = threading.Event()
        self._refusal: str | None = None
        self._thread = threading.Thread(target=self._follow, name="wall-meter", daemon=True)
        self._thread.start()
        if not self._answers(opening_s):
            self.close()
            raise MeterUnavailable(f"{self._spec}: {self._why(opening_s)}")

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        """See `Meter.read`; a value stands until it is stale, see `Latest`."""
        return self._latest.now()

    def notes(self) -> tuple[str, ...]:
        """See `Meter.notes`."""
        return self._faults.taken()

    def close(self) -> None:
        """See `Meter.close`; a thread that waits for its meter ends with the process."""
        self._ended.set()
        self._thread.join(_CLOSE_S)
        if self._latest.dropped:
            counts = "; ".join(f"{count} times {reason}" for reason, count in self._latest.dropped.items())
            logger.info("%s: dropped %s", self._spec, counts)

    def _answers(self, opening_s: float) -> bool:
        """Whether every value has come once before the source refused or the time was over."""
        deadline_s = time.monotonic() + opening_s
        while self._thread.is_alive() and time.monotonic() < deadline_s:
            if self._latest.complete.wait(0.05):
                return True
        return self._latest.complete.is_set()

    def _why(self, opening_s: float) -> str:
        if self._refusal is not None:
            return self._refusal
        seen = f" (came, and was dropped: {', '.join(self._latest.dropped)})" if self._latest.dropped else ""
        return f"nothing in {opening_s:.0f} s: {self._source.silence}{seen}"

    def _follow(self) -> None:
        self._attempt()
        while self._latest.complete.is_set() and not self._ended.wait(_RETRY_S):
            self._attempt()

    def _attempt(self) -> None:
        try:
            self._source.follow(self._latest, self._ended.wait)
        except MeterUnavailable as error:
            if self._latest.complete.is_set() and str(error) != self._refusal:
                self._faults.note(f"{self._spec}: {error}; trying again every {_RETRY_S:.0f} s")
            self._refusal = str(error)


def _channel(spec: Spec, quantity: Quantity) -> Channel:
    is_power = quantity.unit == "W"
    said = Reading(choice(spec, "reading", ("instant", "average"), "instant"))
    return Channel(
        name=spec.options.get("name", "wall"),
        source=f"external.{spec.kind}.{'power' if is_power else 'energy'}",
        reading=said if is_power else Reading.COUNTER,
        unit=quantity.unit,
        scope=Scope.WALL,
        gain_uncertainty=number(spec, "gain", 1e-4, 0.5),
    )
