"""The store of sensor cards: what is kept, what holds, and what a damaged file costs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent.cards import FILE, CardStore
from phasewatt.errors import StoreUnavailable
from phasewatt.fields import Reading, Scope
from phasewatt.traces import Channel, SensorCard

INSTANT = Channel(name="gpu0", source="nvml.field186", reading=Reading.INSTANT, unit="W", scope=Scope.GPU_BOARD)
AVERAGE = Channel(name="gpu0", source="nvml.power_usage", reading=Reading.AVERAGE, unit="W", scope=Scope.GPU_BOARD)
CLOCK = Channel(name="gpu0", source="nvml.clock", reading=Reading.INSTANT, unit="Hz", scope=None)


def _card(driver: str | None = "580", mode: str | None = "700 W", **known: object) -> SensorCard:
    figures = dict.fromkeys(
        ("update_period_s", "update_jitter_s", "averaging_s", "lag_s", "resolution", "noise", "read_cost_s")
    )
    origin = known.pop("origin", "square-wave")
    return SensorCard(origin=origin, driver=driver, mode=mode, **(figures | known))  # type: ignore[arg-type]


MEASURED = _card(update_period_s=0.1)
DOCUMENTED = _card(None, None, origin="documented", update_period_s=0.001)


def _kept(state: Path, channel: Channel, card: SensorCard) -> CardStore:
    store = CardStore(state)
    store.keep("nvml", channel, card)
    store.save()
    return CardStore(state)


def test_a_card_is_given_to_its_channel_alone_after_a_restart(tmp_path: Path) -> None:
    store = _kept(tmp_path / "new", INSTANT, MEASURED)
    given = store.with_cards("nvml", (INSTANT, AVERAGE), "580", "700 W")
    assert [channel.card for channel in given] == [MEASURED, None]
    assert store.with_cards("rapl", (INSTANT,), "580", "700 W")[0].card is None


def test_a_meter_opened_for_one_gpu_has_the_cards_of_the_meter(tmp_path: Path) -> None:
    store = _kept(tmp_path, INSTANT, MEASURED)
    assert store.with_cards("nvml:GPU-1", (INSTANT,), "580", "700 W")[0].card == MEASURED


@pytest.mark.parametrize(("driver", "mode"), [("590", "700 W"), ("580", "500 W"), (None, None)])
def test_a_card_of_another_driver_or_mode_is_kept_but_not_given(
    tmp_path: Path, driver: str | None, mode: str | None
) -> None:
    store = _kept(tmp_path, INSTANT, MEASURED)
    assert store.with_cards("nvml", (INSTANT,), driver, mode)[0].card is None
    assert store.missing("nvml", (INSTANT,), driver, mode) == (INSTANT,)
    store.save()
    assert CardStore(tmp_path).with_cards("nvml", (INSTANT,), "580", "700 W")[0].card == MEASURED


def test_a_documented_card_stands_until_one_is_measured(tmp_path: Path) -> None:
    channel = Channel(
        name="package-0",
        source="powercap",
        reading=Reading.COUNTER,
        unit="J",
        scope=Scope.CPU_PACKAGE,
        card=DOCUMENTED,
    )
    store = CardStore(tmp_path)
    assert store.with_cards("nvml", (channel,), "580", "700 W")[0].card == DOCUMENTED
    assert store.missing("nvml", (channel,), "580", "700 W") == ()
    store.keep("nvml", channel, _card(reason="its value never changed"))
    assert store.with_cards("nvml", (channel,), "580", "700 W")[0].card == DOCUMENTED
    store.keep("nvml", channel, MEASURED)
    assert store.with_cards("nvml", (channel,), "580", "700 W")[0].card == MEASURED


STEP = _card(None, None, origin="documented", resolution=0.4, reason="the step is that of the shunt resistor")
RAIL = Channel(name="VDD_IN", source="ina3221", reading=Reading.INSTANT, unit="W", scope=Scope.MODULE, card=STEP)


def test_a_documented_step_alone_is_no_card(tmp_path: Path) -> None:
    """It stands until one is measured, and the period is still to be found."""
    store = CardStore(tmp_path)
    assert store.missing("ina3221", (RAIL,), "6.8", None) == (RAIL,)
    assert store.with_cards("ina3221", (RAIL,), "6.8", None)[0].card == STEP


@pytest.mark.parametrize(("measured", "given"), [(0.002, 0.4), (None, 0.4), (0.4, 0.4), (0.8, 0.8)])
def test_a_measured_step_is_never_finer_than_the_documented_one(
    tmp_path: Path, measured: float | None, given: float
) -> None:
    """Power of two factors shows many values between the steps of the coarse one. All else is as measured."""
    store = CardStore(tmp_path)
    found = _card("6.8", None, update_period_s=0.1, lag_s=0.02, resolution=measured)
    store.keep("ina3221", RAIL, found)
    assert store.missing("ina3221", (RAIL,), "6.8", None) == ()
    card = store.with_cards("ina3221", (RAIL,), "6.8", None)[0].card
    assert card == msgspec.structs.replace(found, resolution=given)


def test_what_is_kept_is_what_was_measured(tmp_path: Path) -> None:
    """A step that is documented otherwise later reaches old cards."""
    store = CardStore(tmp_path)
    store.keep("ina3221", RAIL, _card("6.8", None, update_period_s=0.1, resolution=0.002))
    store.with_cards("ina3221", (RAIL,), "6.8", None)
    store.save()
    bare = msgspec.structs.replace(RAIL, card=None)
    card = CardStore(tmp_path).with_cards("ina3221", (bare,), "6.8", None)[0].card
    assert card is not None
    assert card.resolution == 0.002


def test_what_is_missing_are_power_channels_without_a_card(tmp_path: Path) -> None:
    """A clock has no joules; a card that found nothing was tried, and is not tried at every run again."""
    store = CardStore(tmp_path)
    assert store.missing("nvml", (INSTANT, AVERAGE, CLOCK), "580", "700 W") == (INSTANT, AVERAGE)
    store.keep("nvml", INSTANT, _card(reason="its value never changed"))
    assert store.missing("nvml", (INSTANT, AVERAGE, CLOCK), "580", "700 W") == (AVERAGE,)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema": 0, "cards": [{"meter": "nvml"}]}', b"\xff\xfe"])
def test_a_damaged_file_is_set_aside_and_the_cards_are_missing(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE).write_bytes(damage)
    store = CardStore(tmp_path)
    assert store.missing("nvml", (INSTANT,), "580", "700 W") == (INSTANT,)
    assert store.set_aside is not None
    assert store.set_aside.read_bytes() == damage
    assert not (tmp_path / FILE).exists()


def test_a_whole_file_is_not_set_aside(tmp_path: Path) -> None:
    assert _kept(tmp_path, INSTANT, MEASURED).set_aside is None
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_cards_that_cannot_be_written_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    store = CardStore(tmp_path)
    store.keep("nvml", INSTANT, MEASURED)
    (tmp_path / f"{FILE}.part").mkdir()
    with pytest.raises(StoreUnavailable, match="sensor cards"):
        store.save()
