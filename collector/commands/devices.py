"""`devices`: the boards, whether they are there, and what they still hold."""

from __future__ import annotations

import argparse
import contextlib
import time

import msgspec

from collector import enrolled, fleet_look
from collector.commands import authority, table
from collector.conditions import printable
from collector.fleet import Device
from collector.store import open_store

_HEADERS = ("DEVICE", "MODEL", "PRESENCE", "LAST SEEN", "TRIALS", "PENDING", "MISSING", "DROPPED", "QUARANTINED")
_NOTHING = "no device has sent anything yet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Who was enrolled, beside what came."""
    authority.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print all boards."""
    known = enrolled.load(authority.folder_of(args))
    with contextlib.closing(open_store(args.db)) as store:
        fleet = fleet_look.devices(store, known, time.time(), table.when)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(fleet)).decode())
    else:
        table.show(_HEADERS, map(_cells, fleet.devices), _NOTHING)
        for device in fleet.devices:
            for remark in device.remarks:
                print(f"{device.device}: {remark}")
        if nobodys := fleet.refusals:
            count = sum(refusal.occurrences for refusal in nobodys)
            print(f"of no device: {count} messages put aside, most often: {printable(nobodys[0].reason)}")
    return 0


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
