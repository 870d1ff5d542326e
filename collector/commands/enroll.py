"""`enroll`: a bundle that lets one board in; another one in time; or an end to all that a board was given."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from collector.commands import authority, table
from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from collector.authority import Authority, Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The board, and what to do about it."""
    parser.add_argument("device", metavar="DEVICE", help="name of the board")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--renew", action="store_true", help="another bundle for a board that has one")
    what.add_argument("--revoke", action="store_true", help="shut the board out, now and for good")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the bundle (default: DEVICE.bundle)")
    parser.add_argument("--days", type=float, metavar="N", help="days that its certificate lasts (default: 730)")
    authority.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write the bundle, or revoke."""
    from collector.authority import Authority

    _check(args)
    ours = Authority(authority.folder_of(args))
    if args.revoke:
        return _revoke(ours, args.device)
    return _enroll(ours, args)


def _check(args: argparse.Namespace) -> None:
    if args.days is not None and not 0 < args.days <= 3650:
        raise ConfigInvalid(f"--days: expected above 0 and at most 3650, got {args.days:g}")
    if args.revoke and (args.out is not None or args.days is not None):
        raise ConfigInvalid("--revoke writes no bundle: leave out --out and --days")


def _enroll(ours: Authority, args: argparse.Namespace) -> int:
    from collector import mosquitto, private_file
    from collector.authority import BOARD_DAYS, check_name
    from phasewatt import bundle, certificate

    plan = ours.plan()
    check_name(args.device)
    out: Path = args.out or Path(f"{args.device}.bundle")
    if not os.access(out.parent, os.W_OK):
        raise ConfigInvalid(f"{out}: cannot be written; choose another file with --out")
    made = ours.enroll(args.device, BOARD_DAYS if args.days is None else args.days, args.renew)
    private_file.write(out, bundle.encode(made))
    print(f"{out}: lets {args.device} in at {plan.address}; fingerprint {bundle.fingerprint(made)}")
    if made.certificate is not None:
        print(f"its certificate lasts until {table.when(certificate.described(made.certificate).not_after_unix_s)}")
    else:
        mosquitto.write_who(plan, ours)
        if not mosquitto.tell(plan):
            _say(f"no broker of {plan.folder} runs on this host: have it read its files again, or start it")
    print(f"carry it to the board, there: phasewatt-agent join {out.name}; then delete it, it holds a secret")
    return 0


def _revoke(ours: Authority, device: str) -> int:
    from collector import managed, mosquitto
    from collector.eviction import evict

    plan = ours.plan()
    ours.revoke(device)
    mosquitto.write_who(plan, ours)
    if not mosquitto.tell(plan):
        _say(_carry(plan, device))
        return 1
    # The broker meets the signal before it meets this connection, so that nobody comes back in between.
    if not evict(device, *managed.reached(plan, ours)):
        _say(f"{device} is revoked, but a session that it may have stands: restart the broker")
        return 1
    print(f"{device} is shut out: the broker knows, and a session that it had is ended")
    return 0


def _carry(plan: Plan, device: str) -> str:
    return (
        f"{device} is revoked in {plan.folder}, and no broker runs with these files on this host: "
        "copy revoked.pem and passwords to where it runs and restart it; until then it lets the board in"
    )


def _say(line: str) -> None:
    print(f"phasewatt-collector: {line}", file=sys.stderr)
