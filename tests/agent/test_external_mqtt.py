"""Wall power by a plug that publishes through a real broker."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.meters.external import External
from phasewatt.errors import MeterUnavailable
from tests.fixtures.broker import Mosquitto
from tests.fixtures.receipts import wait_until

if TYPE_CHECKING:
    from tests.fixtures.certificates import Certificates

TASMOTA = {"Time": "2026-05-01T10:00:00", "ENERGY": {"Total": 1.956, "Power": 93, "Voltage": 231}}
SHELLY = {"id": 0, "output": True, "apower": 47.1, "aenergy": {"total": 5.125, "by_minute": [0, 0, 0]}}


class Plug:
    """Publishes on a topic again and again, until a test wants messages of its own."""

    def __init__(self, broker: Mosquitto, topic: str, ca_path: Path | None = None, **login: str) -> None:
        self._topic = topic
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        if login:
            self._client.username_pw_set(**login)
        if ca_path is not None:
            self._client.tls_set(str(ca_path))
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def publish(self, payload: object, retain: bool = False) -> None:
        raw = payload if isinstance(payload, (bytes, str)) else json.dumps(payload)
        with suppress(RuntimeError):  # the broker is away
            self._client.publish(self._topic, raw, qos=1, retain=retain).wait_for_publish(5)

    def open(self, argument: str, payload: object) -> External:
        """A meter that is opened while `payload` is published."""
        with _meanwhile(lambda: self.publish(payload)):
            return External(0.1, argument, opening_s=10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def _meanwhile(act: Callable[[], None]) -> Iterator[None]:
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(0.05):
            act()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def plug(mosquitto: Mosquitto) -> Iterator[Plug]:
    made = Plug(mosquitto, "tele/plug/SENSOR")
    yield made
    made.close()


def _address(broker: Mosquitto, topic: str = "tele/plug/SENSOR") -> str:
    return f"mqtt://{broker.host}:{broker.port}/{topic}"


@pytest.mark.broker
@pytest.mark.parametrize(
    ("options", "payload", "values"),
    [
        ("?power=ENERGY.Power&energy=ENERGY.Total&energy_unit=kWh", TASMOTA, (93.0, 1.956 * 3.6e6)),
        ("?power=apower&energy=aenergy.total&energy_unit=Wh", SHELLY, (47.1, 5.125 * 3600)),
        ("?power=ENERGY.Power.1", {"ENERGY": {"Power": [3, 12.5]}}, (12.5,)),
        ("", "47.5", (47.5,)),
        ("?energy=.&energy_unit=Wmin", "7", (420.0,)),
        ("?power=power", {"power": "12.5"}, (12.5,)),
    ],
)
def test_plugs_of_several_makers(
    mosquitto: Mosquitto, plug: Plug, options: str, payload: object, values: tuple[float, ...]
) -> None:
    """Numbers stand by themselves, in fields, or in lists; energy comes in joules."""
    meter = plug.open(_address(mosquitto) + options, payload)
    assert meter.read() == pytest.approx(values)
    meter.close()


@pytest.mark.broker
@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"on",
        b"NaN",
        b"1e999",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"power": true}',
        b'{"power": null}',
        b'{"power": {"power": 1}}',
        b'{"power": "warm"}',
        b'{"power": "inf"}',
        b'{"power": -4}',
        b'{"power": 1' + b"0" * 400 + b"}",
        b'{"power": 1, "x": "' + b"x" * 70_000 + b'"}',
        b"[1, 2]",
    ],
)
def test_payloads_that_are_no_reading_are_passed_over(mosquitto: Mosquitto, plug: Plug, bad: bytes) -> None:
    meter = plug.open(_address(mosquitto) + "?power=power", {"power": 20})
    plug.publish(bad)
    plug.publish({"power": 21})
    assert wait_until(lambda: meter.read() == (21.0,), 5)
    meter.close()


@pytest.mark.broker
def test_a_retained_message_is_no_reading(mosquitto: Mosquitto, plug: Plug) -> None:
    """It may be months old; only what is published from now on counts."""
    plug.publish("55", retain=True)
    with pytest.raises(MeterUnavailable, match=r"no fresh number on tele/plug/SENSOR.*a retained message"):
        External(0.1, _address(mosquitto), opening_s=1.5)


@pytest.mark.broker
def test_the_broker_may_be_started_again(mosquitto: Mosquitto, plug: Plug) -> None:
    meter = plug.open(_address(mosquitto), "20")
    mosquitto.kill()
    mosquitto.start()
    with _meanwhile(lambda: plug.publish("33")):
        assert wait_until(lambda: meter.read() == (33.0,), 20)
    meter.close()


@pytest.mark.broker
def test_a_user_with_a_password_file_is_let_in(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """A wrong password is refused at once, with what to look at."""
    mosquitto.stop()
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "users", "meter", "s3cret"], check=True)
    mosquitto.configure("allow_anonymous false")
    mosquitto.configure(f"password_file {tmp_path / 'users'}")
    mosquitto.start()
    (tmp_path / "right").write_text("s3cret\n")
    (tmp_path / "wrong").write_text("secret\n")
    plug = Plug(mosquitto, "plug", username="meter", password="s3cret")
    address = f"mqtt://meter@{mosquitto.host}:{mosquitto.port}/plug?password_file={tmp_path}"
    meter = plug.open(f"{address}/right", "20")
    assert meter.read() == (20.0,)
    meter.close()
    with pytest.raises(MeterUnavailable, match=r"the broker refuses \(not authorized\); check user and password_file"):
        External(0.1, f"{address}/wrong")
    plug.close()


@pytest.mark.broker
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves the socket to Python
def test_a_broker_that_speaks_tls(mosquitto_tls: Mosquitto, certificates: Certificates) -> None:
    """Its certificate is checked: with its authority the plug is read, with another one it is not."""
    plug = Plug(mosquitto_tls, "plug", ca_path=certificates.ca_path)
    address = f"{_address(mosquitto_tls, 'plug')}?ca_file="
    meter = plug.open(f"{address}{certificates.ca_path}", "20")
    assert meter.read() == (20.0,)
    meter.close()
    other = ssl.get_default_verify_paths().openssl_cafile
    with pytest.raises(MeterUnavailable, match=r"TLS failed \(.*\); check ca_file, host and port"):
        External(0.1, f"{address}{other}")
    plug.close()


def test_no_broker_is_told_at_once() -> None:
    with pytest.raises(MeterUnavailable, match=r"external:mqtt://127\.0\.0\.1:9/plug: the broker is not reached"):
        External(0.1, "mqtt://127.0.0.1:9/plug")
