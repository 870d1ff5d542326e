"""The link's coming, going and failing: what a board says of itself, and what its operator is told."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.connection import BrokerSettings, Tls
from agent.link import Link, Pace
from agent.outbox import Outbox
from phasewatt.errors import StoreUnavailable
from phasewatt.messages import Presence
from tests.fixtures.links import NO_CLOCK, PATIENT, QUICK, link_to, running
from tests.fixtures.receipts import CollectorDouble, wait_until
from tests.fixtures.stand_ins import accept_older
from tests.fixtures.wire import events, facts

pytestmark = pytest.mark.broker

CAP_BYTES = 64 * 1024 * 1024


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "state", CAP_BYTES)) as opened:
        yield opened


@pytest.fixture
def collector(mosquitto) -> Iterator[CollectorDouble]:
    with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as double:
        yield double


def test_status_and_facts_are_kept_by_the_broker_for_who_comes_later(mosquitto, outbox):
    outbox.append(events(3))
    with (
        running(mosquitto, outbox) as link,
        closing(CollectorDouble(mosquitto.host, mosquitto.port)) as late,
    ):
        assert wait_until(lambda: link.connected)
        assert late.until(lambda: bool(late.statuses and late.facts))
        status = late.statuses[0]
        assert (status.presence, status.epoch, status.telemetry_interval_s) == (Presence.ONLINE, outbox.epoch, 120.0)
        assert late.facts[0] == facts()


def test_facts_told_later_take_the_place_of_those_before(mosquitto, collector, outbox):
    """At once, over the connection that stands; and after the next one too."""
    with running(mosquitto, outbox) as link:
        assert collector.until(lambda: collector.facts == [facts()])
        link.tell(facts(hostname="renamed.local"))
        assert collector.until(lambda: collector.facts == [facts(), facts(hostname="renamed.local")])
        with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as late:
            assert late.until(lambda: late.facts == [facts(hostname="renamed.local")])
        mosquitto.kill()
        mosquitto.start()
        assert collector.until(lambda: len(collector.facts) > 2)
        assert {told.host.hostname for told in collector.facts[2:]} == {"renamed.local"}


def test_status_follows_the_backlog(mosquitto, collector, outbox):
    collector.answers = False
    with running(mosquitto, outbox, PATIENT) as link:
        assert collector.until(lambda: [status.pending for status in collector.statuses] == [0])
        outbox.append(events(7))
        link.notify()
        assert collector.until(lambda: collector.statuses[-1].pending == 7)
        assert not collector.until(lambda: len(collector.statuses) > 2, 0.7)


def test_a_board_that_leaves_says_so(mosquitto, collector, outbox):
    with running(mosquitto, outbox):
        assert collector.until(lambda: len(collector.statuses) == 1)
    assert not collector.until(lambda: len(collector.statuses) > 2, 0.5)  # no last will after a farewell
    online, offline = collector.statuses
    assert (online.presence, offline.presence) == (Presence.ONLINE, Presence.OFFLINE)
    assert online.session == offline.session


# A board that delivers events for ever, and prints their seqs once they are committed.
BOARD = """
import sys
from pathlib import Path
from agent.connection import BrokerSettings
from agent.link import Link
from agent.outbox import Outbox
from phasewatt.messages import Clock
from tests.fixtures.wire import events, facts
outbox = Outbox.open(Path(sys.argv[1]), 64 * 1024 * 1024)
clock = Clock(synchronised=None, offset_bound_s=None)
link = Link(BrokerSettings(host="127.0.0.1", port=int(sys.argv[2])), outbox, facts(), lambda: clock)
link.start()
while True:
    print(outbox.append(events(1))[0], flush=True)
    link.notify()
"""


@contextmanager
def board(state: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", BOARD, state, str(port)]
    with subprocess.Popen(command, cwd=Path.cwd(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_last_will_tells_of_a_board_that_died(mosquitto, collector, tmp_path):
    """Killed, not stopped: the broker says it, with the session that is over."""
    with board(tmp_path, mosquitto.port):
        assert collector.until(lambda: len(collector.statuses) == 1)
    assert collector.until(lambda: collector.statuses[-1].presence is Presence.OFFLINE)
    assert len({status.session for status in collector.statuses}) == 1


def test_a_board_killed_while_it_delivers_delivers_the_rest_later(mosquitto, collector, tmp_path):
    """Every row that was committed is stored in the end, under the key that it had before."""
    with board(tmp_path, mosquitto.port) as process:
        assert collector.until(lambda: len(collector.stored) > 50)
        process.send_signal(signal.SIGKILL)
        committed = [int(line) for line in process.stdout]
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as outbox, running(mosquitto, outbox) as link:
        assert link.wait_drained(20)
    assert set(collector.seqs()) >= set(committed)
    assert collector.seqs() == list(range(1, collector.seqs()[-1] + 1))
    assert {epoch for epoch, _ in collector.stored} == {outbox.epoch}


def test_a_new_session_has_a_new_name(mosquitto, collector, outbox):
    """So that a late last will is not taken for news of the connection that stands."""
    with running(mosquitto, outbox):
        assert collector.until(lambda: len(collector.statuses) == 1)
        mosquitto.kill()
        mosquitto.start()
        assert collector.until(lambda: len({status.session for status in collector.statuses}) == 2)


def test_delivery_over_tls(mosquitto_tls, certificates, outbox):
    seqs = outbox.append(events(3))
    tls = Tls(ca_path=str(certificates.ca_path))
    with (
        closing(CollectorDouble(mosquitto_tls.host, mosquitto_tls.port, certificates.ca_path)) as collector,
        running(mosquitto_tls, outbox, tls=tls) as link,
    ):
        assert link.wait_drained(10)
        assert collector.seqs() == seqs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves the socket to Python
def test_a_certificate_of_nobody_known_is_one_clear_line(mosquitto_tls, outbox):
    with running(mosquitto_tls, outbox, tls=Tls()) as link:
        assert wait_until(lambda: link.last_error is not None)
        assert not link.connected
        assert "TLS: its certificate is not trusted (" in link.last_error
        assert link.last_error.endswith("check the CA file and the host name")


def test_an_authority_that_is_no_file_is_one_clear_line(mosquitto_tls, outbox):
    with running(mosquitto_tls, outbox, tls=Tls(ca_path="/nowhere/ca.pem")) as link:
        assert wait_until(lambda: link.last_error is not None)
        assert link.last_error.endswith(
            "TLS: a certificate file is missing; check the paths of CA, certificate and key"
        )


def test_a_broker_that_does_not_know_the_board_is_one_clear_line(mosquitto, outbox):
    mosquitto.stop()
    mosquitto.configure("allow_anonymous false")
    mosquitto.start()
    with running(mosquitto, outbox) as link:
        assert wait_until(lambda: link.last_error is not None)
        assert not link.connected
        assert link.last_error.endswith("refused this agent: not authorized; check user name, password and access list")


def refuse_subscriptions(server: socket.socket) -> None:
    """One connection of a broker that lets a board in but refuses what it subscribes to."""
    with accept_older(server) as peer:
        peer.sendall(b"\x20\x02\x00\x00")  # CONNACK: accepted
        subscribe = peer.recv(4096)
        peer.sendall(b"\x90\x03" + subscribe[2:4] + b"\x80")  # SUBACK of the same packet id: failure
        peer.recv(4096)


def test_a_broker_that_withholds_the_receipts_is_one_clear_line(outbox):
    """The connection stands, and rows could be sent, but none would ever be done."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = threading.Thread(target=refuse_subscriptions, args=(server,))
        broker.start()
        settings = BrokerSettings(host="127.0.0.1", port=server.getsockname()[1])
        link = Link(settings, outbox, facts(), lambda: NO_CLOCK)
        link.start()
        assert wait_until(lambda: link.last_error is not None)
        assert "not authorised to read this board's receipts" in link.last_error
        link.stop()
        broker.join(5)


def test_silence_of_the_collector_is_called_a_fault(mosquitto, outbox):
    """Connected is not enough: what counts is that receipts come."""
    with running(mosquitto, outbox, QUICK._replace(silence_s=0.5)) as link:
        assert wait_until(lambda: link.connected)
        time.sleep(0.6)
        assert link.last_error is None  # there is nothing to deliver
        outbox.append(events(1))
        assert "connected, but no receipt for 1 s; is a collector running" in link.last_error


@pytest.mark.parametrize("broker_is", ["there", "gone", "frozen"])
def test_stopping_is_quick_whatever_the_broker_does(mosquitto, outbox, broker_is):
    outbox.append(events(3))
    link = link_to(mosquitto, outbox, Pace())
    link.start()
    assert wait_until(lambda: link.connected)
    {"there": lambda: None, "gone": mosquitto.kill, "frozen": mosquitto.freeze}[broker_is]()
    time.sleep(0.2)
    began_s = time.monotonic()
    link.stop()
    assert time.monotonic() - began_s < 2
    assert not link.connected
    assert outbox.pending() == 3


def test_stopping_is_quick_while_a_connection_is_attempted(outbox):
    """Something accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        link = Link(BrokerSettings(host="127.0.0.1", port=mute.getsockname()[1]), outbox, facts(), lambda: NO_CLOCK)
        link.start()
        time.sleep(0.3)
        began_s = time.monotonic()
        link.stop()
        assert time.monotonic() - began_s < 2


class FailingOutbox(Outbox):
    """Fails with each of `errors` before it works."""

    errors: list[Exception]

    def next_parcel(self, *args, **kwargs):
        if self.errors:
            raise self.errors.pop()
        return super().next_parcel(*args, **kwargs)


def test_the_link_outlives_a_failing_disk_and_what_nobody_thought_of(mosquitto, collector, tmp_path):
    with closing(FailingOutbox.open(tmp_path / "state", CAP_BYTES)) as outbox:
        outbox.errors = [ZeroDivisionError("a bug"), StoreUnavailable("outbox: disk I/O error")]
        outbox.append(events(3))
        with running(mosquitto, outbox, QUICK) as link:
            assert link.wait_drained(10)
            assert outbox.errors == []
            assert link.last_error is None


def test_a_password_does_not_show():
    settings = BrokerSettings(host="broker", username="board-1", password="secret", tls=Tls())
    assert f"{settings} {settings!r}" == "mqtts://broker:1883 mqtts://broker:1883"
