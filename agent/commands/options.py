"""Options that several commands share: the settings file, the flags that win over it, and numbers."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import msgspec

from agent import settings
from agent.settings import Settings

_BROKER_FLAGS = ("ca_file", "cert_file", "key_file", "username", "password_file")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The flags that `settings_of` reads."""
    parser.add_argument("--config", type=Path, help=f"settings (default: {settings.FILE} in the state directory)")
    parser.add_argument("--device", help="name of this board")
    parser.add_argument("--broker", metavar="HOST:PORT", help="MQTT broker to deliver to")
    parser.add_argument(
        "--meter", action="append", help="meter to read, repeatable; none: no power (default: automatic)"
    )
    parser.add_argument("--root", metavar="DIR", help="measure the simulated board in this folder, see `simulate`")
    parser.add_argument(
        "--no-calibrate", action="store_true", help="do not drive a load to find out how a new sensor behaves"
    )
    for name in _BROKER_FLAGS:
        parser.add_argument(f"--{name.replace('_', '-')}", help=f"broker.{name} of the settings")


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings file with the flags put over it.

    Raises:
        ConfigInvalid: as `settings.load`.
    """
    path = args.config or args.state_dir / settings.FILE
    found = settings.load(path, must_exist=args.config is not None)
    if args.device is not None:
        found = msgspec.structs.replace(found, device=args.device)
    if args.broker is None:
        found = settings.with_joined(found, args.state_dir)
    flags = {name: getattr(args, name) for name in _BROKER_FLAGS if getattr(args, name) is not None}
    if args.broker is not None:
        flags["address"] = args.broker
    changes: dict[str, object] = {"broker": msgspec.structs.replace(found.broker, **flags)}
    if args.meter is not None:
        changes["meters"] = tuple(args.meter)
    if args.root is not None:
        changes["root"] = args.root
    if args.no_calibrate:
        changes["calibrate"] = False
    return settings.checked(msgspec.structs.replace(found, **changes))


def positive(text: str) -> int:
    """A whole number above 0, as argparse takes a type.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    with contextlib.suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
