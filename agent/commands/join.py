"""`phasewatt-agent join BUNDLE`: install what `phasewatt-collector enroll` wrote for this board."""

from __future__ import annotations

import argparse
from pathlib import Path

from phasewatt.errors import ConfigInvalid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bundle."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the file that was carried here")
    parser.add_argument(
        "--fingerprint", metavar="F", help="refuse a bundle with another fingerprint than enroll printed"
    )


def run(args: argparse.Namespace) -> int:
    """Install it, and say how to go on."""
    from agent import joining, settings
    from phasewatt.bundle import fingerprint

    bundle = joining.read(args.bundle)
    shown = fingerprint(bundle)
    if args.fingerprint is not None and args.fingerprint.strip().lower() != shown:
        raise ConfigInvalid(f"{args.bundle}: fingerprint {shown}, not {args.fingerprint}: it is another file")
    found = settings.load(args.state_dir / settings.FILE, must_exist=False)
    joining.join(bundle, args.state_dir, found.device)
    print(f"this board is {bundle.device}, and delivers to {bundle.broker}; fingerprint {shown}")
    if found.broker.address is not None:
        print(f"{settings.FILE} names {found.broker.address}, which wins: take [broker] out of it to use the bundle")
    if joining.is_readable_by_others(args.bundle):
        print(f"others on this host could read {args.bundle}")
    print(f"delete {args.bundle}: it holds this board's secret. Then: phasewatt-agent doctor, and serve")
    return 0
