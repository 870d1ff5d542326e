"""Options of the commands that go to a broker: the settings file, and the flags that win over it."""

from __future__ import annotations

import argparse
from pathlib import Path

from msgspec.structs import replace

from collector import settings
from collector.commands import authority
from collector.settings import MANAGED, Address, BrokerSettings, Settings
from phasewatt.errors import ConfigInvalid

_FLAGS = {
    "ca_file": "certificates that the broker's must be signed by; turns TLS on",
    "cert_file": "certificate of this collector",
    "key_file": "its key",
    "username": "user name at the broker",
    "password_file": "file that holds the password",
}


def add_arguments(parser: argparse.ArgumentParser, embedded: str) -> None:
    """The broker, and how to be let in; `embedded` says what an address without a host means."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML; flags win over it")
    parser.add_argument(
        "--broker",
        dest="address",
        metavar="ADDRESS",
        help=f"HOST:PORT, {MANAGED} for a mosquitto that lives with the collector, or embedded[:PORT] for {embedded}",
    )
    authority.add_arguments(parser)
    for name, explanation in _FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=explanation)


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings file with the flags put over it.

    Raises:
        ConfigInvalid: the file cannot be read, or a key or value in it is wrong.
    """
    config = settings.load(args.config)
    return replace(config, broker=_with_flags(config.broker, args))


def reached(args: argparse.Namespace, broker: BrokerSettings) -> tuple[Address, BrokerSettings]:
    """Where the broker is and how to be let in, of one that another collector manages too.

    Raises:
        ConfigInvalid: as `settings.address_of`, or no managed broker was set up.
    """
    if broker.address != MANAGED:
        return settings.address_of(broker), broker
    from collector import managed
    from collector.authority import Authority, plan_in

    folder = authority.folder_of(args)
    if plan_in(folder) is None:
        raise ConfigInvalid(f"broker managed: none was set up in {folder}: phasewatt-collector serve --broker managed")
    ours = Authority(folder)
    return managed.reached(ours.plan(), ours)


def _with_flags(broker: BrokerSettings, args: argparse.Namespace) -> BrokerSettings:
    given = {name: getattr(args, name) for name in ("address", *_FLAGS) if getattr(args, name) is not None}
    return replace(broker, **given)
