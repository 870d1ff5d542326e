"""Meters: what reads power. One file a source, one visible table in the order of choice, imported when tried.

Adding one: a file, a line in `METERS`, a captured fixture, a parameter of the contract suite, a line in the changelog.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol

from phasewatt.errors import ConfigInvalid
from phasewatt.traces import Channel

METERS: Mapping[str, str] = {
    "nvml": "agent.meters.nvml:Nvml",
    "rapl": "agent.meters.rapl:Rapl",
    "ina3221": "agent.meters.ina3221:Ina3221",
    "tegrastats": "agent.meters.tegrastats:Tegrastats",
    "jtop": "agent.meters.jtop:Jtop",
    "replay": "agent.meters.replay:Replay",
    "external": "agent.meters.external:External",
}
NO_METER = "none"  # in settings: no power is read
RAILS = ("ina3221", "tegrastats", "jtop")  # of one board by different ways: one of them is read, in this order
# A recording, or a meter outside of this host, must be asked for; so must jtop, whose licence is a user's choice.
AUTOMATIC = ("nvml", "rapl", "ina3221", "tegrastats")
EXCLUSIVE = ("tegrastats",)  # a second reader of it may be refused: telemetry lets go of it while a suite runs
ROOTED = ("ina3221", "tegrastats")  # a simulated board has these; their argument is its root


class Meter(Protocol):
    """An open power source. Opening probes every call it will use; `MeterUnavailable` says what does not answer.

    `read` gives one value a channel, in the channel's unit; None where the value is missing this time, or not due
    because its call is costly. It never raises for a sensor that fails after it answered once, and never gives 0
    for a value that it does not have.
    """

    simulated: bool
    channels: tuple[Channel, ...]  # of equal name and source at every opening: sensor cards go by these
    driver: str | None  # sensor cards hold for one driver ...
    mode: str | None  # ... and one power mode or limit
    read_costs_s: tuple[float | None, ...]  # one a channel; None: not known
    refused: tuple[str, ...]  # what does not answer here beside the channels, and why

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        """The values of all channels now; `closely`, around the edge of a window, costly calls are made too."""

    def notes(self) -> tuple[str, ...]:
        """What happened to the source since this was last asked, in words: a rail that vanished, a child that hung."""

    def close(self) -> None:
        """Let go of the source."""


def asked_for(names: tuple[str, ...] | None, root: str = "/") -> tuple[str, ...]:
    """The meters to look at: those that the settings name, else all that a host may have.

    Under another `root` is a simulated board, whose meters are told of it; what this host has is not of that board.

    Raises:
        ConfigInvalid: two that read the same rails are named.
    """
    if names is None:
        names = AUTOMATIC if root == "/" else ROOTED
    elif len(twice := [name for name in names if name.partition(":")[0] in RAILS]) > 1:
        raise ConfigInvalid(f"meters: {' and '.join(twice)} read the same rails: name one of them")
    return tuple(_under(root, name) for name in names if name != NO_METER)


def _under(root: str, name: str) -> str:
    return f"{name}:{root}" if root != "/" and name in ROOTED else name


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
