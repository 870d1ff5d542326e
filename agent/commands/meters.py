"""`phasewatt-agent meters`: the channels of this host and how their sensors behave; `--calibrate` finds that out.

`meters decode` reads what another tool printed, see `agent.commands.decode`.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from agent.commands import decode, options
from agent.meters import RAILS
from phasewatt.calibration import DOCUMENTED

if TYPE_CHECKING:
    from agent.cards import CardStore
    from agent.surveying import Surveyed
    from phasewatt.traces import Channel, SensorCard

_REMEDY = "not calibrated: phasewatt-agent meters --calibrate"
_SHORT = "not calibrated"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to calibrate, JSON, and the settings; or the form that decodes."""
    parser.add_argument(
        "--calibrate", action="store_true", help="drive a load for half a minute, two with slow sensors, and keep cards"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options.add_settings(parser)
    forms = parser.add_subparsers(dest="form", metavar="decode", title="instead of the meters of this host")
    told = "print the lines of another tool as JSON, one object a line"
    decode.add_arguments(forms.add_parser("decode", help=told, description=told))


def run(args: argparse.Namespace) -> int:
    """Print the meters; 1 if none answers, or if one could not be calibrated that should."""
    if args.form == "decode":
        return decode.run(args)
    from agent.cards import CardStore
    from agent.meters import asked_for
    from agent.surveying import survey

    settings = options.settings_of(args)
    names = asked_for(settings.meters, settings.root)
    store = CardStore(args.state_dir)
    found = survey(names, store)
    failures: list[str] = []
    if args.calibrate and any(meter.reason is None for meter in found):
        failures = _calibrate(args, found, store)
        found = survey(names, store)
    if args.json:
        content = {"schema": "meters/0", "meters": [_content(meter) for meter in found]}
        print(msgspec.json.format(msgspec.json.encode(content)).decode())
    else:
        _show(found)
    for line in failures:
        print(f"phasewatt-agent: {line}", file=sys.stderr)
    return int(bool(failures) or all(meter.reason is not None for meter in found))


def _calibrate(args: argparse.Namespace, found: list[Surveyed], store: CardStore) -> list[str]:
    """Drive the load; what could not be found, a line each. A living daemon may be measuring: it is left alone."""
    from rich.console import Console

    from agent.calibrating import calibrate_here
    from agent.control import StateLock
    from agent.stopping import Stop

    lock = StateLock(args.state_dir)
    stop = Stop()
    stop.on_signals()
    console = Console(stderr=True)
    try:
        with console.status("calibrating") as status:
            outcomes = calibrate_here(found, store, stop, lambda text: status.update(f"calibrating: {text}"))
    finally:
        lock.close()
    return [
        f"{outcome.meter}{f' {outcome.channel.name}' if outcome.channel else ''}: {outcome.reason}"
        for outcome in outcomes
        if outcome.reason is not None
    ]


def _content(meter: Surveyed) -> dict[str, object]:
    pairs = zip(meter.channels, meter.values, strict=True)
    return {
        "meter": meter.meter,
        "reason": meter.reason,
        "driver": meter.driver,
        "mode": meter.mode,
        "simulated": meter.simulated,
        "channels": [
            msgspec.to_builtins(channel) | {"value": value, "calibrated": _is_known(channel)}
            for channel, value in pairs
        ],
    }


def _is_known(channel: Channel) -> bool:
    return channel.card is not None and channel.card.update_period_s is not None


def _show(found: list[Surveyed]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if any(meter.channels for meter in found):
        table = Table()
        for heading in ("meter", "channel", "reads", "covers", "now", "sensor"):
            table.add_column(heading, overflow="fold")
        for meter in found:
            for channel, value in zip(meter.channels, meter.values, strict=True):
                table.add_row(*(escape(cell) for cell in _row(meter, channel, value)))
        Console().print(table)
    if any(meter.uncalibrated for meter in found):
        print(_REMEDY)
    for meter in found:
        if meter.reason is not None:
            print(f"{meter.meter}: {meter.reason}")
        elif meter.simulated:
            print(f"{meter.meter}: simulated: what it shows is not measured")
    if not any(meter.channels for meter in found):
        print("no meter answers on this host: time and memory are measured, energy is not", file=sys.stderr)


def _row(meter: Surveyed, channel: Channel, value: float | None) -> tuple[str, ...]:
    kind = meter.meter.partition(":")[0]
    return (
        kind if kind in RAILS else meter.meter,
        f"{channel.name} {channel.source}",
        channel.reading.value,
        "" if channel.scope is None else channel.scope.value,
        "no answer" if value is None else f"{value:.6g} {channel.unit}",
        "" if channel.scope is None else _SHORT if channel.card is None else _in_words(channel.card, channel.unit),
    )


def _in_words(card: SensorCard, unit: str) -> str:
    """A card in a few words; what is not known is left out, and the reason told of what was looked for here."""
    figures = (
        ("every {:.3g} ms", card.update_period_s, 1e3),
        ("mean of {:.3g} ms", card.averaging_s, 1e3),
        ("{:.3g} ms late", card.lag_s, 1e3),
        (f"steps of {{:.3g}} {unit}", card.resolution, 1.0),
        (f"noise {{:.2g}} {unit}", card.noise, 1.0),
        ("{:.3g} us a read", card.read_cost_s, 1e6),
    )
    words = [text.format(value * scale) for text, value, scale in figures if value is not None]
    origin = card.origin if card.measured_unix_s is None else f"{card.origin}, {_age(card.measured_unix_s)} old"
    told = card.reason if card.origin != DOCUMENTED else None
    return " ".join([*([", ".join(words)] if words else []), f"({origin})"]) + (f"; {told}" if told else "")


def _age(measured_unix_s: float) -> str:
    hours = max(0.0, time.time() - measured_unix_s) / 3600
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
