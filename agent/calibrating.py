"""Sensor cards for the meters of this host: drives a load that is switched on and off, and looks at what they show.

The half-periods have no common divisor with a sensor's period, so that the edges fall anywhere in it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from agent.cards import CardStore
from agent.orders import Burn, Burned, Question
from agent.sampler import Recording, Sampler
from agent.stopping import Stop
from agent.surveying import Surveyed
from agent.worker_process import WorkerProcess
from phasewatt import calibration
from phasewatt.errors import EngineFailed, MeterUnavailable
from phasewatt.fields import Scope
from phasewatt.traces import Channel, SensorCard

RATE_HZ = 100.0
FAST_S = (2.6,) * 2 + (1.03,) * 6 + (0.53,) * 8 + (0.23,) * 10 + (0.17,) * 6  # on, off, on, ...
SLOW_S = (13.3, 5.3) + (5.3,) * 4 + (3.7,) * 6
_SLOW_PERIOD_S = 0.5
_LEAD_S = 1.0  # of idling before the first load, and after the last
_WARM_UP_S = 0.2
_START_S = 300.0  # importing torch from an SD card
_ANSWER_S = 60.0
_ENGINE = "transformers"
_SIMULATED = "it is simulated and shows no load of ours"
_RAILS = (Scope.MODULE, Scope.BOARD_INPUT)
_RAILS_OR_UNKNOWN = (*_RAILS, Scope.UNKNOWN)
_LOADS = {"nvml": "cuda", "rapl": "cpu"}  # by kind of meter; the others see whatever does the work here

Expected = TypeVar("Expected")
Progress = Callable[[str], None]


class Asked(Protocol):
    """An engine's process, such as `WorkerProcess` or `Bench`."""

    def ask(self, question: Question, answer: type[Expected], limit_s: float) -> Expected:
        """See `WorkerProcess.ask`."""


class Sampling(Protocol):
    """What `Sampler` is to this module."""

    def start(self) -> None:
        """See `Sampler.start`."""

    def stop(self) -> Recording:
        """See `Sampler.stop`."""


class Calibrated(NamedTuple):
    """What came of one channel; `meter` alone where its load could not be driven or it could not be read."""

    meter: str
    channel: Channel | None
    card: SensorCard | None
    reason: str | None  # why there is no card, or what it lacks


class _Seen(NamedTuple):
    """What was sampled, and when the load ran, in ns."""

    recording: Recording
    loads: list[tuple[int, int]]

    def column(self, channel: Channel) -> list[tuple[int, float | None]]:
        """Times in ns and values of one channel; nothing where it did not answer this time."""
        places = [at for at, c in enumerate(self.recording.channels) if (c.source, c.name) == _name(channel)]
        return [(at, values[place]) for at, values in self.recording.rows for place in places[:1]]


class Calibration:
    """Drives the loads of one engine and keeps the cards."""

    def __init__(
        self,
        engine: Asked,
        store: CardStore,
        stop: Stop,
        progress: Progress,
        sampler: Callable[[Sequence[str]], Sampling] | None = None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._stop = stop
        self._progress = progress
        self._sampler = sampler or _close_sampler

    def run(self, found: Iterable[Surveyed]) -> list[Calibrated]:
        """Cards for every power channel of the meters that answer, kept in the store.

        Raises:
            Stopped: asked to end; no card was changed.
            StoreUnavailable: the cards cannot be written.
        """
        found = list(found)
        usable = [meter for meter in found if meter.reason is None and not meter.simulated]
        outcomes = [Calibrated(meter.meter, None, None, _SIMULATED) for meter in found if meter.simulated]
        outcomes += self._all(usable) if usable else []
        for outcome in outcomes:
            if outcome.channel is not None and outcome.card is not None:
                self._store.keep(outcome.meter, outcome.channel, outcome.card)
        self._store.save()
        return outcomes

    def _all(self, usable: Sequence[Surveyed]) -> list[Calibrated]:
        """Meters that see the same load go together."""
        self._progress("starting the load")
        try:
            own = self._burn(_WARM_UP_S, "auto", _START_S).accelerator
        except EngineFailed as error:
            return _none(usable, error)
        groups: dict[str, list[Surveyed]] = {}
        for meter in usable:
            groups.setdefault(_LOADS.get(_kind(meter), own), []).append(meter)
        return [outcome for accelerator, group in groups.items() for outcome in self._together(group, accelerator)]

    def _together(self, group: Sequence[Surveyed], accelerator: str) -> list[Calibrated]:
        """One wave for all; where a sensor of a meter is slow, a slower one for that meter."""
        try:
            self._burn(_WARM_UP_S, accelerator, _START_S)
            seen = self._seen(group, accelerator, FAST_S)
            slow = [meter for meter in group if _is_slow(meter, seen)]
            outcomes = _cards([meter for meter in group if meter not in slow], seen)
            return outcomes + (_cards(slow, self._seen(slow, accelerator, SLOW_S)) if slow else [])
        except (EngineFailed, MeterUnavailable) as error:
            return _none(group, error)

    def _seen(self, found: Sequence[Surveyed], accelerator: str, halves_s: Sequence[float]) -> _Seen:
        """What the meters showed under one square wave."""
        names = [meter.meter for meter in found]
        sampler = self._sampler(names)
        sampler.start()
        try:
            self._stop.pause(_LEAD_S)
            loads = [self._one_load(names, accelerator, halves_s, at) for at in range(0, len(halves_s), 2)]
            self._stop.pause(_LEAD_S)
        finally:
            recording = sampler.stop()
        if recording.fault is not None:
            raise MeterUnavailable(recording.fault)
        return _Seen(recording, loads)

    def _one_load(self, names: Sequence[str], accelerator: str, halves_s: Sequence[float], at: int) -> tuple[int, int]:
        """A load and the idling after it."""
        self._progress(f"{', '.join(names)}: {sum(halves_s[:at]):.0f} of {sum(halves_s):.0f} s")
        burned = self._burn(halves_s[at], accelerator, _ANSWER_S)
        self._stop.pause(halves_s[at + 1])
        return burned.start_ns, burned.end_ns

    def _burn(self, seconds: float, accelerator: str, limit_s: float) -> Burned:
        return self._engine.ask(Burn(seconds=seconds, accelerator=accelerator), Burned, limit_s)


def calibrate_here(found: Iterable[Surveyed], store: CardStore, stop: Stop, progress: Progress) -> list[Calibrated]:
    """See `Calibration.run`, with an engine's process of its own; takes about half a minute, with slow sensors two."""
    worker = WorkerProcess(_ENGINE, stop)
    try:
        return Calibration(worker, store, stop, progress).run(found)
    finally:
        worker.close()


def _close_sampler(names: Sequence[str]) -> Sampling:
    return Sampler(names, RATE_HZ, closely=True, cards=None)


def _name(channel: Channel) -> tuple[str, str]:
    return channel.source, channel.name


def _kind(meter: Surveyed) -> str:
    return meter.meter.partition(":")[0]


def _none(group: Iterable[Surveyed], error: Exception) -> list[Calibrated]:
    return [Calibrated(meter.meter, None, None, str(error)) for meter in group]


def _cards(group: Iterable[Surveyed], seen: _Seen) -> list[Calibrated]:
    return [outcome for meter in group for outcome in _of_one_board(_cards_of(meter, seen))]


def _cards_of(meter: Surveyed, seen: _Seen) -> list[Calibrated]:
    return [
        Calibrated(meter.meter, channel, card, card.reason)
        for channel, cost_s in zip(meter.channels, meter.read_costs_s, strict=True)
        if _is_calibrated_here(channel)
        for card in [_card(meter, channel, cost_s, seen)]
    ]


def _of_one_board(outcomes: Sequence[Calibrated]) -> list[Calibrated]:
    """Rails of one board are read out together: one that the load hardly reaches has the timing of one that it does."""
    lenders = {
        outcome.channel.source: outcome
        for outcome in outcomes
        if outcome.channel is not None and outcome.channel.scope in _RAILS and outcome.reason is None
    }
    return [_lent(outcome, lenders) for outcome in outcomes]


def _lent(outcome: Calibrated, lenders: Mapping[str, Calibrated]) -> Calibrated:
    channel, card = outcome.channel, outcome.card
    lender = lenders.get(channel.source) if channel is not None and channel.scope in _RAILS_OR_UNKNOWN else None
    if card is None or outcome.reason is None or lender is None or lender.card is None or lender.channel is None:
        return outcome
    return outcome._replace(card=calibration.borrowed(card, lender.card, lender.channel.name), reason=None)


def _is_calibrated_here(channel: Channel) -> bool:
    """Whether it is power, and not documented to update faster than it is read here."""
    card = channel.card
    if card is None or card.origin != calibration.DOCUMENTED or card.update_period_s is None:
        return channel.scope is not None
    return channel.scope is not None and card.update_period_s * RATE_HZ >= 1


def _card(meter: Surveyed, channel: Channel, read_cost_s: float | None, seen: _Seen) -> SensorCard:
    return calibration.card(
        seen.column(channel),
        seen.loads,
        channel.reading,
        read_cost_s=read_cost_s,
        driver=meter.driver,
        mode=meter.mode,
        measured_unix_s=time.time(),
    )


def _is_slow(meter: Surveyed, seen: _Seen) -> bool:
    """Whether all channels of a source that do change changed too seldom for the fast wave."""
    rows = seen.recording.rows
    most = (rows[-1][0] - rows[0][0]) * 1e-9 / _SLOW_PERIOD_S if rows else 0
    counts: dict[str, int] = {}
    for channel in filter(_is_calibrated_here, meter.channels):
        changes = _changes(value for _, value in seen.column(channel))
        counts[channel.source] = max(counts.get(channel.source, 0), changes)
    return any(0 < count < most for count in counts.values())


def _changes(values: Iterable[float | None]) -> int:
    there = [value for value in values if value is not None]
    return sum(before != after for before, after in itertools.pairwise(there))
