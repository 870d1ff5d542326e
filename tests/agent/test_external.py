"""The wall meter as such: how it is named, what counts as a reading, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import meters
from agent.meters import wall
from agent.meters.external import External
from agent.meters.wall.latest import Latest
from agent.meters.wall.spec import Quantity, Spec
from phasewatt.errors import ConfigInvalid, MeterUnavailable
from phasewatt.fields import Reading, Scope
from tests.fixtures.wall import CsvLogger

SECOND_NS = 1_000_000_000


class Scripted:
    """A source that hands on what a test puts into it."""

    keys: frozenset[str] = frozenset()
    silence = "the script is empty"

    def __init__(self, *quantities: Quantity) -> None:
        self.quantities = quantities or (Quantity("W", ("power",), 1.0),)
        self.script: Callable[[Latest, Callable[[float], bool]], None] = lambda latest, wait: latest.take([10.0])
        self.latest: Latest | None = None

    def follow(self, latest: Latest, wait: Callable[[float], bool]) -> None:
        self.latest = latest
        self.script(latest, wait)
        wait(60)

    def put(self, *values: float | None) -> None:
        assert self.latest is not None
        self.latest.take(values)


def scripted(source: wall.Source, options: str = "", **injected: object) -> External:
    return External(0.1, f"scripted{options}", source_of=lambda spec: source, **injected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("", r"external: expected one of csv, mqtt, ipmi, redfish, got ''"),
        ("snmp:x", r"external: expected one of csv, mqtt, ipmi, redfish, got 'snmp'"),
        ("csv:", r"external: expected csv:FILE, got no file"),
        ("csv:f?watt=x", r"external\.watt: unknown; csv takes energy, energy_unit, gain, name, power, reading, time"),
        ("csv:f?power", r"external: expected options as KEY=VALUE joined by &, got 'power'"),
        ("csv:f?power=a&power=b", r"external\.power: expected once, got twice"),
        ("csv:f?gain=2", r"external\.gain: expected a number from 0\.0001 to 0\.5, got '2'"),
        ("csv:f?gain=nan", r"external\.gain: expected a number"),
        ("csv:f?reading=mean", r"external\.reading: expected one of instant, average, got 'mean'"),
        ("csv:f?energy=e", r"external\.energy_unit: expected one of J, Wh, kWh, Wmin, got ''"),
        ("csv:f?energy_unit=Wh", r"external\.energy: expected beside energy_unit"),
        ("csv:" + "f" * 230, r"external: expected at most 230 characters, got 234"),
        ("mqtt://broker", r"expected mqtt://\[USER@\]HOST\[:PORT\]/TOPIC, one topic without wildcards"),
        ("mqtt:broker/topic", r"expected mqtt://"),
        ("mqtt://broker/tele/#", r"one topic without wildcards"),
        ("mqtt://broker/tele/+/SENSOR", r"one topic without wildcards"),
        ("mqtt://broker:port/topic", r"got another host or port"),
        ("mqtt://broker/topic?password_file=f", r"external\.password_file: expected beside a user"),
        ("mqtt://user@broker/topic?password_file=absent", r"external\.password_file: cannot read absent"),
        ("mqtt://broker/topic?ca_file=absent", r"external\.ca_file: expected a file, got 'absent'"),
        ("ipmi:bmc", r"expected ipmi or ipmi\?host=HOST"),
        ("ipmi?user=u", r"external\.host: expected beside user"),
        ("ipmi?host=-x&user=u", r"external\.host: expected a host name or address, got '-x'"),
        ("ipmi?host=bmc", r"external\.user: expected beside host"),
        ("ipmi?every=0", r"external\.every: expected a number from 0\.5 to 60, got '0'"),
        ("redfish:http://bmc/redfish/v1/Chassis/1/Power", r"expected redfish:https://"),
        ("redfish:https://u@bmc/redfish/v1", r"the user goes into user=NAME"),
        ("redfish:https://bmc/p?user=u", r"external\.password_file: expected beside user"),
        ("redfish:https://bmc/p?ca_file=/etc/hostname", r"external\.ca_file: expected certificates in PEM"),
    ],
)
def test_a_wrong_spec_is_one_line_with_key_value_and_expectation(argument: str, line: str) -> None:
    with pytest.raises(ConfigInvalid, match=line) as raised:
        meters.open_meter(f"external:{argument}", 0.1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "argument",
    [
        "mqtt://user:hunter2@broker/topic",
        "mqtt://user:hun/ter2@broker/topic",
        "redfish:https://user:hunter2@bmc/redfish/v1",
        "redfish:https://bmc/redfish/v1?user=u&password=hunter2",
        "ipmi?host=bmc&user=u&PASS=hunter2",
    ],
)
def test_a_secret_in_the_name_is_refused_and_not_repeated(argument: str) -> None:
    """The name of a meter is published with every trace."""
    with pytest.raises(ConfigInvalid) as raised:
        meters.open_meter(f"external:{argument}", 0.1)
    assert "hun" not in str(raised.value)


def test_channels_are_wall_watts_and_wall_joules(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "p.csv", row="{},20.5,3", header="time,watts,used\n")
    meter = logger.meter("?power=watts&energy=used&energy_unit=Wh&gain=0.01&name=psu1")
    assert [(c.name, c.source, c.reading, c.unit) for c in meter.channels] == [
        ("psu1", "external.csv.power", Reading.INSTANT, "W"),
        ("psu1", "external.csv.energy", Reading.COUNTER, "J"),
    ]
    assert {(c.scope, c.gain_uncertainty, c.card) for c in meter.channels} == {(Scope.WALL, 0.01, None)}
    assert meter.read() == (20.5, 3 * 3600.0)
    assert not meter.simulated
    meter.close()


def test_a_gain_that_nobody_stated_is_not_known(tmp_path: Path) -> None:
    meter = CsvLogger(tmp_path / "p.csv").meter("?reading=average")
    assert [(c.gain_uncertainty, c.reading) for c in meter.channels] == [(None, Reading.AVERAGE)]
    meter.close()


def test_a_value_stands_for_ten_seconds_or_five_usual_intervals() -> None:
    """A plug that reports once a minute is slow, not silent; one outage does not make it slower."""
    now_ns, source = [0], Scripted()
    meter = scripted(source, clock_ns=lambda: now_ns[0])
    now_ns[0] = 10 * SECOND_NS
    assert meter.read() == (10.0,)
    now_ns[0] += 1
    assert meter.read() == (None,)
    for at_s in (60, 120, 180, 2000):
        now_ns[0] = at_s * SECOND_NS
        source.put(float(at_s))
    now_ns[0] += 300 * SECOND_NS
    assert meter.read() == (2000.0,)
    now_ns[0] += 1
    assert meter.read() == (None,)
    meter.close()


def test_each_quantity_is_stale_by_itself() -> None:
    """An energy field that is no longer sent does not live on with the power beside it."""
    now_ns, source = [0], Scripted(Quantity("W", ("p",), 1.0), Quantity("J", ("e",), 3600.0))
    source.script = lambda latest, wait: latest.take([10.0, 2.0])
    meter = scripted(source, clock_ns=lambda: now_ns[0])
    now_ns[0] = 11 * SECOND_NS
    source.put(11.0, None)
    assert meter.read() == (11.0, None)
    meter.close()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.5, 1e7])
def test_an_impossible_power_is_dropped_and_counted(bad: float) -> None:
    source = Scripted()
    meter = scripted(source)
    source.put(bad)
    source.put(bad)
    assert meter.read() == (10.0,)
    assert source.latest is not None
    assert list(source.latest.dropped.values()) == [2]
    meter.close()


def test_nothing_in_time_is_unavailable_with_what_was_dropped() -> None:
    source = Scripted()
    source.script = lambda latest, wait: latest.take([float("nan")])
    with pytest.raises(
        MeterUnavailable, match=r"external:scripted: nothing in 0 s: the script is empty \(came, and was"
    ):
        scripted(source, opening_s=0.2)


def test_a_refusal_at_opening_is_told_at_once() -> None:
    def refuse(latest: Latest, wait: Callable[[float], bool]) -> None:
        raise MeterUnavailable("the script refuses")

    source = Scripted()
    source.script = refuse
    began_s = time.monotonic()
    with pytest.raises(MeterUnavailable, match="external:scripted: the script refuses"):
        scripted(source, opening_s=30)
    assert time.monotonic() - began_s < 5


def test_a_source_that_hangs_neither_blocks_a_reading_nor_the_end() -> None:
    source, released = Scripted(), threading.Event()

    def hang(latest: Latest, wait: Callable[[float], bool]) -> None:
        latest.take([10.0])
        released.wait(30)

    source.script = hang
    meter = scripted(source)
    began_s = time.monotonic()
    assert meter.read() == (10.0,)
    meter.close()
    assert time.monotonic() - began_s < 3
    released.set()


def test_a_source_table_entry_makes_its_source() -> None:
    """Every line of the table leads to a class with the parts that `Source` names."""
    specs = {"csv": "f", "mqtt": "//broker/topic", "ipmi": "", "redfish": "https://bmc/p"}
    assert set(specs) == set(wall.SOURCES)
    for kind, body in specs.items():
        source = wall.source_of(Spec(kind, body, {}))
        assert source.quantities
        assert source.silence
