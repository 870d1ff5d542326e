"""Options of the commands that remove by age: the settings file, and the flags that win over it."""

from __future__ import annotations

import argparse
import contextlib

import msgspec
from msgspec.structs import replace

from collector.settings import FOREVER, Days, Retention, Settings
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """For how long each kind is kept."""
    default = Retention()
    for kind in Kind:
        days = getattr(default, _field(kind))
        shown = days if days == FOREVER else f"{days:g}"
        parser.add_argument(
            f"--keep-{kind.value}",
            metavar="DAYS",
            help=f"days that {kind.value} records are kept, or {FOREVER} (default: {shown})",
        )


def with_flags(config: Settings, args: argparse.Namespace) -> Settings:
    """The settings with the flags put over them.

    Raises:
        ConfigInvalid: a flag is neither a number of days nor "forever".
    """
    given = {_field(kind): _days(kind, text) for kind in Kind if (text := getattr(args, f"keep_{kind.value}"))}
    return replace(config, retention=replace(config.retention, **given))


def _field(kind: Kind) -> str:
    return f"{kind.value}_days"


def _days(kind: Kind, text: str) -> Days:
    with contextlib.suppress(ValueError, msgspec.ValidationError):
        days: Days = msgspec.convert(text if text == FOREVER else float(text), Days)
        return days
    raise ConfigInvalid(f"--keep-{kind.value}: expected days, above 0 and at most 36500, or {FOREVER}, got {text!r}")
