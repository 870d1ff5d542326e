"""The meter of jetson-stats: what it takes from jtop, and what a service that fails costs."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.meters.jtop import Jtop, standing
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading, Scope
from tests.fixtures.jtop import AGX_ORIN, ORIN_NX, FakeLibrary, JtopException
from tests.fixtures.receipts import wait_until


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Opened:
    """A meter of a stand-in, with the clock that it goes by."""

    def __init__(self, power: Any = None, period_s: float = 0.05) -> None:
        self.service = FakeLibrary(power)
        self.clock = Clock()
        self.meter = Jtop(period_s, "", self.service, self.clock, opening_s=5.0, retry_s=0.01)

    def reads(self, *values: float | None) -> bool:
        """Whether this is read within a while."""
        return wait_until(lambda: self.meter.read() == pytest.approx(values))

    def close(self) -> None:
        self.service.released.set()
        self.meter.close()


@pytest.fixture
def orin_nx() -> Iterator[Opened]:
    opened = Opened()
    yield opened
    opened.close()


def _refusal(service: FakeLibrary, opening_s: float = 5.0) -> str:
    with pytest.raises(MeterUnavailable) as refused:
        Jtop(0.1, "", service, opening_s=opening_s, retry_s=0.01)
    return str(refused.value)


def test_the_rail_that_jtop_takes_for_the_total_is_a_rail_too(orin_nx: Opened) -> None:
    """Watts as they are: never its running mean, which is of no stretch of time."""
    channels = orin_nx.meter.channels
    assert [(c.name, c.parts_of_total) for c in channels] == [
        ("VDD_CPU_GPU_CV", False),
        ("VDD_IN", True),
        ("VDD_SOC", False),
    ]
    assert {(c.scope, c.source, c.reading, c.unit) for c in channels} == {(Scope.MODULE, "jtop", Reading.INSTANT, "W")}
    assert orin_nx.meter.read() == pytest.approx((2.0, 6.0, 0.0))


def test_agx_orin_is_summed_by_our_rule_and_not_by_jtops() -> None:
    """Its own total has the rail inside another one counted twice."""
    opened = Opened(AGX_ORIN)
    by_name = {c.name: c for c in opened.meter.channels}
    assert {name for name, c in by_name.items() if c.parts_of_total} == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}
    assert dict(zip(by_name, opened.meter.read(), strict=True))["VDD_CPU_CV"] == pytest.approx(-0.4)
    assert by_name["VDD_GPU_SOC"].card is not None
    assert by_name["VDD_GPU_SOC"].card.resolution == 0.4
    opened.close()


@pytest.mark.parametrize(("period_s", "interval_s"), [(0.01, 0.5), (0.5, 0.5), (1.0, 1.0)])
def test_the_service_is_not_asked_for_more_than_it_does(period_s: float, interval_s: float) -> None:
    """And the cards hold for that interval, and for that release."""
    opened = Opened(period_s=period_s)
    assert opened.service.interval_s == interval_s
    assert opened.meter.mode == f"every {interval_s:g} s"
    assert opened.meter.driver == "jetson-stats 4.3.2"
    opened.close()


@pytest.mark.parametrize("shown", [{"power": None}, {}, {"power": "6000"}, {"power": 6000, "online": False}])
def test_a_rail_without_a_value_is_missing(orin_nx: Opened, shown: dict[str, Any]) -> None:
    power = copy.deepcopy(ORIN_NX)
    power["rail"]["VDD_SOC"] = shown
    orin_nx.service.power = power
    assert orin_nx.reads(2.0, 6.0, None)
    assert orin_nx.meter.notes() == ("VDD_SOC: not among what jtop shows: its power reads as missing from now on",)
    orin_nx.service.power = ORIN_NX
    assert orin_nx.reads(2.0, 6.0, 0.0)
    assert orin_nx.meter.notes() == ("VDD_SOC answers again, after: not among what jtop shows",)


def test_rails_that_come_later_are_no_channels(orin_nx: Opened) -> None:
    """Columns stay as they were at opening; those that go are missing."""
    orin_nx.service.power = {"rail": {"NEW": {"power": 1}}, "tot": {"power": 1}}
    assert orin_nx.reads(None, None, None)


def test_a_service_that_dies_is_missing_and_connected_to_again(orin_nx: Opened) -> None:
    """Nothing is raised, nothing repeated; both changes are said."""
    orin_nx.service.refusal = JtopException("The jtop.service is not active. Please run:\nsudo jtop --install-service")
    orin_nx.service.fault = EOFError()
    assert orin_nx.reads(None, None, None)
    assert wait_until(lambda: orin_nx.service.connections > 3)
    assert orin_nx.reads(None, None, None)
    assert "not active" in orin_nx.meter.notes()[-1]
    orin_nx.service.refusal = orin_nx.service.fault = None
    assert orin_nx.reads(2.0, 6.0, 0.0)
    assert orin_nx.meter.notes()[-1].startswith("jtop answers again")
    assert orin_nx.service.closed >= 1


def test_attempts_become_rarer(orin_nx: Opened) -> None:
    """A service that is gone for good is not asked a hundred times a second."""
    orin_nx.service.refusal = orin_nx.service.fault = ConnectionResetError("reset")
    time.sleep(1.0)
    assert 4 <= orin_nx.service.connections <= 9  # after 10, 20, 40, 80, 160, 320, 640 ms


def test_a_silent_service_is_missing(orin_nx: Opened) -> None:
    orin_nx.service.is_silent = True
    assert orin_nx.reads(None, None, None)
    assert "its service sends nothing" in orin_nx.meter.notes()[0]


def test_a_hung_service_does_not_hang_the_reader(orin_nx: Opened) -> None:
    """Values stand for three intervals, and no longer."""
    orin_nx.service.is_hung = True
    orin_nx.service.fault = EOFError()
    assert wait_until(lambda: orin_nx.service.connections == 2)
    started_s = time.monotonic()
    assert orin_nx.meter.read() == (None, None, None)
    orin_nx.meter.close()
    assert time.monotonic() - started_s < 3.0


def test_values_go_stale_by_the_clock() -> None:
    """What stood when the thread that follows was held up is not shown for ever."""
    opened = Opened()
    opened.meter.close()
    last = opened.meter.read()
    opened.clock.now_s += 1.4
    assert opened.meter.read() == last
    opened.clock.now_s += 0.2
    assert opened.meter.read() == (None, None, None)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("The jtop.service is not active. Please run:\nsudo x", "systemctl restart jtop.service"),
        ("I can't access jtop.service.\nPlease logout or reboot this board.", "usermod -aG jtop USER"),
        ("Mismatch version jtop service: [4.2.7] and client: [4.3.1]. Please run:\n\nsudo x", "one version"),
        ("", "JtopException"),
    ],
)
def test_what_jtop_refuses_is_one_line_with_the_remedy(said: str, remedy: str) -> None:
    service = FakeLibrary()
    service.refusal = JtopException(said)
    refusal = _refusal(service)
    assert remedy in refusal
    assert "\n" not in refusal


@pytest.mark.parametrize("refusal", [SystemExit(1), KeyError("fan"), PermissionError(13, "Permission denied")])
def test_a_library_that_breaks_or_exits_is_unavailable(refusal: BaseException) -> None:
    service = FakeLibrary()
    service.refusal = refusal
    assert _refusal(service).startswith("jtop: ")


def test_a_service_that_hangs_at_opening_is_unavailable() -> None:
    service = FakeLibrary()
    service.is_hung = True
    assert _refusal(service, opening_s=0.2) == (
        "jtop: nothing in 0 s; start it anew: sudo systemctl restart jtop.service"
    )
    service.released.set()


@pytest.mark.parametrize(
    ("power", "words"),
    [
        ({"rail": {}, "tot": {}}, "no rail has a value"),
        ({}, "no rail has a value"),
        ({"rail": {"VDD_IN": {"power": 1, "online": False}}, "tot": {}}, "no rail has a value"),
        (({"cur": 1}, {}), "older than jetson-stats 4"),
        (None, "older than jetson-stats 4"),
    ],
)
def test_a_service_without_rails_is_unavailable(power: Any, words: str) -> None:
    service = FakeLibrary()
    service.power = power
    assert words in _refusal(service)


def test_an_argument_is_refused() -> None:
    """A simulated board has no such service, and this host's would be taken for it."""
    with pytest.raises(MeterUnavailable, match="takes no argument, got '/tmp/board'"):
        Jtop(0.1, "/tmp/board", FakeLibrary())


def test_what_the_library_prints_is_not_in_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    """The sampler's rows are written there."""
    Opened().close()
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "a library may print" in seen.err


def test_without_the_package_it_is_unavailable_and_says_how_to_get_it() -> None:
    """In a process of its own, where nothing of that name was imported."""
    code = "import sys; sys.modules['jtop'] = None\nfrom agent.meters.jtop import Jtop\nJtop(0.1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MeterUnavailable: jetson-stats is not installed here (AGPL-3.0" in done.stderr
    assert "pip install 'phasewatt[jetson]'" in done.stderr


def test_the_package_is_not_imported_before_the_meter_is_opened() -> None:
    code = "import sys\nimport agent.meters.jtop as m\nfrom pathlib import Path\nm.standing(Path('/'))\n"
    code += "sys.exit('jtop' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_standing_says_what_is_missing_without_importing(tmp_path: Path) -> None:
    assert standing(tmp_path, lambda name: None) == "jetson-stats is not installed"
    assert "systemctl restart jtop.service" in standing(tmp_path, lambda name: name)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/jtop.sock").touch()
    assert standing(tmp_path, lambda name: name) == (
        "jetson-stats is installed and its service is there: --meter jtop reads it"
    )


@pytest.mark.jetson
def test_the_real_service_answers() -> None:
    meter = Jtop(0.5)
    assert any(value is not None for value in meter.read())
    meter.close()
