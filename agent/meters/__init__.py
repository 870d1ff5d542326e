"""Meters: what reads power. One file a source, one visible table in the order of choice, imported when tried.

Adding one: a file, a line in `METERS`, a captured fixture, a parameter of the contract suite, a line in the changelog.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from phasewatt.errors import ConfigInvalid, MeterUnavailable
from phasewatt.records import Channel, SensorFacts

METERS: Mapping[str, str] = {
    "nvml": "agent.meters.nvml:Nvml",
    "rapl": "agent.meters.rapl:Rapl",
    "replay": "agent.meters.replay:Replay",
}
AUTOMATIC = ("nvml", "rapl")  # replay shows a recording, so it must be asked for


class Meter(Protocol):
    """An open power source. Opening probes every call it will use; `MeterUnavailable` says what does not answer.

    `read` gives one value a channel, in watts or joules as the channel's reading says; None where the value is
    missing this time, or not due because its call is costly. It never raises for a sensor that fails after it
    answered once, and never gives 0 for a value that it does not have.
    """

    simulated: bool
    channels: tuple[Channel, ...]

    def read(self) -> tuple[float | None, ...]:
        """The values of all channels now."""

    def close(self) -> None:
        """Let go of the source."""


def check(name: str) -> None:
    """Raise ConfigInvalid if there is no meter of that name."""
    kind = name.partition(":")[0]
    if kind not in METERS:
        raise ConfigInvalid(f"meter: no meter {kind!r}; known: {', '.join(METERS)}, none")


def open_meter(name: str, period_s: float) -> Meter:
    """The meter of that name, ready to be read every `period_s` seconds. `replay:FILE` replays a recording.

    Raises:
        ConfigInvalid: no such meter.
        MeterUnavailable: it does not answer on this host.
    """
    check(name)
    kind, _, argument = name.partition(":")
    module, _, factory = METERS[kind].partition(":")
    meter: Meter = getattr(importlib.import_module(module), factory)(period_s, argument)
    return meter


def try_all(names: Iterable[str] = AUTOMATIC, period_s: float = 0.1) -> tuple[SensorFacts, ...]:
    """What each meter says on this host; the usable ones are those that a trial will read."""
    return tuple(_try(name, period_s) for name in names)


def _try(name: str, period_s: float) -> SensorFacts:
    try:
        meter = open_meter(name, period_s)
    except MeterUnavailable as error:
        return SensorFacts(meter=name, usable=False, reason=str(error))
    try:
        values = meter.read()
    finally:
        meter.close()
    read = [f"{c.name} ({c.reading.value}, {c.scope.value})" for c in meter.channels]
    missing = sum(value is None for value in values)
    reason = f"reads {', '.join(read)}" + (f"; {missing} not answering now" if missing else "")
    return SensorFacts(meter=name, usable=missing < len(values), reason=reason, channels=meter.channels)
