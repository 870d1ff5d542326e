"""Settings of `serve`: errors name key, value and expectation."""

from __future__ import annotations

import pytest

from collector import settings
from collector.settings import Address, BrokerSettings, Settings
from phasewatt.errors import ConfigInvalid

WHOLE = """
name = "centre-1"
[broker]
address = "broker.example:8883"
ca_file = "{file}"
cert_file = "{file}"
key_file = "{file}"
username = "collector"
password_file = "{file}"
"""


def test_whole_file_is_read(tmp_path):
    file = tmp_path / "any.pem"
    file.touch(mode=0o600)
    config = tmp_path / "collector.toml"
    config.write_text(WHOLE.format(file=file))
    read = settings.load(config)
    assert read.name == "centre-1"
    assert (read.broker.username, read.broker.key_file) == ("collector", str(file))
    assert settings.address_of(read.broker) == Address(False, "broker.example", 8883)


def test_retention_is_days_or_forever(tmp_path):
    config = tmp_path / "collector.toml"
    config.write_text('[retention]\ntelemetry_days = 0.5\ntrace_days = "forever"\n')
    kept = settings.load(config).retention
    assert (kept.telemetry_days, kept.trace_days, kept.event_days, kept.trial_days) == (0.5, *["forever"] * 3)
    assert (Settings().retention.telemetry_days, Settings().retention.trace_days) == (365.0, "forever")


def test_without_a_file_the_broker_is_embedded():
    assert settings.load(None) == Settings()
    assert settings.address_of(Settings().broker) == Address(True, "127.0.0.1", 1883)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("embedded", Address(True, "127.0.0.1", 1883)),
        ("embedded:0", Address(True, "127.0.0.1", 0)),
        ("embedded:0.0.0.0:1884", Address(True, "0.0.0.0", 1884)),
        ("host:1883", Address(False, "host", 1883)),
        ("[::1]:1883", Address(False, "::1", 1883)),
    ],
)
def test_address_is_parsed(text, address):
    assert settings.parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", ":1883", "host:0", "host:65536", "host:mqtt", "embedded:x"])
def test_address_of_another_form_is_refused(text):
    with pytest.raises(ConfigInvalid, match="expected embedded, embedded:PORT or HOST:PORT, got"):
        settings.parse_address(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 3", "name: expected str .*got 3"),
        ('name = "a b"', "name: "),
        ("[broker]\nport = 1883", "broker: unknown key `port`"),
        ("[broker]\naddress = 1883", "broker.address: expected str, got 1883"),
        ("[broker", "not valid TOML"),
        ("[retention]\ntelemetry_days = 0", "retention.telemetry_days: "),
        ("[retention]\ntelemetry_days = 'soon'", "retention.telemetry_days: "),
    ],
)
def test_wrong_key_or_value_is_named(tmp_path, text, message):
    config = tmp_path / "collector.toml"
    config.write_text(text)
    with pytest.raises(ConfigInvalid, match=message) as caught:
        settings.load(config)
    assert str(config) in str(caught.value)


def test_absent_settings_file_is_named(tmp_path):
    with pytest.raises(ConfigInvalid, match=r"absent\.toml"):
        settings.load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"cert_file", "ca_file"}, "key_file"),
        ({"key_file"}, "cert_file"),
        ({"cert_file", "key_file"}, "ca_file"),
        ({"password_file"}, "username"),
    ],
)
def test_option_without_its_fellow_is_refused(tmp_path, given, missing):
    file = tmp_path / "any"
    file.touch(mode=0o600)
    with pytest.raises(ConfigInvalid, match=f"broker.{missing}: expected beside"):
        settings.address_of(BrokerSettings(**dict.fromkeys(given, str(file))))


def test_missing_file_is_named():
    with pytest.raises(ConfigInvalid, match=r"broker\.ca_file: expected a file, got '/absent\.pem'"):
        settings.address_of(BrokerSettings(ca_file="/absent.pem"))


def test_name_of_this_host_is_an_identifier():
    settings.settings.convert({"name": settings.default_name()}, Settings, "this host")
