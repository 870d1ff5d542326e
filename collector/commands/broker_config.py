"""`broker-config`: the configuration of a mosquitto that lets in who was enrolled, and nobody else."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from collector.commands import authority
from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from collector.authority import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where boards find the broker, and how they prove who they are."""
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="where to write it (default: broker in the state directory)"
    )
    parser.add_argument(
        "--host",
        action="append",
        metavar="NAME",
        help="name or address by which boards reach the broker, repeatable, the first is what they are told "
        "(default: as before, at first this host's name)",
    )
    parser.add_argument("--port", type=int, help="port for boards (default: as before, at first 8883)")
    parser.add_argument("--centre-port", type=int, help="port for collectors (default: as before, at first 8884)")
    parser.add_argument("--bind", metavar="ADDRESS", help="listen on this address alone (default: on all)")
    parser.add_argument(
        "--passwords", action="store_true", help="boards prove themselves by password instead of certificate"
    )
    authority.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write everything, and say how to go on."""
    from collector import mosquitto
    from collector.authority import Authority, check_hosts, plan_in

    ours = Authority(authority.folder_of(args))
    plan = _plan(args, plan_in(ours.folder))
    check_hosts(plan.hosts)
    ours.set_up(plan)
    config = mosquitto.write(plan, ours)
    ours.client()
    print(f"{config}: boards at {plan.address}, collectors at port {plan.centre_port}")
    print("start it with the collector:  phasewatt-collector serve --broker managed")
    print(f"or by itself:                 mosquitto -c {config}, and a collector.toml with")
    for line in _settings(ours.folder, plan):
        print(f"    {line}")
    print("then, for each board:         phasewatt-collector enroll DEVICE")
    return 0


def default_plan(state: Path) -> Plan:
    """The broker as it is before anybody chose."""
    from collector.authority import Plan

    return Plan(hosts=(socket.gethostname(),), folder=str((state / authority.BROKER_FOLDER).absolute()))


def _plan(args: argparse.Namespace, before: Plan | None) -> Plan:
    import msgspec

    plan = before or default_plan(args.state)
    if args.passwords and before is not None and not before.by_password:
        raise ConfigInvalid("--passwords: boards of this authority have certificates; choose another --authority")
    for option in ("port", "centre_port"):
        port = getattr(args, option)
        if port is not None and not 1 <= port <= 65535:
            raise ConfigInvalid(f"--{option.replace('_', '-')}: expected a port from 1 to 65535, got {port}")
    chosen = {name: getattr(args, name) for name in ("port", "centre_port", "bind") if getattr(args, name) is not None}
    if args.host:
        chosen["hosts"] = tuple(args.host)
    if args.folder is not None:
        chosen["folder"] = str(args.folder.absolute())
    plan = msgspec.structs.replace(plan, **chosen, by_password=plan.by_password or args.passwords)
    if plan.port == plan.centre_port:
        raise ConfigInvalid(f"--centre-port: expected another port than that of boards, got {plan.port} for both")
    return plan


def _settings(folder: Path, plan: Plan) -> tuple[str, ...]:
    return (
        "[broker]",
        f'address = "127.0.0.1:{plan.centre_port}"',
        f'ca_file = "{folder / "boards.pem"}"',
        f'cert_file = "{folder / "client.pem"}"',
        f'key_file = "{folder / "client.key"}"',
    )
