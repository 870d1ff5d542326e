"""What a host is and what it can measure, as it tells of itself."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from phasewatt.fields import Count, Identifier, Label, Positive, Record, Text
from phasewatt.profiles import Ceiling
from phasewatt.traces import Channel

BoardLabel = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._=-]{0,63}\Z")]


class GpuFacts(Record, frozen=True):
    """One GPU as its driver names it."""

    index: Count
    name: Label
    uuid: Label | None
    memory_bytes: Count | None
    power_limit_w: float | None


class SensorFacts(Record, frozen=True):
    """A meter that was tried on a host, and what it said."""

    meter: Label
    usable: bool
    reason: Text  # what it reads, or why it cannot
    channels: tuple[Channel, ...] = ()


class HostFacts(Record, frozen=True):
    """A host and what it can measure."""

    device: Identifier
    hostname: Label
    model: Label | None  # board or machine as its firmware names it
    architecture: Label  # x86_64, aarch64
    operating_system: Label
    kernel: Label
    python: Label
    agent_version: Label
    cpu_model: Label | None
    cpu_count: Positive
    memory_bytes: Positive
    boot_id: Label
    gpus: tuple[GpuFacts, ...] = ()
    sensors: tuple[SensorFacts, ...] = ()
    versions: dict[str, Label] = msgspec.field(default_factory=dict)  # "driver", "l4t", "jetpack"
    module: Label | None = None  # of a Jetson, such as "Jetson AGX Orin 64GB"
    carrier: Label | None = None  # the board that it sits on
    ceilings: tuple[Ceiling, ...] = ()  # the newest that were measured here, ...
    ceilings_unix_s: float | None = None  # ... when; None: none were
    labels: tuple[BoardLabel, ...] = ()  # by which its operator groups it; jobs are handed out by them
