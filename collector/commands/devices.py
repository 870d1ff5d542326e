"""`devices`: the boards, whether they are there, and what they still hold."""

from __future__ import annotations

import argparse
import contextlib

import msgspec

from collector.commands import table
from collector.store import DeviceRow, open_store

_HEADERS = ("DEVICE", "MODEL", "PRESENCE", "LAST SEEN", "TRIALS", "PENDING", "DROPPED", "QUARANTINED")
_NOTHING = "no device has sent anything yet"


class Device(msgspec.Struct, frozen=True):
    """One board."""

    device: str
    model: str | None
    presence: str | None
    first_seen_unix_s: float
    last_seen_unix_s: float | None
    trials: int
    pending: int | None
    dropped: dict[str, int] | None
    quarantined: int


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "devices/0"
    devices: list[Device]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No option of its own."""


def run(args: argparse.Namespace) -> int:
    """Print all boards."""
    with contextlib.closing(open_store(args.db)) as store:
        devices = [_device(row) for row in store.devices()]
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(Devices(devices=devices))).decode())
    else:
        table.show(_HEADERS, map(_cells, devices), _NOTHING)
    return 0


def _device(row: DeviceRow) -> Device:
    status = row.status
    return Device(
        device=row.device,
        model=row.facts.model if row.facts else None,
        presence=status.presence.value if status else None,
        first_seen_unix_s=row.first_seen_unix_s,
        last_seen_unix_s=row.last_seen_unix_s,
        trials=row.trials,
        pending=status.pending if status else None,
        dropped=status.dropped if status else None,
        quarantined=row.quarantined,
    )


def _cells(device: Device) -> tuple[object, ...]:
    return (
        device.device,
        device.model,
        device.presence,
        table.when(device.last_seen_unix_s),
        device.trials,
        device.pending,
        None if device.dropped is None else sum(device.dropped.values()),
        device.quarantined,
    )
