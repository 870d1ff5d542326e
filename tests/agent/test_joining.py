"""`join`: what it installs, what it refuses, and what the agent makes of it afterwards."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import msgspec
import pytest

from agent import joining, settings
from agent.app import main
from agent.broker_words import explained, of_tls
from agent.checks import identity
from agent.settings import Broker, Settings
from collector import issuing
from collector.authority import Authority, Plan
from phasewatt import bundle as bundles
from phasewatt.bundle import Bundle
from phasewatt.certificate import Certificate
from phasewatt.errors import ConfigInvalid

DAY_S = 86400.0


def authority_in(folder: Path, by_password: bool = False) -> Authority:
    made = Authority(folder / "authority")
    made.set_up(Plan(hosts=("127.0.0.1",), folder=str(folder / "broker"), by_password=by_password))
    return made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return authority_in(tmp_path_factory.mktemp("centre")).enroll("orin-1")


def written(tmp_path: Path, content: bytes) -> str:
    file = tmp_path / "a.bundle"
    file.write_bytes(content)
    file.chmod(0o600)
    return str(file)


def joined(tmp_path: Path, *arguments: str) -> int:
    return main(["join", *arguments, "--state-dir", str(tmp_path / "state")])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_after_it_serve_and_run_need_no_flags(tmp_path, bundle, capsys):
    file = written(tmp_path, bundles.encode(bundle))
    assert joined(tmp_path, file, "--fingerprint", bundles.fingerprint(bundle)) == 0
    assert "this board is orin-1, and delivers to 127.0.0.1:8883" in capsys.readouterr().out
    state = tmp_path / "state"
    found = settings.with_joined(Settings(), state)
    broker = settings.broker_of(found.broker)
    assert broker is not None and broker.tls is not None
    assert (found.device, broker.port, broker.tls.cert_path) == ("orin-1", 8883, str(state / "identity" / "board.pem"))
    modes = {path.name: mode(path) for path in (state / "identity", *(state / "identity").iterdir())}
    assert modes == {"identity": 0o700, "ca.pem": 0o600, "board.pem": 0o600}
    assert mode(state / "joined.toml") == 0o600


def test_a_password_is_kept_in_a_file_of_its_own(tmp_path):
    bundle = authority_in(tmp_path, by_password=True).enroll("orin-1")
    assert joined(tmp_path, written(tmp_path, bundles.encode(bundle))) == 0
    broker = settings.broker_of(settings.with_joined(Settings(), tmp_path / "state").broker)
    assert broker is not None
    assert (broker.username, broker.password) == ("orin-1", bundle.password)
    assert mode(tmp_path / "state" / "identity" / "password") == 0o600
    assert str(bundle.password) not in (tmp_path / "state" / "joined.toml").read_text()


def test_what_the_settings_say_of_a_broker_wins(tmp_path, bundle):
    joining.join(bundle, tmp_path, None)
    own = Settings(broker=Broker(address="127.0.0.1:1883"))
    assert settings.with_joined(own, tmp_path) == own
    with pytest.raises(ConfigInvalid, match="joined as orin-1, and is named orin-2"):
        settings.with_joined(Settings(device="orin-2"), tmp_path)


def test_a_renewal_takes_the_place_of_the_first_one(tmp_path):
    ours = authority_in(tmp_path)
    for renew in (False, True):
        bundle = ours.enroll("orin-1", renew=renew)
        joining.join(bundle, tmp_path / "state", None)
        assert str(bundle.key) in (tmp_path / "state" / "identity" / "board.pem").read_text()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda whole: whole[: len(whole) // 2], "not a whole bundle"),
        (lambda whole: whole.replace(b"orin-1", b"orin-2"), "its digest does not match"),
        (lambda whole: b"", "not a whole bundle"),
        (lambda whole: b"\xff" * 99, "not a whole bundle"),
    ],
)
def test_a_bundle_that_is_not_whole_is_one_line_and_changes_nothing(tmp_path, bundle, capsys, spoil, words):
    assert joined(tmp_path, written(tmp_path, spoil(bundles.encode(bundle)))) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_a_file_that_is_not_there_is_one_line(tmp_path, capsys):
    assert joined(tmp_path, str(tmp_path / "absent")) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_another_fingerprint_is_refused(tmp_path, bundle, capsys):
    assert joined(tmp_path, written(tmp_path, bundles.encode(bundle)), "--fingerprint", "dead-beef") == 2
    assert "it is another file" in capsys.readouterr().err


def test_a_bundle_for_another_device_is_refused(tmp_path, bundle):
    (tmp_path / "device").write_text("orin-9\n")
    with pytest.raises(ConfigInvalid, match=r"for orin-1, and .* holds the records of orin-9: enroll orin-9"):
        joining.join(bundle, tmp_path, None)
    with pytest.raises(ConfigInvalid, match="for orin-1, and the settings name this board orin-8: enroll orin-8"):
        joining.join(bundle, tmp_path / "other", "orin-8")
    assert not (tmp_path / "identity").exists()


def test_a_bundle_of_other_topics_is_refused(tmp_path, bundle):
    with pytest.raises(ConfigInvalid, match="of topics phasewatt/v9, and this version speaks phasewatt/v1"):
        joining.join(msgspec.structs.replace(bundle, root="phasewatt/v9"), tmp_path, None)


@pytest.mark.parametrize(
    ("clock_unix_s", "words"),
    [
        (0.0, "this board's clock says 1970-01-01: set the clock, then join"),
        (time.time() + 800 * DAY_S, "it expired on .* enroll orin-1 --renew"),
    ],
    ids=["before", "after"],
)
def test_a_certificate_that_is_not_good_now_is_refused(tmp_path, bundle, clock_unix_s, words):
    with pytest.raises(ConfigInvalid, match=words):
        joining.join(bundle, tmp_path / "state", None, clock=lambda: clock_unix_s)
    assert not (tmp_path / "state").exists()


def test_a_certificate_of_another_name_authority_or_key_is_refused(tmp_path, bundle):
    """Put together true to form, digest and all."""
    other = issuing.authority("phasewatt boards", time.time())
    strange = issuing.client(other, "orin-1", time.time(), 10)
    namesake = issuing.client(other, "orin-2", time.time(), 10)
    for pair, words in (
        ((strange.certificate.decode(), strange.key.decode()), "not of the authority"),
        ((bundle.certificate, strange.key.decode()), "not with its key"),
        ((namesake.certificate.decode(), namesake.key.decode()), "with a certificate of orin-2"),
        (("no certificate", "no key"), "not a certificate in PEM"),
    ):
        with pytest.raises(ConfigInvalid, match=words):
            joining.join(msgspec.structs.replace(bundle, certificate=pair[0], key=pair[1]), tmp_path / "state", None)
    assert not (tmp_path / "state" / "joined.toml").exists()


def test_a_bundle_that_others_could_read_is_said(tmp_path, bundle, capsys):
    file = Path(written(tmp_path, bundles.encode(bundle)))
    file.chmod(0o644)
    assert joined(tmp_path, str(file)) == 0
    assert "others on this host could read" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["key_file", "password_file"])
def test_a_secret_that_others_can_read_is_refused_with_the_remedy(tmp_path, name):
    file = tmp_path / "secret"
    file.write_text("s")
    fellows = {"cert_file": str(file), "ca_file": str(file), "username": "u"}
    broker = Broker(address="127.0.0.1:8883", **{**fellows, name: str(file)})
    if name == "password_file":
        broker = msgspec.structs.replace(broker, cert_file=None)
    for wrong in (0o644, 0o602, 0o620):
        file.chmod(wrong)
        with pytest.raises(ConfigInvalid, match=rf"broker.{name}: others can .* chmod 600 {file}"):
            settings.broker_of(broker)
    for right in (0o600, 0o640):
        file.chmod(right)
        assert settings.broker_of(broker) is not None


def test_settings_that_others_can_write_are_refused(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text("")
    file.chmod(0o666)
    with pytest.raises(ConfigInvalid, match="others can write"):
        settings.load(file, must_exist=True)
    file.chmod(0o644)
    assert settings.load(file, must_exist=True) == Settings()


@pytest.mark.parametrize("host", ["collector.example", "192.0.2.1", "[2001:db8::1]"])
def test_over_a_network_a_broker_without_tls_or_proof_is_refused(tmp_path, host):
    ca = tmp_path / "ca.pem"
    ca.touch()
    with pytest.raises(ConfigInvalid, match=r"broker.ca_file: expected, .* plain text"):
        settings.broker_of(Broker(address=f"{host}:1883"))
    with pytest.raises(ConfigInvalid, match=r"broker.cert_file or broker.username: expected"):
        settings.broker_of(Broker(address=f"{host}:8883", ca_file=str(ca)))
    for loopback in ("127.0.0.1", "localhost", "[::1]"):
        assert settings.broker_of(Broker(address=f"{loopback}:1883")) is not None


@pytest.mark.parametrize(
    ("begins_days", "ends_days", "ok", "words"),
    [
        (-10, 300, True, "good until"),
        (-10, 44, None, "44 days from now"),
        (-10, -1, None, "expired"),
        (5, 300, None, "this board's clock says"),
    ],
)
def test_doctor_tells_what_a_certificate_is_good_for(begins_days, ends_days, ok, words):
    now_unix_s = 1_790_000_000.0
    found = Certificate(
        common_name="orin-1",
        not_before_unix_s=now_unix_s + begins_days * DAY_S,
        not_after_unix_s=now_unix_s + ends_days * DAY_S,
    )
    finding = identity.finding(found, "orin-1", now_unix_s)
    assert finding.ok is ok and words in finding.verdict
    assert ok or finding.remedy
    assert "this board is orin-2" in identity.finding(found, "orin-2", now_unix_s).verdict


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("[SSL: SSLV3_ALERT_CERTIFICATE_REVOKED] sslv3 alert certificate revoked", "it was revoked"),
        ("[SSL: SSL/TLS_ALERT_CERTIFICATE_EXPIRED] certificate expired", "it has expired"),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] unknown ca", "its authority is another one"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] required", "there is none"),
        ("EOF occurred in violation of protocol", "hung up during TLS"),
    ],
)
def test_what_tls_says_of_a_certificate_is_told_in_words(failure, words):
    assert words in str(of_tls(failure))
    assert of_tls("[Errno 104] Connection reset by peer") is None


def test_a_clock_that_is_not_set_is_named_where_the_broker_is_not_believed():
    import ssl

    for code, words in ((9, "set the clock"), (10, "has expired by this board's clock")):
        error = ssl.SSLCertVerificationError("x")
        error.verify_code, error.verify_message = code, "m"
        assert words in explained(error, 1.0)
