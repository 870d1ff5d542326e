"""The authority, the broker's configuration, and the commands around them: the failure paths and what is kept where."""

from __future__ import annotations

import json
import logging
import socket
import stat
import time
from pathlib import Path

import pytest

from collector import enrolled, managed, mosquitto, passwords, rights, settings
from collector.app import main
from collector.authority import Authority, Plan
from collector.broker_log import CHATTER, BrokerLog
from collector.commands import table
from collector.inbox import Inbox, Message
from collector.repeats import Repeats
from collector.settings import BrokerSettings
from phasewatt import topics
from phasewatt.errors import ConfigInvalid
from tests.fixtures.broker import find_mosquitto, free_port

DAY_S = 86400.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "phasewatt"


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "authority")
    made.set_up(Plan(hosts=("broker.example",), folder=str(tmp_path / "broker")))
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_the_owners_alone(home):
    assert main(["broker-config", "--host", "broker.example"]) == 0
    assert main(["enroll", "orin-1"]) == 0
    for folder in (home / "authority", home / "broker"):
        assert mode(folder) == 0o700
    secrets = [*home.rglob("*.key"), *home.rglob("*.json"), Path("orin-1.bundle")]
    assert len(secrets) >= 7
    assert {mode(path) for path in secrets} == {0o600}


def test_nothing_that_is_printed_or_logged_is_a_secret(home, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    main(["broker-config", "--host", "broker.example", "--passwords"])
    main(["enroll", "orin-1"])
    secret = json.loads(Path("orin-1.bundle").read_text())["bundle"]["password"]
    said = "".join(capsys.readouterr()) + caplog.text
    assert secret not in said and "PRIVATE KEY" not in said
    assert secret not in "".join(path.read_text() for path in home.rglob("*") if path.is_file())


def test_no_option_takes_a_password(capsys):
    """A command line is in the process list."""
    for command in ("serve", "watch", "enroll", "broker-config"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    said = capsys.readouterr().out
    assert "--password-file" in said and "--password " not in said and "--key " not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["enroll", "orin-1"], "no broker is set up yet: phasewatt-collector broker-config --host NAME"),
        (["watch", "--json", "--broker", "managed"], "broker managed: none was set up"),
        (["broker-config", "--host", "a b"], "host: expected the name or address of a host, without a port, got 'a b'"),
        (["broker-config", "--host", "h:8883"], "host: expected the name or address"),
        (["broker-config", "--host", "h", "--port", "0"], "--port: expected a port from 1 to 65535, got 0"),
        (["broker-config", "--host", "h", "--port", "8884"], "--centre-port: expected another port"),
        (["enroll", "orin-1", "--days", "0"], "--days: expected above 0"),
        (["enroll", "orin-1", "--revoke", "--days", "3"], "--revoke writes no bundle"),
    ],
)
def test_bad_input_is_one_line(home, capsys, arguments, words):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["orin-1"], "orin-1 is enrolled already: --renew for another bundle, --revoke to shut it out"),
        (["orin-2", "--renew"], "orin-2 was never enrolled here: leave out --renew"),
        (["orin-2", "--revoke"], "orin-2 was never enrolled here; known: orin-1"),
        (["a/b"], "device: expected up to 64 letters"),
        (["Phasewatt-x"], "names that begin with phasewatt- are the collectors' own"),
        (["orin-3", "--out", "/nonexistent/x"], "cannot be written"),
    ],
)
def test_who_cannot_be_enrolled_is_refused_in_one_line(home, capsys, arguments, words):
    main(["broker-config", "--host", "broker.example"])
    main(["enroll", "orin-1"])
    assert main(["enroll", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_revoking_where_no_broker_runs_says_what_is_left_to_do(home, capsys):
    main(["broker-config", "--host", "broker.example"])
    main(["enroll", "orin-1"])
    assert main(["enroll", "orin-1", "--revoke"]) == 1
    assert "until then it lets the board in" in capsys.readouterr().err


def test_a_folder_of_keys_that_others_may_look_into_is_refused(ours):
    ours.folder.chmod(0o755)
    with pytest.raises(ConfigInvalid, match=rf"chmod 700 {ours.folder}"):
        Authority(ours.folder)


def test_damaged_files_of_the_authority_are_named(ours):
    (ours.folder / "broker.json").write_text("{")
    with pytest.raises(ConfigInvalid, match=r"broker\.json: cannot be read"):
        ours.plan()
    (ours.folder / "enrolled.json").write_text("[]")
    with pytest.raises(ConfigInvalid, match=r"enrolled\.json: cannot be read"):
        ours.enrolled()


def test_a_certificate_that_ends_is_told_early_then_late_then_as_revoked(ours):
    ours.enroll("orin-1", days=60)
    now_unix_s, known = time.time(), ours.enrolled()

    def remark(days: float) -> str | None:
        return enrolled.remark(known, "orin-1", now_unix_s + days * DAY_S, table.when)

    assert remark(0) is None
    assert "in 30 days: phasewatt-collector enroll orin-1 --renew" in str(remark(30))
    assert "its certificate ended on" in str(remark(61))
    ours.revoke("orin-1")
    known = ours.enrolled()
    assert str(remark(0)).startswith("revoked on")
    assert enrolled.remark(known, "never-enrolled", now_unix_s, table.when) is None


def test_devices_tells_whose_certificate_ends(home, capsys):
    from tests.fixtures import wire

    main(["broker-config", "--host", "broker.example"])
    main(["enroll", wire.DEVICE, "--days", "10"])
    from collector.store import open_store

    store = open_store(f"sqlite:///{home / 'collector.db'}", create=True)
    store.put_status(wire.status(), 1.0)
    store.close()
    capsys.readouterr()
    assert main(["devices", "--json"]) == 0
    (device,) = json.loads(capsys.readouterr().out)["devices"]
    assert device["certificate_ends_unix_s"] == pytest.approx(time.time() + 10 * DAY_S, abs=600)
    assert any("in 10 days: phasewatt-collector enroll board-1 --renew" in remark for remark in device["remarks"])


def test_the_brokers_certificate_is_renewed_before_it_ends(ours):
    first = ours.server()
    assert ours.server() == first
    later = Authority(ours.folder, clock=lambda: time.time() + 700 * DAY_S)
    assert later.server() != first
    assert later.boards == ours.boards


def test_every_topic_of_the_library_is_in_the_table_of_rights():
    """A new topic must be thought about here."""
    listed = {right.leaf for right in rights.RIGHTS}
    spoken = {topics.parse(f"{topics.ROOT}/b/{leaf}").leaf for leaf in listed if not leaf.startswith(("batch", "job"))}
    assert spoken == {"status", "facts", "live", "watch", "receipt"}
    for topic in topics.from_boards():
        leaf = topic.removeprefix(f"{topics.ROOT}/+/")
        assert f"topic read {topics.ROOT}/+/{leaf}" in rights.access_list()


def test_a_board_may_write_nothing_that_it_believes():
    for right in rights.RIGHTS:
        if right.centre is rights.May.WRITE:
            assert right.board is rights.May.READ


def test_a_password_has_the_form_of_mosquittos_file():
    kind, iterations, salt, digest = passwords.hashed("secret").strip("$").split("$")
    assert (kind, int(iterations) > 0, len(salt), len(digest)) == ("7", True, 16, 88)
    assert passwords.hashed("secret") != passwords.hashed("secret")


@pytest.mark.broker
def test_the_configuration_is_one_that_mosquitto_takes_by_certificate_and_by_password(tmp_path):
    for by_password in (False, True):
        root = tmp_path / str(by_password)
        ours = Authority(root / "authority")
        plan = Plan(
            hosts=("127.0.0.1",),
            folder=str(root / "broker"),
            port=free_port(),
            centre_port=free_port(),
            bind="127.0.0.1",
            by_password=by_password,
        )
        ours.set_up(plan)
        child = managed.ManagedBroker(plan, mosquitto.write(plan, ours), find_mosquitto())
        child.start()
        try:
            with pytest.raises(ConfigInvalid, match=f"port {plan.port}: address already in use; end what listens"):
                managed._check_free(plan.bind, plan.port)
            assert mosquitto.running(plan)
        finally:
            child.stop()
        assert mosquitto.running(plan) is None


@pytest.mark.broker
def test_a_port_in_use_is_one_line(ours, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        plan = Plan(hosts=("h",), folder=str(tmp_path / "broker"), port=taken.getsockname()[1], bind="127.0.0.1")
        child = managed.ManagedBroker(plan, mosquitto.write(plan, ours), find_mosquitto())
        with pytest.raises(ConfigInvalid, match="address already in use; end what listens there"):
            child.start()


@pytest.mark.broker
def test_a_broker_that_does_not_start_says_why(ours, tmp_path):
    plan = Plan(
        hosts=("h",), folder=str(tmp_path / "broker"), port=free_port(), centre_port=free_port(), bind="127.0.0.1"
    )
    config = mosquitto.write(plan, ours)
    (tmp_path / "broker" / "server.key").write_text("no key")
    with pytest.raises(ConfigInvalid, match="mosquitto did not start: Error: Unable to load server key"):
        managed.ManagedBroker(plan, config, find_mosquitto()).start()


def test_without_mosquitto_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr(managed, "_PLACES", "/nonexistent")
    with pytest.raises(ConfigInvalid, match="mosquitto is not installed: apt-get install mosquitto"):
        managed.program("/nonexistent")


def test_over_a_network_a_broker_without_tls_or_proof_is_refused(tmp_path):
    ca = tmp_path / "ca.pem"
    ca.touch()
    with pytest.raises(ConfigInvalid, match=r"broker.ca_file: expected, .* plain text"):
        settings.address_of(BrokerSettings(address="broker.example:1883"))
    with pytest.raises(ConfigInvalid, match=r"broker.cert_file or broker.username: expected"):
        settings.address_of(BrokerSettings(address="192.0.2.1:8883", ca_file=str(ca)))
    for here in ("127.0.0.1:1883", "localhost:1883", "[::1]:1883", "embedded"):
        settings.address_of(BrokerSettings(address=here))


@pytest.mark.parametrize("name", ["key_file", "password_file"])
def test_a_secret_that_others_can_read_is_refused(tmp_path, name):
    file = tmp_path / "secret"
    file.touch(mode=0o644)
    with pytest.raises(ConfigInvalid, match=rf"broker.{name}: others can read .* chmod 600"):
        settings.address_of(BrokerSettings(**{name: str(file)}))


def test_the_log_keeps_what_matters_and_repeats_nothing():
    log = BrokerLog()
    spoken = (
        "2026-11-26T13:11:06: Denied PUBLISH from thief (d0, q1, r0, m1, 'phasewatt/v1/good/status', ... (1 bytes))"
    )
    assert log.heard(spoken, 0.0).level == logging.WARNING
    assert [log.heard(spoken.replace("m1", f"m{n}"), n / 100) for n in range(2, 50)] == [None] * 48
    assert log.heard(spoken.replace("thief", "other"), 1.0) is not None
    assert log.heard(spoken, 61.0).text.endswith("(48 more like it before)")
    assert log.heard("2026-11-26T13:11:06: Client b1 disconnected.", 1.0).level == logging.INFO
    chatter = b"2026-11-26T13:11:06: Received PUBLISH from b1 (d0)\n2026-11-26T13:11:06: Sending PUBACK to b1\n"
    kept = b"2026-11-26T13:11:06: Client b1 disconnected.\n"
    assert CHATTER.sub(b"", chatter + kept + chatter[:20]) == kept + chatter[:20]


def test_what_repeats_fills_no_memory():
    repeats = Repeats(60.0, burst=2)
    assert [repeats.due("a", at) for at in (0.0, 1.0, 2.0, 3.0, 61.0)] == [
        "",
        "",
        None,
        None,
        " (2 more like it before)",
    ]
    for number in range(5000):
        repeats.due(f"made up {number}", 70.0)
    assert len(repeats._since_s) <= 1000


def test_one_board_takes_no_more_than_its_share_of_the_inbox():
    now_s = [0.0]
    inbox = Inbox(1000, 64 * 2**20, lambda: now_s[0])
    flooder, good = (Message(f"{topics.ROOT}/{name}/batch/event", b"x") for name in ("flooder", "good"))
    assert sum(inbox.put(flooder) for _ in range(250)) == 125
    assert inbox.put(good)
    assert not inbox.is_flooding("flooder")  # it may be the store that stands still
    for _ in range(200):
        inbox.put(flooder)
    assert inbox.is_flooding("flooder") and not inbox.is_flooding("good")
    inbox.take(1000, 0.0)
    assert not inbox.put(flooder)  # not yet
    now_s[0] = 11.0
    assert inbox.put(flooder)
    assert not inbox.is_flooding("flooder")
