"""`phasewatt-agent export FILE`: what the outbox holds, under the keys that it is sent with, for `import`."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent import archive
from agent.archive import Source
from agent.host import Host, device_id
from agent.outbox import Outbox


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to write."""
    parser.add_argument("file", type=Path, help="file to write; .gz compresses")
    parser.add_argument("--campaign", metavar="ID", help="only the trials of this campaign, and their traces")


def run(args: argparse.Namespace) -> int:
    """Write the file whole or not at all; receipted rows that are still kept are in it too."""
    outbox = Outbox.read(args.state_dir)
    host = Host(device_id(args.state_dir, None))
    rows = archive.write(Source(outbox, host.device, host.boot_id, host.clock()), args.file, args.campaign)
    print(f"{args.file}: {rows} records of {host.device}; load it with: phasewatt-collector import {args.file}")
    return 0
