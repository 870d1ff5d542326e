"""`phasewatt-agent meters` and the doctor's word on sensor cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import app
from agent.cards import CardStore
from agent.checks.power import card_finding
from agent.control import StateLock
from agent.surveying import Surveyed, facts_of, survey
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading, Scope
from phasewatt.traces import Channel, SensorCard
from tests.fixtures.sensors import recording

CHANNEL = Channel(name="gpu0", source="nvml.field186", reading=Reading.INSTANT, unit="W", scope=Scope.GPU_BOARD)
CARD = SensorCard(
    origin="square-wave",
    update_period_s=0.1,
    update_jitter_s=0.002,
    averaging_s=0.025,
    lag_s=0.01,
    resolution=0.001,
    noise=4.0,
    read_cost_s=17e-6,
    driver="580",
    mode="700 W",
    measured_unix_s=1.0,
)


class Meter:
    """A meter of one channel."""

    simulated = False
    channels = (CHANNEL,)
    driver = "580"
    mode = "700 W"
    read_costs_s: tuple[float | None, ...] = (None,)
    refused: tuple[str, ...] = ("GPM: Insufficient Permissions",)

    def __init__(self) -> None:
        self.closed = False

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        return (135.4 if closely else None,)

    def notes(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        self.closed = True


def _surveyed(state: Path, meter: Meter) -> Surveyed:
    return survey(["nvml"], CardStore(state), lambda name, period_s: meter)[0]


def test_a_survey_reads_costly_channels_too_and_closes_the_meter(tmp_path: Path) -> None:
    meter = Meter()
    found = _surveyed(tmp_path, meter)
    assert found.values == (135.4,)
    assert meter.closed


def test_the_cost_of_a_read_is_measured_of_one_channel_and_told_by_a_meter_of_several(tmp_path: Path) -> None:
    class Two(Meter):
        channels = (CHANNEL, CHANNEL)  # type: ignore[assignment]
        read_costs_s = (17e-6, 3.8e-3)

        def read(self, closely: bool = False) -> tuple[float | None, ...]:
            return (1.0, 2.0)

    (measured,) = _surveyed(tmp_path, Meter()).read_costs_s
    assert measured is not None and 0 < measured < 0.1
    assert _surveyed(tmp_path, Two()).read_costs_s == (17e-6, 3.8e-3)


def test_a_survey_gives_channels_their_cards(tmp_path: Path) -> None:
    assert _surveyed(tmp_path, Meter()).uncalibrated == (CHANNEL,)
    store = CardStore(tmp_path)
    store.keep("nvml", CHANNEL, CARD)
    store.save()
    found = _surveyed(tmp_path, Meter())
    assert found.channels[0].card == CARD
    assert found.uncalibrated == ()


def test_the_facts_of_a_host_say_what_each_meter_reads_and_what_it_does_not(tmp_path: Path) -> None:
    """Power channels by name, then what was refused; a meter that does not answer has its reason."""
    absent = survey([f"replay:{tmp_path / 'absent'}"], CardStore(tmp_path))
    reads, refuses = facts_of([_surveyed(tmp_path, Meter()), *absent])
    assert reads.usable
    assert reads.reason == "reads gpu0 (instant, gpu-board); GPM: Insufficient Permissions"
    assert not refuses.usable
    assert "absent" in refuses.reason


def test_a_meter_that_does_not_answer_is_surveyed_with_its_reason(tmp_path: Path) -> None:
    def refuse(name: str, period_s: float) -> Meter:
        raise MeterUnavailable("no driver here")

    found = survey(["nvml"], CardStore(tmp_path), refuse)[0]
    assert (found.reason, found.channels) == ("no driver here", ())


class House:
    """Meters of a host by name; what is not among them does not answer."""

    def __init__(self, *answering: str) -> None:
        self.answering = answering
        self.tried: list[str] = []

    def open_meter(self, name: str, period_s: float) -> Meter:
        self.tried.append(name)
        if name not in self.answering:
            raise MeterUnavailable(f"no {name} here")
        return Meter()


def test_of_the_ways_to_one_boards_rails_the_first_that_answers_is_read(tmp_path: Path) -> None:
    """A second would disturb the work, and count the same joules again; other meters are no matter of it."""
    house = House("nvml", "ina3221", "tegrastats", "jtop")
    found = survey(["nvml", "ina3221", "tegrastats", "jtop"], CardStore(tmp_path), house.open_meter)
    assert house.tried == ["nvml", "ina3221"]
    assert [m.reason for m in found] == [None, None, *["not needed: ina3221 reads the same rails"] * 2]
    assert [m.meter for m in found if m.channels] == ["nvml", "ina3221"]


def test_where_the_first_way_to_the_rails_does_not_answer_the_next_is_read(tmp_path: Path) -> None:
    house = House("tegrastats")
    found = survey(["ina3221", "tegrastats"], CardStore(tmp_path), house.open_meter)
    assert [m.reason for m in found] == ["no ina3221 here", None]


def test_the_order_of_a_users_own_list_holds(tmp_path: Path) -> None:
    """With the roots of simulated boards in the names."""
    house = House("jtop", "tegrastats:/b", "ina3221:/b")
    found = survey(["jtop", "tegrastats:/b", "ina3221:/b"], CardStore(tmp_path), house.open_meter)
    assert [m.reason for m in found] == [None, *["not needed: jtop reads the same rails"] * 2]


def test_the_doctor_tries_every_way_to_the_rails(tmp_path: Path) -> None:
    house = House("ina3221", "tegrastats")
    found = survey(["ina3221", "tegrastats", "jtop"], CardStore(tmp_path), house.open_meter, every=True)
    assert house.tried == ["ina3221", "tegrastats", "jtop"]
    assert [m.reason for m in found] == [None, None, "no jtop here"]


def test_the_doctor_names_what_is_not_calibrated_and_the_remedy(tmp_path: Path) -> None:
    finding = card_finding(_surveyed(tmp_path, Meter()))
    assert finding.ok is None
    assert "gpu0 (nvml.field186)" in finding.verdict
    assert finding.remedy == "phasewatt-agent meters --calibrate"


def test_the_doctor_is_content_with_current_cards(tmp_path: Path) -> None:
    store = CardStore(tmp_path)
    store.keep("nvml", CHANNEL, CARD)
    store.save()
    assert card_finding(_surveyed(tmp_path, Meter())).ok is True


def _recorded(tmp_path: Path) -> str:
    recording(tmp_path / "r", [10.0, 11.0] * 5)
    return f"replay:{tmp_path / 'r'}"


def test_meters_as_json_show_channel_value_and_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = app.main(["meters", "--state-dir", str(tmp_path / "s"), "--meter", _recorded(tmp_path), "--json"])
    content = json.loads(capsys.readouterr().out)
    (channel,) = content["meters"][0]["channels"]
    assert (code, content["schema"]) == (0, "meters/0")
    assert (channel["name"], channel["value"], channel["unit"], channel["scope"]) == ("VDD_IN", 10.0, "W", "module")
    assert (channel["calibrated"], channel["card"]) == (False, None)


def test_meters_as_a_table_say_what_is_not_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["meters", "--state-dir", str(tmp_path / "s"), "--meter", _recorded(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "VDD_IN" in shown
    assert "10 W" in shown
    assert "not calibrated" in " ".join(shown.replace("│", " ").split())


def test_a_host_without_any_meter_says_so_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["meters", "--calibrate", "--state-dir", str(tmp_path), "--meter", f"replay:{tmp_path / 'absent'}"]
    assert app.main(arguments) == 1
    shown = capsys.readouterr()
    assert "cannot read" in shown.out
    assert shown.err == "no meter answers on this host: time and memory are measured, energy is not\n"


def test_a_recording_cannot_be_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["meters", "--calibrate", "--state-dir", str(tmp_path / "s"), "--meter", _recorded(tmp_path)]
    assert app.main(arguments) == 1
    assert "it is simulated and shows no load of ours" in capsys.readouterr().err


def test_calibrating_leaves_a_living_agent_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = StateLock(tmp_path / "s")
    try:
        code = app.main(["meters", "--calibrate", "--state-dir", str(tmp_path / "s"), "--meter", _recorded(tmp_path)])
    finally:
        lock.close()
    assert code == 1
    assert "another agent works in" in capsys.readouterr().err
