"""Wall power by a management controller: Redfish from a real HTTPS server, ipmitool as a script."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.meters.external import External
from agent.meters.wall.ipmi import Ipmi
from phasewatt.errors import MeterUnavailable
from tests.fixtures.receipts import wait_until
from tests.fixtures.wall import Controller, controller, program

if TYPE_CHECKING:
    from tests.fixtures.certificates import Certificates

DCMI = """
    Instantaneous power reading:                   220 Watts
    Minimum during sampling period:                 18 Watts
    Maximum during sampling period:                438 Watts
    Average power reading over sample period:      211 Watts
    IPMI timestamp:                           Thu Jan  1 00:00:00 1970
    Sampling period:                          00000001 Seconds.
    Power reading state is:                   activated
"""


@pytest.fixture
def bmc(certificates: Certificates) -> Iterator[Controller]:
    with controller(certificates) as made:
        yield made


def _redfish(bmc: Controller, ca_path: Path, options: str = "") -> str:
    return f"redfish:{bmc.url}?ca_file={ca_path}&every=0.5{options}"


@pytest.mark.parametrize(
    ("options", "body", "values"),
    [
        ("", {"PowerControl": [{"PowerConsumedWatts": 431}, {"PowerConsumedWatts": 12}]}, (431.0,)),
        ("", {"PowerWatts": {"Reading": 374.5}}, (374.5,)),
        ("&power=PowerControl.1.PowerConsumedWatts", {"PowerControl": [{}, {"PowerConsumedWatts": 12}]}, (12.0,)),
        ("&energy=EnergykWh.Reading&energy_unit=kWh", {"EnergykWh": {"Reading": 2.5}}, (9e6,)),
    ],
)
def test_redfish_resources_old_and_new(
    bmc: Controller, certificates: Certificates, options: str, body: object, values: tuple[float, ...]
) -> None:
    bmc.body = json.dumps(body).encode()
    meter = External(0.1, _redfish(bmc, certificates.ca_path, options))
    assert meter.read() == values
    meter.close()


def test_redfish_asks_again_with_user_and_password(bmc: Controller, certificates: Certificates, tmp_path: Path) -> None:
    """Basic authorisation on every request, over a connection that the controller closes each time."""
    secret = certificates.ca_path.parent / "s"  # a short path: the whole argument is bounded
    secret.write_text("pa:ss\n")
    bmc.headers = {"Connection": "close"}
    meter = External(0.1, _redfish(bmc, certificates.ca_path, f"&user=op&password_file={secret}"))
    bmc.body = b'{"PowerWatts": {"Reading": 500}}'
    assert wait_until(lambda: meter.read() == (500.0,), 5)
    meter.close()
    assert set(bmc.asked) == {("/redfish/v1/Chassis/1/Power", "Basic b3A6cGE6c3M=")}


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "check user and password_file"),
        (404, "look up the chassis under /redfish/v1/Chassis"),
        (308, "look at its log"),
        (503, "look at its log"),
    ],
)
def test_redfish_status_other_than_ok_is_unavailable(
    bmc: Controller, certificates: Certificates, status: int, remedy: str
) -> None:
    """A redirection is one of them: the password goes to no other host."""
    bmc.status = status
    bmc.headers = {"Location": bmc.url + "/"}
    with pytest.raises(MeterUnavailable, match=f"external:redfish:https://.*: answers with status {status}; {remedy}"):
        External(0.1, _redfish(bmc, certificates.ca_path))
    assert len(bmc.asked) == 1


def test_redfish_certificate_that_is_not_trusted_is_unavailable(bmc: Controller) -> None:
    with pytest.raises(MeterUnavailable, match=r"its certificate is not trusted \(.*\); name its authority by ca_file"):
        External(0.1, f"redfish:{bmc.url}")
    assert bmc.asked == []


def test_redfish_without_an_answer_is_unavailable() -> None:
    with pytest.raises(MeterUnavailable, match=r"external:redfish:https://127\.0\.0\.1:9/p: no answer \(.*refused"):
        External(0.1, "redfish:https://127.0.0.1:9/p")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "neither a number nor JSON"),
        (b'{"PowerControl": []}', "without a number at PowerControl.0.PowerConsumedWatts or PowerWatts.Reading"),
        (b'{"PowerWatts": {"Reading": null}}', "without a number"),
        (b'{"PowerWatts": {"Reading": 0}}', "0 W of a host that runs"),
        (b"[" + b" " * 70_000 + b"]", "above 65536 bytes"),
    ],
)
def test_redfish_answers_that_are_no_reading_are_passed_over(
    bmc: Controller, certificates: Certificates, caplog: pytest.LogCaptureFixture, body: bytes, reason: str
) -> None:
    """Also while it is open: the next good answer is read."""
    meter = External(0.1, _redfish(bmc, certificates.ca_path))
    bmc.body = body
    assert wait_until(lambda: reason in caplog.text, 5)
    bmc.body = b'{"PowerWatts": {"Reading": 500}}'
    assert wait_until(lambda: meter.read() == (500.0,), 5)
    meter.close()


def test_redfish_that_fails_later_is_asked_again(bmc: Controller, certificates: Certificates) -> None:
    """A controller that restarts costs readings, and not the meter."""
    meter = External(0.1, _redfish(bmc, certificates.ca_path))
    bmc.status = 503
    asked = len(bmc.asked)
    assert wait_until(lambda: len(bmc.asked) > asked, 5)
    bmc.body, bmc.status = b'{"PowerWatts": {"Reading": 500}}', 200
    assert wait_until(lambda: meter.read() == (500.0,), 60)
    meter.close()


def _ipmi(tool: Path, options: str = "ipmi?every=0.5", **injected: float) -> External:
    return External(0.1, options, source_of=lambda spec: Ipmi(spec, str(tool)), **injected)  # type: ignore[arg-type]


def test_ipmi_reads_the_instantaneous_power(tmp_path: Path) -> None:
    """Of the five figures that DCMI prints, the first; asked again and again."""
    (tmp_path / "answer").write_text(DCMI)
    tool = program(tmp_path / "ipmitool", f'[ "$*" = "dcmi power reading" ] && cat {tmp_path}/answer')
    meter = _ipmi(tool)
    assert meter.read() == (220.0,)
    (tmp_path / "answer").write_text(DCMI.replace("220", "305"))
    assert wait_until(lambda: meter.read() == (305.0,), 5)
    meter.close()


def test_ipmi_of_another_host_hands_the_password_over_as_a_file(tmp_path: Path) -> None:
    """What stands on a command line can be read by every user of the host."""
    (tmp_path / "secret").write_text("s3cret")
    tool = program(tmp_path / "ipmitool", f'echo "$*" > {tmp_path}/arguments; echo "{DCMI}"')
    _ipmi(tool, f"ipmi?host=bmc-1.lan&user=op&password_file={tmp_path}/secret").close()
    said = (tmp_path / "arguments").read_text()
    assert said == f"-I lanplus -H bmc-1.lan -Uop -f {tmp_path}/secret dcmi power reading\n"


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("echo 'Could not open device at /dev/ipmi0' >&2; exit 1", r"ipmitool refuses \(Could not open .*run as root"),
        ("exit 3", r"ipmitool refuses \(exit code 3\)"),
        ("echo hello", "nothing in 1 s: ipmitool answers without a power reading"),
        (f"echo '{DCMI.replace('220', '0')}'", r"\(came, and was dropped: 0 W of a host that runs"),
        (f"echo '{DCMI.replace('220', '-5')}'", r"\(came, and was dropped: an answer of ipmitool without a power"),
    ],
)
def test_ipmi_that_gives_no_power_is_unavailable(tmp_path: Path, script: str, line: str) -> None:
    with pytest.raises(MeterUnavailable, match=line):
        _ipmi(program(tmp_path / "ipmitool", script), opening_s=1.0)


def test_ipmi_without_its_program_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match=r"ipmitool does not start \(No such file .*apt-get install ipmitool"):
        _ipmi(tmp_path / "absent")


def test_ipmi_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    began_s = time.monotonic()
    with pytest.raises(MeterUnavailable, match="nothing in 0 s"):
        _ipmi(program(tmp_path / "ipmitool", "exec sleep 8"), opening_s=0.3)
    assert time.monotonic() - began_s < 4
