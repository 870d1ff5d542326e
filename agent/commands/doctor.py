"""`phasewatt-agent doctor`: exit code 0 if this host can measure, 1 if not."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.commands import options

if TYPE_CHECKING:
    from agent.checks import Finding, Subject

_SIGNS = {True: "ok", None: "--", False: "NO"}
_WIDEST = 100  # longer lines are hard to read, however wide the terminal is


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """JSON, and the settings."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    options.add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Print every finding as soon as it is known."""
    from agent.doctor import examine

    findings = []
    for finding in examine(_subject(args)):
        findings.append(finding)
        if not args.json:
            print(_shown(finding, min(shutil.get_terminal_size().columns, _WIDEST)), flush=True)
    able = all(finding.ok is not False for finding in findings)
    if args.json:
        content = {"schema": "doctor/0", "can_measure": able, "findings": findings}
        print(msgspec.json.format(msgspec.json.encode(content)).decode())
    else:
        print("this host can measure" if able else "this host cannot measure yet")
    return 0 if able else 1


def _subject(args: argparse.Namespace) -> Subject:
    from agent.cards import CardStore
    from agent.checks import Subject
    from agent.doctor import describe_engine
    from agent.host import Host
    from agent.kernel_files import text
    from agent.meters import asked_for
    from agent.settings import broker_of
    from agent.surveying import survey

    settings = options.settings_of(args)
    device = settings.device or text(args.state_dir / "device")
    return Subject(
        host=Host(device or "doctor", Path(settings.root)),
        root=Path(settings.root),
        found=survey(asked_for(settings.meters, settings.root), CardStore(args.state_dir), every=True),
        named=settings.meters is not None,
        state=args.state_dir,
        broker=broker_of(settings.broker),
        device=device,
        describe=describe_engine,
    )


def _shown(finding: Finding, columns: int) -> str:
    """The finding in lines of so many columns, its remedy on a line of its own."""
    said = f"{finding.question}: {finding.verdict}"
    lines = textwrap.wrap(said, columns, initial_indent=f"{_SIGNS[finding.ok]}  ", subsequent_indent="    ")
    if finding.remedy:
        lines += textwrap.wrap(finding.remedy, columns, initial_indent="    -> ", subsequent_indent="       ")
    return "\n".join(lines)
