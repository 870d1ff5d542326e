"""What the live page is told, once a second: each board with what it shows and what the store knows of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collector.conditions import printable
from collector.fleet import Device, Fleet
from collector.live_figures import figure
from collector.numbers import quantity
from collector.web.live import HISTORY_S, LiveBoard, LiveView

_FIGURES = (
    ("GPU", ("gpu_busy",), "1"),
    ("GPU clock", ("gpu_clock",), "Hz"),
    ("temperature", ("gpu_temperature", "temperature"), "°C"),
    ("CPU", ("cpu_busy",), "1"),
    ("memory free", ("memory_available",), "B"),
)


class Line(msgspec.Struct, frozen=True):
    """Power of one scope: now in words, and how it went, as seconds before now and W; a missing one is null."""

    scope: str
    now: str | None
    ago_s: list[float]
    power_w: list[float | None]


class Card(msgspec.Struct, frozen=True):
    """One board."""

    board: str
    model: str | None
    presence: str | None
    simulated: bool
    age: str | None  # of what it shows, in words; None: it shows nothing
    lines: list[Line]
    figures: list[tuple[str, str]]
    held: list[tuple[str, str]]  # of the store
    remarks: list[str]


class Cards(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, as docs/json.md describes it."""

    schema: str = "boards/0"
    trouble: list[str]
    history_s: float = HISTORY_S
    boards: list[Card]


def cards_of(view: LiveView, fleet: Fleet | None, troubles: list[str]) -> Cards:
    """The boards that the store knows or that show anything, by name; `fleet` is None where the store fails."""
    known = {} if fleet is None else {device.device: device for device in fleet.devices.devices}
    names = sorted({*known, *view.boards})
    cards = [_card(name, known.get(name), view.boards.get(name), view.now_s) for name in names]
    return Cards(trouble=[*troubles, *([] if view.trouble is None else [view.trouble])], boards=cards)


def _card(name: str, device: Device | None, live: LiveBoard | None, now_s: float) -> Card:
    return Card(
        board=name,
        model=None if device is None else _text(device.module or device.model),
        presence=None if device is None else device.presence,
        simulated=live is not None and live.sample.simulated,
        age=None if live is None else _age(live),
        lines=[] if live is None else _lines(live, now_s),
        figures=[] if live is None or live.is_silent else _figures(live),
        held=[] if device is None else _held(device),
        remarks=[] if device is None else device.remarks,
    )


def _age(live: LiveBoard) -> str:
    return f"silent {live.silent_s:.0f} s" if live.is_silent else "now"


def _lines(live: LiveBoard, now_s: float) -> list[Line]:
    scopes = live.history[-1].power_w if live.history else {}
    return [
        Line(
            scope=scope,
            now=None if live.is_silent or power_w is None else quantity(power_w, "W"),
            ago_s=[round(now_s - moment.time_s, 1) for moment in live.history],
            power_w=[_rounded(moment.power_w, scope) for moment in live.history],
        )
        for scope, power_w in scopes.items()
    ]


def _rounded(power_w: Mapping[str, float | None], scope: str) -> float | None:
    value = power_w.get(scope)
    return None if value is None else round(value, 3)


def _figures(live: LiveBoard) -> list[tuple[str, str]]:
    values = ((name, figure(live.sample, *columns), unit) for name, columns, unit in _FIGURES)
    return [(name, quantity(value, unit)) for name, value, unit in values if value is not None]


def _held(device: Device) -> list[tuple[str, str]]:
    dropped = sum((device.dropped or {}).values())
    held = [("trials", str(device.trials))]
    if device.pending is not None:
        held.append(("waiting on the board", str(device.pending)))
    if device.missing:
        held.append(("missing", str(device.missing)))
    if dropped:
        held.append(("given up", str(dropped)))
    if device.quarantined:
        held.append(("refused", str(device.quarantined)))
    return held


def _text(text: str | None) -> str | None:
    return None if text is None else printable(text)
