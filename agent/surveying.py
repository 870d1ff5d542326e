"""Every meter on this host: its channels with their cards and what they show now, or why it does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from agent import meters
from agent.cards import CardStore
from phasewatt.errors import MeterUnavailable
from phasewatt.hosts import SensorFacts
from phasewatt.traces import Channel

_PERIOD_S = 0.1
_READS = 3

Open = Callable[[str, float], meters.Meter]


class Surveyed(NamedTuple):
    """One meter. `reason` says why it does not answer; then it has no channels."""

    meter: str
    channels: tuple[Channel, ...]
    values: tuple[float | None, ...]  # one a channel, now
    uncalibrated: tuple[Channel, ...]  # without a card that holds
    driver: str | None
    mode: str | None
    read_costs_s: tuple[float | None, ...]  # one a channel; None: not known
    refused: tuple[str, ...]
    simulated: bool
    reason: str | None


def survey(
    names: Iterable[str], store: CardStore, open_meter: Open = meters.open_meter, every: bool = False
) -> list[Surveyed]:
    """What each meter is and shows. Of those that read a board's rails the first that answers is opened, or `every`.

    Raises:
        ConfigInvalid: there is no meter of a name.
    """
    found: list[Surveyed] = []
    for name in names:
        taken = next((m.meter for m in found if m.reason is None and _of_rails(m.meter) and _of_rails(name)), None)
        if taken is None or every:
            found.append(_surveyed(name, store, open_meter))
        else:
            found.append(_unopened(name, f"not needed: {taken} reads the same rails"))
    return found


def facts_of(found: Iterable[Surveyed]) -> tuple[SensorFacts, ...]:
    """What each meter said, for the facts of a host."""
    return tuple(
        SensorFacts(meter=m.meter, usable=m.reason is None, reason=m.reason or _told(m), channels=m.channels)
        for m in found
    )


def _told(meter: Surveyed) -> str:
    """What a meter reads, in words."""
    power = [
        (f"{channel.name} ({channel.reading.value}, {channel.scope.value})", value)
        for channel, value in zip(meter.channels, meter.values, strict=True)
        if channel.scope is not None
    ]
    beside = len(meter.channels) - len(power)
    missing = sum(value is None for _, value in power)
    words = ["simulated"] if meter.simulated else []
    words += [f"reads {', '.join(name for name, _ in power)}"]
    words += [f"{beside} channels beside power"] if beside else []
    words += [f"{missing} not answering now"] if missing else []
    return "; ".join([*words, *meter.refused])


def _of_rails(name: str) -> bool:
    return name.partition(":")[0] in meters.RAILS


def _unopened(name: str, reason: str) -> Surveyed:
    return Surveyed(name, (), (), (), None, None, (), (), False, reason)


def _surveyed(name: str, store: CardStore, open_meter: Open) -> Surveyed:
    try:
        meter = open_meter(name, _PERIOD_S)
    except MeterUnavailable as error:
        return _unopened(name, str(error))
    try:
        values, costs_s = _read(meter)
    finally:
        meter.close()
    channels = store.with_cards(name, meter.channels, meter.driver, meter.mode)
    missing = () if meter.simulated else store.missing(name, meter.channels, meter.driver, meter.mode)
    return Surveyed(
        name, channels, values, missing, meter.driver, meter.mode, costs_s, meter.refused, meter.simulated, None
    )


def _read(meter: meters.Meter) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Values, and the least time in s that each took to read; the first reading opens things."""
    taken_s = []
    for _ in range(_READS):
        started = time.perf_counter()
        values = meter.read(closely=True)
        taken_s.append(time.perf_counter() - started)
    return values, (min(taken_s),) if len(values) == 1 else meter.read_costs_s
