"""The sensor cards of this host, kept in the state directory and given to the channels that they hold for."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from phasewatt import calibration, codec
from phasewatt.errors import RecordRejected, StoreUnavailable
from phasewatt.fields import Label, Record
from phasewatt.traces import Channel, SensorCard

logger = logging.getLogger(__name__)

FILE = "sensor-cards.json"
_SCHEMA = 0

Key = tuple[str, str, str]  # kind of meter, source and name of the channel


class _Kept(Record, frozen=True):
    """One card, and the channel that it is of."""

    meter: Label
    source: Label
    channel: Label
    card: SensorCard


class _File(Record, frozen=True):
    """The whole file."""

    schema: int
    cards: tuple[_Kept, ...]


class CardStore:
    """Cards by channel. A damaged file is set aside, `set_aside` says where, and all cards are missing again."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self.set_aside: Path | None = None
        self._cards: dict[Key, SensorCard] = self._loaded()

    def with_cards(
        self, meter: str, channels: Iterable[Channel], driver: str | None, mode: str | None
    ) -> tuple[Channel, ...]:
        """`channels` of `meter`, each with the card measured under that driver and mode, else with its own."""
        return tuple(
            msgspec.structs.replace(channel, card=self._standing(meter, channel, driver, mode)) for channel in channels
        )

    def missing(
        self, meter: str, channels: Iterable[Channel], driver: str | None, mode: str | None
    ) -> tuple[Channel, ...]:
        """The power channels of `meter` that have no card of that driver and mode, measured or documented."""
        return tuple(
            channel
            for channel in channels
            if channel.scope is not None
            and self._measured(meter, channel, driver, mode) is None
            and not _tells_period(channel.card)
        )

    def keep(self, meter: str, channel: Channel, card: SensorCard) -> None:
        """Put a card in the place of the one before; it is on disk after `save`."""
        self._cards[_key(meter, channel)] = card

    def save(self) -> None:
        """Write all cards, whole or not at all.

        Raises:
            StoreUnavailable: the state directory cannot be written.
        """
        kept = tuple(_Kept(meter=m, source=s, channel=c, card=card) for (m, s, c), card in sorted(self._cards.items()))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            _write_whole(self._path, codec.encode(_File(schema=_SCHEMA, cards=kept)))
        except OSError as error:
            raise StoreUnavailable(f"sensor cards {self._path}: {error.strerror}; free some space") from error

    def _standing(self, meter: str, channel: Channel, driver: str | None, mode: str | None) -> SensorCard | None:
        """The measured card, unless it could not tell the period and the channel's own card does."""
        measured = self._measured(meter, channel, driver, mode)
        if measured is None or (not _tells_period(measured) and _tells_period(channel.card)):
            return channel.card
        return _no_finer(measured, channel.card)

    def _measured(self, meter: str, channel: Channel, driver: str | None, mode: str | None) -> SensorCard | None:
        card = self._cards.get(_key(meter, channel))
        return card if card is not None and calibration.is_current(card, driver, mode) else None

    def _loaded(self) -> dict[Key, SensorCard]:
        try:
            found = codec.decode(self._path.read_bytes(), _File)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreUnavailable(f"sensor cards {self._path}: {error.strerror}") from error
        except RecordRejected as error:
            self._put_aside(error)
            return {}
        return {(kept.meter, kept.source, kept.channel): kept.card for kept in found.cards}

    def _put_aside(self, damage: RecordRejected) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
        try:
            self._path.replace(aside)
        except OSError as error:
            logger.warning("%s is damaged (%s) and cannot be set aside: %s", self._path, damage, error)
            return
        self.set_aside = aside
        logger.warning("%s was damaged (%s): set aside as %s", self._path, damage, aside.name)


def _key(meter: str, channel: Channel) -> Key:
    return meter.partition(":")[0], channel.source, channel.name


def _tells_period(card: SensorCard | None) -> bool:
    return card is not None and card.update_period_s is not None


def _no_finer(measured: SensorCard, own: SensorCard | None) -> SensorCard:
    """`measured`, its step at least the documented one: a product's distinct values hide its coarse factor's step."""
    if own is None or own.resolution is None or (measured.resolution or 0.0) >= own.resolution:
        return measured
    return msgspec.structs.replace(measured, resolution=own.resolution)


def _write_whole(path: Path, body: bytes) -> None:
    """The file under its name only when all of it is on disk, and the name too."""
    draft = path.with_name(f"{path.name}.part")
    with draft.open("wb") as output:
        output.write(body)
        output.flush()
        os.fsync(output.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
