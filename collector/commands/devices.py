"""`devices`: the boards, whether they are there, and what they still hold."""

from __future__ import annotations

import argparse
import contextlib
import time

import msgspec

from collector import enrolled, presence
from collector.commands import authority, table
from collector.enrolled import Enrolled
from collector.store import DeviceRow, open_store
from collector.stored import BatchClock, EpochCount, Life

_HEADERS = ("DEVICE", "MODEL", "PRESENCE", "LAST SEEN", "TRIALS", "PENDING", "MISSING", "DROPPED", "QUARANTINED")
_NOTHING = "no device has sent anything yet"


class Outbox(msgspec.Struct, frozen=True):
    """What came of one outbox of a board, by its keys."""

    epoch: str
    high_water: int
    stored: int
    rejected: int
    withheld: int
    missing: int
    dropped: int | None
    removed: int
    first_unix_s: float
    last_unix_s: float


class Contender(msgspec.Struct, frozen=True):
    """One of several boards that answer to a name."""

    epoch: str
    boot_id: str
    session: str
    returned_unix_s: float | None


class Clock(msgspec.Struct, frozen=True):
    """What the last batch said of the board's clock."""

    synchronised: bool | None
    offset_bound_s: float | None
    sent_unix_s: float
    received_unix_s: float


class Device(msgspec.Struct, frozen=True):
    """One board."""

    device: str
    model: str | None
    module: str | None
    carrier: str | None
    presence: str | None
    first_seen_unix_s: float
    last_seen_unix_s: float | None
    trials: int
    pending: int | None
    dropped: dict[str, int] | None
    quarantined: int
    key_conflicts: int
    missing: int
    withheld: int
    silent_since_unix_s: float | None
    contenders: list[Contender]
    clock: Clock | None
    certificate_ends_unix_s: float | None  # of the newest that holds; None: it has none from here
    epochs: list[Outbox]
    remarks: list[str]


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "devices/0"
    devices: list[Device]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Who was enrolled, beside what came."""
    authority.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print all boards."""
    known = enrolled.load(authority.folder_of(args))
    with contextlib.closing(open_store(args.db)) as store:
        devices = [_device(row, known, time.time()) for row in store.devices()]
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(Devices(devices=devices))).decode())
    else:
        table.show(_HEADERS, map(_cells, devices), _NOTHING)
        for device in devices:
            for remark in device.remarks:
                print(f"{device.device}: {remark}")
    return 0


def outbox_of(count: EpochCount) -> Outbox:
    """An outbox as it is shown."""
    fields = {field: getattr(count, field) for field in Outbox.__struct_fields__}
    return Outbox(**fields)


def _device(row: DeviceRow, known: Enrolled, now_unix_s: float) -> Device:
    status = row.status
    given = known.current(row.device, now_unix_s)
    way_in = enrolled.remark(known, row.device, now_unix_s, table.when)
    return Device(
        device=row.device,
        model=row.facts.model if row.facts else None,
        module=row.facts.module if row.facts else None,
        carrier=row.facts.carrier if row.facts else None,
        presence=status.presence.value if status else None,
        first_seen_unix_s=row.first_seen_unix_s,
        last_seen_unix_s=row.last_seen_unix_s,
        trials=row.trials,
        pending=status.pending if status else None,
        dropped=status.dropped if status else None,
        quarantined=row.quarantined,
        key_conflicts=row.key_conflicts,
        missing=sum(count.missing for count in row.epochs),
        withheld=sum(count.withheld for count in row.epochs),
        silent_since_unix_s=presence.silent_since_unix_s(row, now_unix_s),
        contenders=[_contender(life) for life in presence.contenders(row, now_unix_s)],
        clock=None if row.clock is None else _clock(row.clock),
        certificate_ends_unix_s=None if given is None else given.expires_unix_s,
        epochs=[outbox_of(count) for count in row.epochs],
        remarks=[*presence.remarks(row, now_unix_s, table.when), *([] if way_in is None else [way_in])],
    )


def _contender(life: Life) -> Contender:
    return Contender(life.epoch, life.boot_id, life.session, life.returned_unix_s)


def _clock(clock: BatchClock) -> Clock:
    return Clock(clock.synchronised, clock.offset_bound_s, clock.sent_unix_s, clock.received_unix_s)


def _cells(device: Device) -> tuple[object, ...]:
    return (
        device.device,
        device.module or device.model,
        device.presence if device.silent_since_unix_s is None else f"{device.presence}, silent",
        table.when(device.last_seen_unix_s),
        device.trials,
        device.pending,
        device.missing,
        None if device.dropped is None else sum(device.dropped.values()),
        device.quarantined,
    )
