"""A fleet behind the generated configuration: one mosquitto, one collector, one board that delivers throughout."""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent import joining, settings
from agent.link import Link
from agent.outbox import Outbox
from agent.settings import broker_of
from collector import authority, managed, mosquitto
from collector.eviction import ShutOut
from collector.store import open_store
from collector.subscriber import Subscriber
from tests.fixtures.broker import find_mosquitto, free_port
from tests.fixtures.links import NO_CLOCK, PATIENT
from tests.fixtures.records import changed
from tests.fixtures.wire import events, facts

TIMEOUT_S = 20.0
GOOD, THIEF = "good", "thief"
V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


def until(condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


class Client:
    """A raw MQTT client, with whatever proof and client id an attacker may choose."""

    def __init__(self, port: int, client_id: str, version: Any = V5, **tls: Any) -> None:
        self.verdict: str | None = None
        self.acknowledged: list[str] = []
        self.received: list[tuple[str, bytes]] = []
        self.ended = threading.Event()
        self._granted = threading.Event()
        self.paho = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False
        )
        client.max_queued_messages_set(0)
        if tls:
            client.tls_set(**tls)
        client.on_connect = lambda _c, _d, _f, reason, _p: setattr(self, "verdict", str(reason))
        client.on_disconnect = lambda *_: self.ended.set()
        client.on_publish = lambda _c, _d, _m, reason, _p: self.acknowledged.append(str(reason))
        client.on_subscribe = lambda *_: self._granted.set()
        client.on_message = lambda _c, _d, message: self.received.append((message.topic, bytes(message.payload)))
        self._port = port

    def open(self) -> Client:
        """Ask to be let in, and wait for an answer of any kind."""
        try:
            self.paho.connect("127.0.0.1", self._port)
        except (OSError, ssl.SSLError) as error:
            self.verdict = str(error)
            self.ended.set()
            return self
        self.paho.loop_start()
        assert until(lambda: self.verdict is not None or self.ended.is_set())
        return self

    @property
    def is_in(self) -> bool:
        return self.verdict == "Success" and not self.ended.is_set()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> str:
        """Publish, and give the broker's word on it."""
        before = len(self.acknowledged)
        self.paho.publish(topic, payload, 1, retain=retain)
        assert until(lambda: len(self.acknowledged) > before or self.ended.is_set())
        return self.acknowledged[-1] if len(self.acknowledged) > before else "ended"

    def subscribe(self, *topics: str) -> None:
        self._granted.clear()
        self.paho.subscribe([(topic, 1) for topic in topics])
        assert self._granted.wait(TIMEOUT_S)

    def vanish(self) -> None:
        """Go without a word, so that the last will is published."""
        sock = self.paho.socket()
        self.paho.loop_stop()
        if sock is not None:
            sock.close()

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()
        sock = self.paho.socket()
        if sock is not None:
            sock.close()


class Lines(logging.Handler):
    """What was logged, as it would be read."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def has(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in list(self.lines))


class Fleet:
    """Everything that a test attacks, and the board that must not notice."""

    def __init__(self, root: Path, by_password: bool = False) -> None:
        self.root = root
        self.log = Lines()
        self._stack = contextlib.ExitStack()
        logger = logging.getLogger("collector")
        logger.setLevel(logging.INFO)
        logger.addHandler(self.log)
        self._stack.callback(logger.removeHandler, self.log)
        self.authority = authority.Authority(root / "authority")
        self.plan = authority.Plan(
            hosts=("127.0.0.1",),
            folder=str(root / "broker"),
            port=free_port(),
            centre_port=free_port(),
            bind="127.0.0.1",
            by_password=by_password,
        )
        self.authority.set_up(self.plan)
        for device in (GOOD, THIEF):
            self.enroll(device)
        config = mosquitto.write(self.plan, self.authority)
        self.broker = managed.ManagedBroker(self.plan, config, find_mosquitto())
        self.broker.start()
        self._stack.callback(self.broker.stop)
        self.store = self._stack.enter_context(
            contextlib.closing(open_store(f"sqlite:///{root / 'c.db'}", create=True))
        )
        address, proof = managed.reached(self.plan, self.authority)
        shut_out = ShutOut(self.plan, self.authority)
        self.subscriber = Subscriber(address, proof, "centre-1", self.store, shut_out=shut_out)
        self.subscriber.start()
        self._stack.callback(self.subscriber.stop)
        assert self.subscriber.listening.wait(TIMEOUT_S)
        self._serve_good()

    def _serve_good(self) -> None:
        found = settings.with_joined(settings.Settings(), self.root / GOOD)
        broker = broker_of(found.broker)
        assert broker is not None
        self.broker_settings = broker
        self.outbox = self._stack.enter_context(contextlib.closing(Outbox.open(self.root / GOOD, 64 * 2**20)))
        described = facts()
        described = changed(described, host=changed(described.host, device=GOOD))
        self.link = Link(broker, self.outbox, described, lambda: NO_CLOCK, pace=PATIENT)
        self.link.start()
        self._stack.callback(self.link.stop)
        assert until(lambda: self.link.connected)

    def close(self) -> None:
        self._stack.close()

    def enroll(self, device: str, **options: Any) -> Any:
        """Enrolled, joined, and its files lie in a state directory of that name."""
        bundle = self.authority.enroll(device, **options)
        joining.join(bundle, self.root / device, None)
        return bundle

    def tls(self, device: str) -> dict[str, str]:
        folder = self.root / device / "identity"
        return {"ca_certs": str(folder / "ca.pem"), "certfile": str(folder / "board.pem")}

    def client(self, device: str, client_id: str | None = None, version: Any = V5, port: int | None = None) -> Client:
        return Client(port or self.plan.port, client_id or device, version, **self.tls(device))

    def centre(self, client_id: str = "phasewatt-test") -> Client:
        folder = self.authority.folder
        return Client(
            self.plan.centre_port,
            client_id,
            ca_certs=str(folder / "boards.pem"),
            certfile=str(folder / "client.pem"),
            keyfile=str(folder / "client.key"),
        )

    def delivers(self, count: int = 1, timeout_s: float = TIMEOUT_S) -> float:
        """Seconds until the good board has receipts for so many new records; it must stay connected meanwhile."""
        before = self.stored(GOOD)
        began_s = time.monotonic()
        self.outbox.append(events(count, device=GOOD))
        self.link.notify()
        assert self.link.wait_drained(timeout_s), self.link.last_error
        assert self.stored(GOOD) == before + count
        return time.monotonic() - began_s

    def stored(self, device: str) -> int:
        return sum(epoch.stored for row in self.store.devices() if row.device == device for epoch in row.epochs)

    def quarantined(self, device: str) -> int:
        return sum(row.quarantined for row in self.store.devices() if row.device == device)


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


@pytest.fixture
def thief(fleet: Fleet) -> Iterator[Client]:
    """A board whose key somebody took, let in as itself."""
    client = fleet.client(THIEF).open()
    assert client.is_in
    yield client
    client.close()


@pytest.fixture(autouse=True)
def unharmed(fleet: Fleet) -> Iterator[None]:
    """Whatever a test does: the good board delivers after it, over the connection that it had."""
    before = [line for line in fleet.log.lines if " as good (" in line]
    yield
    fleet.delivers(timeout_s=60.0)
    assert [line for line in fleet.log.lines if " as good (" in line] == before, "the good board had to connect anew"
