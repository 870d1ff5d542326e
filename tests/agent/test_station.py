"""The station: sensors are calibrated before a suite is run, and what is new about them is told."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent import cells
from agent.calibrating import Calibrated
from agent.cards import CardStore
from agent.commands import options
from agent.control import RunRequest
from agent.measuring import CellDone, Ended, Stage
from agent.settings import Broker, Settings
from agent.station import Station
from agent.stopping import Stop
from agent.surveying import Surveyed
from phasewatt import codec
from phasewatt.errors import ConfigInvalid, Stopped, StoreUnavailable
from phasewatt.fields import Kind
from phasewatt.messages import Clock
from phasewatt.records import Trial
from phasewatt.traces import SensorCard
from tests.fixtures.hwmon import orin_nx
from tests.fixtures.receipts import CollectorDouble
from tests.fixtures.wall import CsvLogger
from tests.fixtures.waveforms import sensor_card

# A cell that is refused before anything is loaded or metered.
SUITE = """
about = "too long a prompt"
[measure]
gate_s = 0
[[cells]]
prompt_tokens = 4000
output_tokens = 4
model = "stories15m"
engine = "fake"
"""


class Calibration:
    """In place of the real one, which drives a load: keeps `card`, or fails."""

    def __init__(self, card: SensorCard | None = None, failure: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.kept: Any = None  # where, and for what
        self._card = card
        self._failure = failure

    def __call__(
        self, due: Sequence[Surveyed], store: CardStore, stop: Stop, progress: Callable[[str], None]
    ) -> list[Calibrated]:
        self.asked += [meter.meter for meter in due]
        (meter,) = due
        (channel,) = meter.uncalibrated
        self.kept = store, meter.meter, channel
        progress("calibrating")
        if self._card is None:
            return [Calibrated(meter.meter, None, None, "needs torch")]
        store.keep(meter.meter, channel, self._card)
        if self._failure is not None:
            raise self._failure
        store.save()
        return [Calibrated(meter.meter, channel, self._card, self._card.reason)]


class House:
    """A station with a wall meter that is never calibrated by its maker."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.meter = f"external:csv:{state / 'wall.csv'}"
        self.told: list[Any] = []

    def station(self, calibration: Calibration, **settings: Any) -> Station:
        return Station(self._state, Settings(device="board", meters=(self.meter,), **settings), calibrate=calibration)

    def execute(self, station: Station, stop: Stop | None = None) -> list[str]:
        """Run the suite to its end; what was said on the way."""
        self.told.clear()
        station.execute(RunRequest(cells.parse("s", SUITE, {}, "s.toml"), fresh=True), self.told.append, stop or Stop())
        kinds = [type(report) for report in self.told]
        assert kinds[-2:] == [CellDone, Ended]
        return [report.text for report in self.told if isinstance(report, Stage)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """One whose meter tells of new values all the time."""
    with CsvLogger(tmp_path / "wall.csv").running():
        yield House(tmp_path)


def _card_of(station: Station) -> SensorCard | None:
    ((channel,),) = [sensor.channels for sensor in station.facts.sensors]
    return channel.card


def test_a_sensor_without_a_card_gets_one_before_the_first_cell(house: House) -> None:
    """Once: it is kept, and neither the next suite nor the next agent asks again."""
    card = sensor_card(lag_s=0.4)
    calibration = Calibration(card)
    with closing(house.station(calibration)) as station:
        assert _card_of(station) is None
        assert house.execute(station) == ["calibrating", "starting engine fake"]
        assert house.told[0] == Stage(text="calibrating")
        assert _card_of(station) == card
        house.execute(station)
    with closing(house.station(calibration)) as station:
        assert _card_of(station) == card
        house.execute(station)
    assert calibration.asked == [house.meter]


def test_a_sensor_whose_card_does_not_hold_any_more_gets_another(house: House) -> None:
    """A daemon lives through changes of driver and power mode; it looks before every suite."""
    calibration = Calibration(sensor_card(lag_s=0.4))
    with closing(house.station(calibration)) as station:
        house.execute(station)
        store, meter, channel = calibration.kept
        store.keep(meter, channel, sensor_card(driver="another"))
        house.execute(station)
    assert calibration.asked == [house.meter] * 2


def test_what_cannot_be_calibrated_is_said_and_measured_all_the_same(house: House) -> None:
    """A load that cannot be driven, and a card that lacks something."""
    with closing(house.station(Calibration())) as station:
        assert f"no whole sensor card for {house.meter}: needs torch" in house.execute(station)
        assert _card_of(station) is None
    partly = sensor_card(lag_s=None, reason="its lag was not found")
    with closing(house.station(Calibration(partly))) as station:
        said = f"no whole sensor card for {house.meter} external.csv.power: its lag was not found"
        assert said in house.execute(station)


def test_cards_that_cannot_be_kept_hold_until_the_agent_ends(house: House) -> None:
    """A full disk costs the cards of the next agent, and no cell."""
    calibration = Calibration(sensor_card(), StoreUnavailable("sensor cards: no space left"))
    with closing(house.station(calibration)) as station:
        assert "sensor cards: no space left" in house.execute(station)
        assert _card_of(station) == sensor_card()
        house.execute(station)
    assert len(calibration.asked) == 1


def test_being_stopped_while_a_sensor_is_calibrated_ends_the_suite(house: House) -> None:
    with (
        closing(house.station(Calibration(sensor_card(), Stopped("stopped")))) as station,
        pytest.raises(Stopped),
    ):
        house.execute(station)
    assert house.told == [Stage(text="calibrating")]


def test_settings_can_forbid_to_drive_a_load(house: House) -> None:
    """Then sensors stay as they are."""
    calibration = Calibration(sensor_card())
    with closing(house.station(calibration, calibrate=False)) as station:
        house.execute(station)
        assert _card_of(station) is None
    assert calibration.asked == []


@pytest.mark.parametrize(
    ("written", "flags", "calibrates"),
    [
        ("", [], True),
        ("", ["--no-calibrate"], False),
        ("calibrate = false", [], False),
        ("calibrate = true", ["--no-calibrate"], False),
    ],
)
def test_calibrating_is_the_default_and_flag_or_file_forbid_it(
    tmp_path: Path, written: str, flags: list[str], calibrates: bool
) -> None:
    (tmp_path / "agent.toml").write_text(written)
    parser = argparse.ArgumentParser()
    options.add_settings(parser)
    args = parser.parse_args(flags, argparse.Namespace(state_dir=tmp_path))
    assert options.settings_of(args).calibrate is calibrates


@pytest.mark.broker
def test_the_collector_learns_of_a_new_card_at_once(house: House, mosquitto) -> None:
    """Facts are told at the start, and again when a card is there; a suite that changes nothing tells nothing."""
    broker = Broker(address=f"{mosquitto.host}:{mosquitto.port}")
    with (
        closing(CollectorDouble(mosquitto.host, mosquitto.port)) as collector,
        closing(house.station(Calibration(sensor_card()), broker=broker)) as station,
    ):
        assert collector.until(lambda: len(collector.facts) == 1)
        house.execute(station)
        assert collector.until(lambda: len(collector.facts) == 2)
        house.execute(station)
        assert station.link.wait_drained(10)
        cards = [facts.host.sensors[0].channels[0].card for facts in collector.facts]
    assert cards == [None, sensor_card()]


def test_two_meters_of_one_name_are_refused_and_not_added_up(tmp_path: Path) -> None:
    """Two plugs must have names of their own; the same plug twice must not be two."""
    one, two = (CsvLogger(tmp_path / f"{name}.csv") for name in ("one", "two"))
    asked = tuple(f"external:csv:{logger.path}" for logger in (one, two))
    with one.running(), two.running(), pytest.raises(ConfigInvalid, match="two wall meters need a name= each"):
        Station(tmp_path, Settings(meters=asked))


def test_a_trial_carries_what_every_meter_said(house: House, tmp_path: Path) -> None:
    """Also those that were not read: why the others were not chosen is asked months later."""
    board = orin_nx(tmp_path / "board")
    station = Station(tmp_path / "state", Settings(device="board", root=str(board), calibrate=False))
    try:
        house.execute(station)
        trials = [
            record
            for batch in station.outbox.batches("board", "boot", Clock(synchronised=None, offset_bound_s=None))
            if batch.kind is Kind.TRIAL
            for item in batch.items
            if isinstance(record := codec.decode_record(batch.kind, item.schema, bytes(item.body)), Trial)
        ]
    finally:
        station.close()
    chosen, other = f"ina3221:{board}", f"tegrastats:{board}"
    assert [list(trial.meters) for trial in trials] == [[chosen, other]]
    assert trials[0].meters[chosen].startswith("simulated; reads VDD_IN")
    assert trials[0].meters[other] == f"not needed: {chosen} reads the same rails"
