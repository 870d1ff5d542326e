"""docs/threat-model.md, row by row, against a real mosquitto with the generated configuration.

After each test the good board must deliver, over the connection that it had before (`unharmed`).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.checks.delivery import refusal_by_tls
from collector import issuing, mosquitto
from collector.app import main
from collector.authority import Authority
from phasewatt import codec, topics
from phasewatt.fields import Kind
from phasewatt.messages import Receipt
from tests.fixtures.wire import batch_of, events, status
from tests.security.conftest import GOOD, THIEF, TIMEOUT_S, V5, V311, Client, Fleet, until

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.broker

FLOODER = "flooder"
EVENTS = topics.batch(GOOD, Kind.EVENT)


def batch(device: str, first_seq: int = 1_000, count: int = 1) -> bytes:
    """A batch that is whole and true to form."""
    whole = batch_of(*events(count, device=device), first_seq=first_seq, device=device)
    return codec.pack(codec.encode(whole))


def forged_receipt() -> bytes:
    """Says that everything is stored, so that the board would forget it."""
    receipt = Receipt(device=GOOD, epoch="e", generation="g", ranges=((1, 10_000),), rejected=(), high_water=10_000)
    return codec.pack(codec.encode(receipt))


@pytest.mark.parametrize(("version", "word"), [(V5, "Not authorized"), (V311, "Success")])
def test_a_spoofed_topic_is_refused(fleet: Fleet, version, word) -> None:
    """In 3.1.1 a broker cannot say no, so it says yes and passes nothing on; the log tells."""
    thief = fleet.client(THIEF, version=version).open()
    before = fleet.stored(GOOD), fleet.quarantined(GOOD)
    for topic in (EVENTS, topics.status(GOOD), topics.facts(GOOD), topics.live(GOOD)):
        assert thief.publish(topic, batch(GOOD)) == word
    thief.close()
    fleet.delivers()  # what came before it was taken before it
    assert (fleet.stored(GOOD), fleet.quarantined(GOOD)) == (before[0] + 1, before[1])
    assert fleet.log.has("Denied PUBLISH from thief")


def test_a_last_will_in_another_name_is_not_published(fleet: Fleet) -> None:
    centre = fleet.centre().open()
    centre.subscribe(topics.status("+"))
    thief = fleet.client(THIEF)
    thief.paho.will_set(topics.status(GOOD), codec.encode(status(device=GOOD)), 1, retain=True)
    thief.open().vanish()
    assert until(lambda: fleet.log.has("Client thief") or thief.ended.is_set())
    with_own = fleet.client(THIEF)
    with_own.paho.will_set(topics.status(THIEF), b"gone", 1)
    with_own.open().vanish()
    assert until(lambda: (topics.status(THIEF), b"gone") in centre.received)
    assert not [body for topic, body in centre.received if topic == topics.status(GOOD) and b"session-1" in body]
    centre.close()


def test_another_name_in_the_envelope_is_quarantined(fleet: Fleet, thief: Client) -> None:
    before = fleet.stored(GOOD), fleet.quarantined(THIEF)
    assert thief.publish(topics.batch(THIEF, Kind.EVENT), batch(GOOD)) == "Success"
    assert until(lambda: fleet.quarantined(THIEF) == before[1] + 1)
    assert fleet.stored(GOOD) == before[0]
    assert fleet.log.has("a message of device good on the topic of another")


@pytest.mark.parametrize("stolen", [GOOD, "phasewatt-centre-1"])
def test_a_stolen_client_id_ends_nobodys_session(fleet: Fleet, stolen: str) -> None:
    """Of another board, or of the collector: the broker puts the proved name in its place."""
    thief = fleet.client(THIEF, client_id=stolen).open()
    assert thief.is_in
    fleet.delivers()
    assert fleet.subscriber.listening.is_set()
    assert not fleet.log.has(f"Client {stolen} already connected")
    assert fleet.log.has("as thief (")
    thief.close()


def test_a_board_gets_not_in_where_collectors_do(fleet: Fleet) -> None:
    """There it could take any client id."""
    thief = fleet.client(THIEF, client_id="phasewatt-centre-1", port=fleet.plan.centre_port).open()
    assert not thief.is_in
    assert fleet.log.has("certificate verify failed")


def test_a_replayed_batch_is_stored_once(fleet: Fleet, thief: Client) -> None:
    """By its own board again and again; by another one not at all."""
    own = batch(THIEF, first_seq=1, count=5)
    for _ in range(20):
        assert thief.publish(topics.batch(THIEF, Kind.EVENT), own) == "Success"
    before = fleet.stored(GOOD)
    assert thief.publish(EVENTS, batch(GOOD, first_seq=1)) == "Not authorized"
    assert until(lambda: fleet.stored(THIEF) == 5)
    fleet.delivers()
    assert (fleet.stored(THIEF), fleet.stored(GOOD)) == (5, before + 1)
    assert fleet.log.has("Denied PUBLISH from thief")


@pytest.mark.parametrize("topic", [topics.receipt(GOOD), topics.watch(GOOD), f"{topics.ROOT}/{GOOD}/job/notify"])
def test_a_forged_word_of_the_centre_reaches_no_board(fleet: Fleet, thief: Client, topic: str) -> None:
    """A receipt, for which a board would forget what it holds; a job; a wish to watch."""
    centre = fleet.centre().open()
    if not (fleet.root / "listener").exists():
        fleet.enroll("listener")
    listener = fleet.client("listener").open()
    topic = topic.replace(GOOD, "listener")
    listener.subscribe(topic)
    assert thief.publish(topic, forged_receipt()) == "Not authorized"
    assert listener.publish(topic, forged_receipt()) == "Not authorized"  # not even by the board itself
    assert centre.publish(topic, b"true") == "Success"
    assert until(lambda: listener.received)
    assert listener.received == [(topic, b"true")]
    assert fleet.log.has("Denied PUBLISH from thief")
    listener.close()
    centre.close()


def test_a_job_is_answered_for_by_its_own_board_alone(fleet: Fleet, thief: Client) -> None:
    assert thief.publish(f"{topics.ROOT}/{GOOD}/job/update", b"{}") == "Not authorized"
    assert thief.publish(f"{topics.ROOT}/{GOOD}/job/get", b"{}") == "Not authorized"
    assert thief.publish(f"{topics.ROOT}/{THIEF}/job/update", b"{}") in {"Success", "No matching subscribers"}
    assert fleet.log.has("Denied PUBLISH from thief")


def test_a_board_does_not_speak_as_a_collector(fleet: Fleet, thief: Client) -> None:
    assert thief.publish(topics.collector_state("centre-1"), b"{}", retain=True) == "Not authorized"
    assert thief.publish(f"{topics.ROOT}/_centre/status", b"{}") == "Not authorized"


def test_a_board_hears_nothing_of_another(fleet: Fleet, thief: Client) -> None:
    """Subscriptions may be granted; what is not for it is not passed on."""
    thief.subscribe(f"{topics.ROOT}/#", "#", f"{topics.ROOT}/+/batch/+", f"{topics.ROOT}/{GOOD}/receipt", "$SYS/#")
    fleet.delivers(3)
    assert thief.publish(topics.status(THIEF), b"mine", retain=True) == "Success"
    assert until(lambda: thief.received)
    assert {topic for topic, _ in thief.received} <= {topics.status(THIEF), topics.receipt(THIEF)}
    assert thief.publish(topics.status(THIEF), b"", retain=True) == "Success"


def test_a_revoked_board_is_out_at_once_and_stays_out(fleet: Fleet, capsys) -> None:
    """Its living session too; nobody else's ends."""
    fleet.enroll("lost")
    lost = fleet.client("lost").open()
    assert lost.is_in
    assert main(["enroll", "--revoke", "lost", "--authority", str(fleet.authority.folder)]) == 0
    assert "lost is shut out" in capsys.readouterr().out
    assert lost.ended.wait(TIMEOUT_S)
    for version in (V5, V311):
        assert not fleet.client("lost", version=version).open().is_in
    assert fleet.log.has("certificate verify failed")
    fleet.enroll("lost", renew=True)
    again = fleet.client("lost").open()
    assert again.is_in, "enrolled anew, it is let in"
    again.close()
    lost.close()


def test_an_expired_certificate_is_refused(fleet: Fleet, tmp_path) -> None:
    long_ago = Authority(fleet.authority.folder, clock=lambda: time.time() - 800 * 86400)
    _expect_refused(fleet, tmp_path, long_ago.enroll("expired"))
    assert fleet.log.has("certificate verify failed")


def test_a_certificate_that_is_not_valid_yet_is_refused(fleet: Fleet, tmp_path) -> None:
    _expect_refused(fleet, tmp_path, Authority(fleet.authority.folder, lambda: time.time() + 9 * 86400).enroll("early"))


def test_a_certificate_of_another_authority_is_refused(fleet: Fleet, tmp_path) -> None:
    other = issuing.authority("phasewatt boards", time.time())
    pair = issuing.client(other, GOOD, time.time(), 10)
    file = tmp_path / "forged.pem"
    file.write_bytes(pair.certificate + pair.key)
    forged = Client(fleet.plan.port, GOOD, ca_certs=fleet.tls(GOOD)["ca_certs"], certfile=str(file)).open()
    assert not forged.is_in
    assert fleet.log.has("certificate verify failed")


def _expect_refused(fleet: Fleet, tmp_path, bundle) -> None:
    file = tmp_path / "board.pem"
    file.write_text(f"{bundle.certificate}\n{bundle.key}\n")
    for version in (V5, V311):
        client = Client(
            fleet.plan.port, bundle.device, version, ca_certs=fleet.tls(GOOD)["ca_certs"], certfile=str(file)
        )
        assert not client.open().is_in


@pytest.mark.parametrize("port", ["port", "centre_port"])
def test_who_has_no_certificate_is_refused(fleet: Fleet, port: str) -> None:
    """Anonymous, or with any name and password."""
    for name in (None, GOOD):
        client = Client(getattr(fleet.plan, port), "anybody", ca_certs=fleet.tls(GOOD)["ca_certs"])
        client.paho.username_pw_set(name, "guess" if name else None)
        assert not client.open().is_in
    assert fleet.log.has("peer did not return a certificate")


@pytest.mark.parametrize("port", ["port", "centre_port"])
def test_plain_text_is_refused(fleet: Fleet, port: str) -> None:
    assert not Client(getattr(fleet.plan, port), "anybody").open().is_in
    assert until(lambda: fleet.log.has("wrong version number"))


def test_a_false_broker_is_not_believed(fleet: Fleet, tmp_path) -> None:
    """Another authority's, or a board's certificate in the place of the broker's: the agent's TLS refuses both."""
    own = fleet.authority.enroll("false-broker", renew="false-broker" in fleet.authority.enrolled().boards)
    strange = issuing.server(issuing.authority("phasewatt boards", time.time()), ("127.0.0.1",), time.time(), 10)
    for content in (f"{own.certificate}\n{own.key}", (strange.certificate + strange.key).decode()):
        file = tmp_path / "server.pem"
        file.write_text(content)
        with false_broker(file) as port:
            refusal = refusal_by_tls(msgspec.structs.replace(fleet.broker_settings, port=port))
        assert "its certificate is not trusted" in str(refusal)
    assert refusal_by_tls(fleet.broker_settings) is None


@contextlib.contextmanager
def false_broker(certificate: Path) -> Iterator[int]:
    """The port of one that speaks TLS to its first caller."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve() -> None:
        plain, _ = listener.accept()
        with plain, contextlib.suppress(OSError):
            context.wrap_socket(plain, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(TIMEOUT_S)


@pytest.mark.parametrize("version", [V5, V311])
def test_an_oversized_message_ends_its_sender_alone(fleet: Fleet, version) -> None:
    thief = fleet.client(THIEF, version=version).open()
    thief.paho.publish(topics.batch(THIEF, Kind.EVENT), b"x" * (mosquitto.PACKET_BYTES + 1), 1)
    assert thief.ended.wait(TIMEOUT_S)
    assert until(lambda: fleet.log.has("thief disconnected due to oversize packet"))


def test_a_message_that_fits_the_broker_and_not_the_collector_is_quarantined(fleet: Fleet, thief: Client) -> None:
    before = fleet.quarantined(THIEF)
    assert thief.publish(topics.batch(THIEF, Kind.EVENT), b"x" * (codec.MAX_PAYLOAD_BYTES + 1)) == "Success"
    assert until(lambda: fleet.quarantined(THIEF) == before + 1)


def test_a_flood_drowns_nobody_else(fleet: Fleet) -> None:
    """Nonsense as fast as it goes, again and again: the good board delivers meanwhile, and the log stays short."""
    fleet.enroll(FLOODER)
    calm_s = fleet.delivers()
    told, dropped, delays_s = len(fleet.log.lines), fleet.subscriber.dropped, []
    with flood(fleet, topics.batch(FLOODER, Kind.EVENT)) as sent:
        assert until(lambda: fleet.log.has("flooder floods the broker"))
        delays_s += [fleet.delivers(timeout_s=90.0) for _ in range(3)]
    shown = f"{sum(sent)} sent, {fleet.subscriber.dropped - dropped} not taken, {len(fleet.log.lines) - told} log lines"
    good = f"good board: {calm_s:.2f} s before, worst of {len(delays_s)} {max(delays_s):.2f} s"
    logger.info("flood: %s; %s", shown, good)
    assert len(fleet.log.lines) - told < 300 + sum(sent) // 100, shown  # each try of one that was shut out is a line
    assert fleet.log.has("flooder floods the broker: it is shut out")
    assert not fleet.client(FLOODER).open().is_in


@contextlib.contextmanager
def flood(fleet: Fleet, topic: str) -> Iterator[list[int]]:
    """Messages of QoS 0, which nothing holds back, over one connection after the other; how many, as they go."""
    name, body = topic.encode(), b"nonsense"
    packet = bytes([0x30, 2 + len(name) + len(body), 0, len(name)]) + name + body
    connect = (
        bytes([0x10, 12 + len(FLOODER), 0, 4]) + b"MQTT" + bytes([4, 2, 0, 60, 0, len(FLOODER)]) + FLOODER.encode()
    )
    tls = fleet.tls(FLOODER)
    context = ssl.create_default_context(cafile=tls["ca_certs"])
    context.load_cert_chain(tls["certfile"])
    sent: list[int] = []
    stopping = threading.Event()

    def pour() -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", fleet.plan.port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(connect)
            assert secure.recv(4)[3] == 0, "the flood was not let in"
            while not stopping.is_set():
                secure.sendall(packet * 500)
                sent.append(500)

    def again() -> None:
        while not stopping.is_set():
            pour()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield sent
    finally:
        stopping.set()
        thread.join(TIMEOUT_S)
