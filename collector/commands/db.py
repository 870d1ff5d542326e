"""`db`: the store itself: brought up to date, checked, made smaller, copied, put back."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

import msgspec

from collector import settings
from collector.commands import keeping, table
from collector.fleet import Outbox, outbox_of
from collector.store import Store, open_store, upgrade_store
from phasewatt.fields import Kind

_HEADERS = ("DEVICE", "EPOCH", "STORED", "REJECTED", "WITHHELD", "MISSING", "DROPPED", "GONE BY AGE")


class DeviceOutboxes(msgspec.Struct, frozen=True):
    """One board's outboxes."""

    device: str
    epochs: list[Outbox]


class Gap(msgspec.Struct, frozen=True):
    """Rows of one outbox that did not come."""

    device: str
    epoch: str
    first: int
    last: int


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer of `check` in JSON, as docs/json.md describes it."""

    schema: str = "db-check/0"
    sound: bool
    faults: list[str]
    generation: str
    records: dict[str, int]
    devices: list[DeviceOutboxes]
    gaps: list[Gap]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do; each may be followed by --db."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    again = argparse.ArgumentParser(add_help=False)
    again.add_argument("--db", metavar="URL", default=argparse.SUPPRESS, help="as before ACTION")
    actions.add_parser("upgrade", parents=[again], help="bring the tables up to date, as `serve` does too")
    check = actions.add_parser("check", parents=[again], help="read everything; exit code 1 if something does not fit")
    check.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    vacuum = actions.add_parser("vacuum", parents=[again], help="remove what is too old, and give free space back")
    vacuum.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML; flags win over it")
    keeping.add_arguments(vacuum)
    backup = actions.add_parser("backup", parents=[again], help="copy the store to a file, also while it is in use")
    backup.add_argument("file", type=Path, metavar="FILE")
    restore = actions.add_parser(
        "restore", parents=[again], help="put a copy back; without FILE, only tell boards that it was done otherwise"
    )
    restore.add_argument("file", type=Path, metavar="FILE", nargs="?")


def run(args: argparse.Namespace) -> int:
    """Do it, and say in a line what was done."""
    return {"upgrade": _upgrade, "check": _check, "vacuum": _vacuum, "backup": _backup, "restore": _restore}[
        args.action
    ](args)


def _upgrade(args: argparse.Namespace) -> int:
    with contextlib.closing(upgrade_store(args.db)) as store:
        print(f"{store.name} is up to date")
    return 0


def _check(args: argparse.Namespace) -> int:
    with contextlib.closing(open_store(args.db)) as store:
        checked = _checked(store)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(checked)).decode())
    else:
        _show(checked)
    return 0 if checked.sound else 1


def _checked(store: Store) -> Checked:
    found = store.check()
    return Checked(
        sound=not found.faults,
        faults=list(found.faults),
        generation=store.generation,
        records={kind.value: found.records[kind] for kind in Kind},
        devices=[DeviceOutboxes(row.device, [outbox_of(each) for each in row.epochs]) for row in store.devices()],
        gaps=[Gap(**gap._asdict()) for gap in found.gaps],
    )


def _show(checked: Checked) -> None:
    outboxes = [(device.device, epoch) for device in checked.devices for epoch in device.epochs]
    table.show(_HEADERS, (_cells(device, epoch) for device, epoch in outboxes), "no device has sent anything yet")
    for gap in checked.gaps:
        print(f"missing: {gap.device} epoch {gap.epoch} rows {gap.first} to {gap.last}")
    for fault in checked.faults:
        print(f"fault: {fault}", file=sys.stderr)
    records = ", ".join(f"{number} {kind}" for kind, number in checked.records.items())
    print(f"{'sound' if checked.sound else 'NOT SOUND'}: {records} records")


def _cells(device: str, outbox: Outbox) -> tuple[object, ...]:
    counts = (outbox.stored, outbox.rejected, outbox.withheld, outbox.missing, outbox.dropped, outbox.removed)
    return (device, outbox.epoch, *counts)


def _vacuum(args: argparse.Namespace) -> int:
    from collector import retention

    config = keeping.with_flags(settings.load(args.config), args)
    with contextlib.closing(open_store(args.db)) as store:
        for gone in retention.apply(store, config.retention, time.time()):
            print(f"{gone.records} {gone.kind.value} records went by age")
        store.compact()
        print(f"{store.name} is compact")
    return 0


def _backup(args: argparse.Namespace) -> int:
    from collector.store.copies import back_up

    back_up(args.db, args.file)
    print(f"{args.file}: a copy; `phasewatt-collector db restore {args.file}` puts it back")
    return 0


def _restore(args: argparse.Namespace) -> int:
    from collector.store.copies import restore

    if args.file is not None:
        restore(args.db, args.file)
        print(f"{args.db} holds what {args.file} held; boards will send again what they still keep")
        return 0
    with contextlib.closing(open_store(args.db)) as store:
        store.renew()
        print(f"{store.name} has a new generation; boards will send again what they still keep")
    return 0
