"""`devices`: the boards, whether they are there, and what they still hold."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence

import msgspec

from collector import drift_words, enrolled, presence
from collector.commands import authority, table
from collector.conditions import printable
from collector.enrolled import Enrolled
from collector.store import DeviceRow, Refusals, open_store
from collector.stored import BatchClock, EpochCount, Life

_HEADERS = ("DEVICE", "MODEL", "PRESENCE", "LAST SEEN", "TRIALS", "PENDING", "MISSING", "DROPPED", "QUARANTINED")
_NOTHING = "no device has sent anything yet"
_DRIFT_TOLD_S = 30 * 86400.0  # a change of level stands among the remarks so long


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


class Refusal(msgspec.Struct, frozen=True):
    """What was put aside for one reason."""

    reason: str
    topic: str
    occurrences: int
    first_unix_s: float
    last_unix_s: float


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
    refusals: list[Refusal]
    labels: tuple[str, ...] = ()


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "devices/0"
    devices: list[Device]
    refusals: list[Refusal]  # of messages that named no device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Who was enrolled, beside what came."""
    authority.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print all boards."""
    known = enrolled.load(authority.folder_of(args))
    with contextlib.closing(open_store(args.db)) as store:
        now_unix_s = time.time()
        changed: dict[str, list[str]] = {}
        for found in store.jobs.drifts(now_unix_s - _DRIFT_TOLD_S):
            changed.setdefault(found.device, []).append(drift_words.sentence(found))
        refusals = _by_device(store.refusals())
        devices = [
            _device(row, known, now_unix_s, refusals.get(row.device, []), changed.get(row.device, ()))
            for row in store.devices()
        ]
    nobodys = refusals.get("", [])
    if args.json:
        answer = Devices(devices=devices, refusals=nobodys)
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        table.show(_HEADERS, map(_cells, devices), _NOTHING)
        for device in devices:
            for remark in device.remarks:
                print(f"{device.device}: {remark}")
        if nobodys:
            count = sum(refusal.occurrences for refusal in nobodys)
            print(f"of no device: {count} messages put aside, most often: {printable(nobodys[0].reason)}")
    return 0


def outbox_of(count: EpochCount) -> Outbox:
    """An outbox as it is shown."""
    fields = {field: getattr(count, field) for field in Outbox.__struct_fields__}
    return Outbox(**fields)


def _by_device(found: Sequence[Refusals]) -> dict[str, list[Refusal]]:
    by_device: dict[str, list[Refusal]] = {}
    for each in found:
        refusal = Refusal(**{field: getattr(each, field) for field in Refusal.__struct_fields__})
        by_device.setdefault(each.device, []).append(refusal)
    return by_device


def _remarks(row: DeviceRow, now_unix_s: float, refusals: Sequence[Refusal]) -> list[str]:
    remarks = list(presence.remarks(row, now_unix_s, table.when))
    if refusals:
        most = refusals[0]
        remarks.append(f"{row.quarantined} refused, most often ({most.occurrences}): {printable(most.reason)}")
    return remarks


def _device(
    row: DeviceRow, known: Enrolled, now_unix_s: float, refusals: list[Refusal], changed: Sequence[str]
) -> Device:
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
        remarks=[*_remarks(row, now_unix_s, refusals), *([] if way_in is None else [way_in]), *changed],
        refusals=refusals,
        labels=row.facts.labels if row.facts else (),
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
