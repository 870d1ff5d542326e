"""`phasewatt-agent doctor`: exit code 0 if this host can measure, 1 if not."""

from __future__ import annotations

import argparse

import msgspec

from agent.commands import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """JSON, and the settings."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    options.add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Print every finding as soon as it is known."""
    from agent.cards import CardStore
    from agent.doctor import examine
    from agent.host import Host
    from agent.meters import asked_for
    from agent.settings import broker_of
    from agent.surveying import survey

    settings = options.settings_of(args)
    host = Host(settings.device or "doctor")
    findings = []
    found = survey(asked_for(settings.meters), CardStore(args.state_dir))
    for finding in examine(host, found, settings.meters is not None, args.state_dir, broker_of(settings.broker)):
        findings.append(finding)
        if not args.json:
            sign = {True: "ok", None: "--", False: "NO"}[finding.ok]
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            print(f"{sign}  {finding.question}: {finding.verdict}{remedy}", flush=True)
    able = all(finding.ok is not False for finding in findings)
    if args.json:
        content = {"schema": "doctor/0", "can_measure": able, "findings": findings}
        print(msgspec.json.format(msgspec.json.encode(content)).decode())
    else:
        print("this host can measure" if able else "this host cannot measure yet")
    return 0 if able else 1
