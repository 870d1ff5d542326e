"""NVIDIA GPUs by NVML: instantaneous power, averaged power and the energy counter, kept apart and named.

Initialising proves nothing (a Jetson's NVML initialises and then supports none of it), so every call is probed.
Calls differ 4,000-fold in cost; a costly one is made so seldom that it takes at most `_COST_SHARE` of the time, and
one whose power counts besides whenever it is read closely.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from agent.meters.faults import Faults
from agent.meters.nvml_calls import Call
from agent.meters.nvml_probe import Probe
from phasewatt.errors import MeterUnavailable

logger = logging.getLogger(__name__)

_COST_SHARE = 0.001
_CHEAP_S = 0.0002  # what costs less is asked at every reading


class Nvml:
    """See `Meter`: all GPUs of the host; with a UUID as `argument`, or several with "+" between, those alone count.

    The others are shown.

    The UUID of a MIG device stands for the GPU that it is a part of, whose power is only known as a whole.
    `refused` says which calls are not answered here, and why.
    """

    simulated = False

    def __init__(
        self,
        period_s: float,
        argument: str = "",
        library: Any = None,
        clock: Callable[[], float] = time.perf_counter,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`library` is pynvml or what stands in for it."""
        self._nvml = library or _library()
        self._clock = clock
        self._faults = Faults()
        self._probe = Probe(self._nvml, clock, pause)
        self._polls: list[_Poll] = []
        self._start()
        try:
            self._open(period_s, argument)
        except MeterUnavailable:
            self.close()
            raise

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        """See `Meter.read`. The cheap calls come first: a row's time is that of its beginning."""
        now_s = self._clock()
        values: list[float | None] = [None] * len(self.channels)
        for poll in self._polls:
            if poll.is_due(now_s, closely):
                poll.made(now_s)
                values[poll.place] = self._values(poll.call)
        return tuple(values)

    def notes(self) -> tuple[str, ...]:
        """See `Meter.notes`."""
        return self._faults.taken()

    def close(self) -> None:
        """See `Meter.close`."""
        try:
            for gpm in self._probe.gpms:
                gpm.close()
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as error:
            logger.debug("NVML shutdown: %s", error)

    def _start(self) -> None:
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise MeterUnavailable(f"NVML does not start ({error}): no NVIDIA driver here") from error

    def _open(self, period_s: float, uuid: str) -> None:
        gpus = self._probe.gpus(uuid)
        calls = [call for gpu in gpus for call in self._probe.calls(gpu)]
        self.refused = tuple(self._probe.refused)
        self.channels = tuple(channel for call in calls for channel in call.channels)
        if not any(call.makes_total for call in calls):
            raise MeterUnavailable(f"NVML answers, but not to power: {'; '.join(self.refused) or 'no GPU'}")
        costs_s = self._probe.costs_s(calls)
        self.read_costs_s = tuple(cost_s for call, cost_s in zip(calls, costs_s, strict=True) for _ in call.channels)
        self._polls = _placed(calls, costs_s, period_s, self._clock())
        self.driver = self._probe.driver()
        modes = [self._probe.mode(gpu) for gpu in gpus]  # of all, whichever counts: cards are found again by it
        self.mode = "; ".join(dict.fromkeys(mode for mode in modes if mode)) or None

    def _values(self, call: Call) -> tuple[float | None, ...]:
        try:
            values = call.ask()
        except self._nvml.NVMLError as error:
            self._faults.failed(call.gpu, call.source, str(error))
            return (None,) * len(call.channels)
        self._faults.answered(call.gpu, call.source)
        return values


class _Poll:
    """A call, where its values stand in a row, and when it is due again."""

    def __init__(self, call: Call, first: int, apart_s: float, due_s: float) -> None:
        self.call = call
        self.place = slice(first, first + len(call.channels))
        self._apart_s = apart_s
        self._due_s = due_s

    def is_due(self, now_s: float, closely: bool) -> bool:
        """Whether to make the call in this reading."""
        return now_s >= self._due_s or (closely and self.call.makes_total)

    def made(self, now_s: float) -> None:
        """Count the time to the next call from here."""
        self._due_s = now_s + self._apart_s


def _placed(calls: Sequence[Call], costs_s: Sequence[float], period_s: float, now_s: float) -> list[_Poll]:
    """The calls with their places in a row, the cheapest first."""
    placed, first = [], 0
    for call, cost_s in zip(calls, costs_s, strict=True):
        is_costly = cost_s > max(_CHEAP_S, _COST_SHARE * period_s)
        apart_s = max(call.least_apart_s, cost_s / _COST_SHARE if is_costly else 0.0)
        placed.append((cost_s, _Poll(call, first, apart_s, now_s + call.least_apart_s)))
        first += len(call.channels)
    return [poll for _, poll in sorted(placed, key=lambda pair: pair[0])]


def _library() -> Any:
    try:
        import pynvml  # noqa: PLC0415 - an optional dependency, needed only where this meter is tried
    except ImportError as error:
        raise MeterUnavailable("NVML is not installed: pip install 'phasewatt[nvml]'") from error
    return pynvml
