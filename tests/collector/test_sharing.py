"""How a collector joins a group, whom it refuses, and when it leaves; and two writers on one store."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from collector import sharing
from collector.inbox import Message
from collector.settings import Address, BrokerSettings
from collector.sharing import Sharing, Step
from collector.store import Aside, Store, open_store, sql
from collector.subscriber import Subscriber
from phasewatt import codec, topics
from phasewatt.errors import StoreUnavailable
from phasewatt.messages import CollectorState, Presence
from tests.collector.test_subscriber import DEVICE, Gated, connected, eventually, one_event
from tests.fixtures import wire

GROUP = "centres"
OWN = topics.collector_state("one")
SHARED_OWN = f"$share/{GROUP}/{OWN}"
BATCHES = f"$share/{GROUP}/phasewatt/v1/+/batch/+"


def state(
    name: str, generation: str, presence: Presence = Presence.ONLINE, group: str | None = GROUP
) -> CollectorState:
    return CollectorState(
        collector=name, presence=presence, generation=generation, schema=codec.SCHEMA, since_unix_s=1.0, group=group
    )


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Member:
    """A member with the broker's end in the hands of the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.left: list[str] = []
        self.said: list[CollectorState] = []
        self.joins = 0
        self.generation = "g-1"
        self.clock = Clock()
        self.sharing = Sharing(GROUP, "one", self, self._joined, self.clock)

    def subscribe(self, filters: Sequence[str]) -> None:
        self.asked += filters

    def unsubscribe(self, filters: Sequence[str]) -> None:
        self.left += filters

    def announce(self, presence: Presence) -> CollectorState:
        self.said.append(state("one", self.generation, presence))
        return self.said[-1]

    def _joined(self) -> None:
        self.joins += 1

    def hears(self, told: CollectorState, retained: bool = False) -> None:
        message = Message(topics.collector_state(told.collector), codec.encode(told), retained)
        self.sharing.hear(message, lambda: self.generation)

    def echo(self) -> None:
        self.hears(self.said[-1])

    def until_meeting(self) -> None:
        self.sharing.connected()
        self.sharing.granted()
        self.echo()
        self.sharing.granted()

    def until_member(self) -> None:
        self.until_meeting()
        self.echo()
        self.sharing.granted()

    def waits(self, seconds: float, store_fails: bool = False, works: bool = True) -> None:
        self.clock.now_s += seconds
        self.sharing.tick(store_fails, lambda: works)


@contextlib.contextmanager
def _listening(address: Address, store: Store, name: str) -> Iterator[Subscriber]:
    subscriber = Subscriber(address, BrokerSettings(), name, store, share=GROUP)
    subscriber.start()
    try:
        assert subscriber.listening.wait(60)
        yield subscriber
    finally:
        subscriber.stop()


@pytest.fixture
def member() -> Member:
    return Member()


def test_batches_are_asked_for_last(member):
    member.sharing.connected()
    assert member.asked == [SHARED_OWN]
    member.sharing.granted()
    assert [said.presence for said in member.said] == [Presence.OFFLINE]
    member.echo()
    assert (member.asked[1:], member.left) == ([topics.collector_state("+")], [SHARED_OWN])
    member.sharing.granted()
    member.echo()
    assert member.asked[-1] == BATCHES
    assert member.joins == 0
    member.sharing.granted()
    assert (member.joins, member.said[-1].presence) == (1, Presence.ONLINE)


def test_a_broker_that_does_not_know_shared_subscriptions_is_told_of_and_asked_again(member, caplog):
    """It grants what it takes for a topic of that name, and nothing comes."""
    member.sharing.connected()
    member.sharing.granted()
    for _ in range(3):
        member.waits(sharing.ANSWER_S + 1)
    assert caplog.text.count("may not know them") == 1
    assert BATCHES not in member.asked
    assert len(member.said) == 4
    member.echo()
    assert member.sharing.step is Step.MEETING


def test_a_living_member_of_another_store_keeps_a_newcomer_out(member):
    member.until_meeting()
    member.hears(state("two", "g-2"), retained=True)
    member.echo()
    assert BATCHES not in member.asked
    member.hears(state("two", "g-2"))
    member.waits(sharing.GRACE_S + 1)
    assert "collector two of group centres has another store" in member.sharing.refusal
    assert BATCHES not in member.asked


def test_a_member_that_is_only_remembered_keeps_nobody_out(member, caplog):
    """Its broker died before it could say that this member was gone."""
    member.until_meeting()
    member.hears(state("two", "g-2"), retained=True)
    member.echo()
    member.waits(sharing.GRACE_S + 1)
    assert BATCHES in member.asked
    assert "does not answer now" in caplog.text


@pytest.mark.parametrize(
    "other",
    [state("two", "g-1"), state("two", "g-2", group="others"), state("two", "g-2", group=None)],
    ids=["same store", "other group", "no group"],
)
def test_others_are_no_obstacle(member, other):
    member.until_meeting()
    member.hears(other, retained=True)
    member.hears(other)
    member.echo()
    assert (member.sharing.refusal, BATCHES in member.asked) == (None, True)


def test_a_member_answers_a_newcomer_of_another_store_once_and_stays(member, caplog):
    member.until_member()
    member.clock.now_s += sharing.NEWCOMER_S + 1
    said = len(member.said)
    for _ in range(3):
        member.hears(state("two", "g-2", Presence.OFFLINE))
    assert len(member.said) == said + 1
    member.hears(state("two", "g-2"))
    assert "members of a group share one database" in caplog.text
    assert member.sharing.refusal is None


def test_a_restored_store_is_no_other_store(member):
    """`db restore` drew a new generation: who has not looked yet looks, and says so."""
    member.until_member()
    member.generation = "g-2"
    member.hears(state("two", "g-2"))
    assert member.sharing.refusal is None


def test_hostile_states_are_ignored(member):
    member.until_meeting()
    for payload in (b"", b"\xff", b"[" * 10_000, codec.encode(state("three", "g-2"))):
        member.sharing.hear(Message(topics.collector_state("two"), payload), lambda: "g-1")
    member.echo()
    assert BATCHES in member.asked


def test_a_member_whose_store_fails_leaves_and_comes_back(member, caplog):
    caplog.set_level(logging.WARNING)
    member.until_member()
    member.waits(1, store_fails=True)
    assert (member.sharing.step, member.left[-1]) == (Step.AWAY, BATCHES)
    member.waits(sharing.AWAY_FIRST_S + 1, works=False)
    assert member.sharing.step is Step.AWAY
    member.waits(1)
    assert member.asked[-1] == BATCHES
    member.sharing.granted()
    assert member.sharing.step is Step.MEMBER
    member.waits(1, store_fails=True)
    member.waits(sharing.AWAY_FIRST_S + 1)
    assert member.sharing.step is Step.AWAY  # longer than the first time


@pytest.mark.broker
def test_what_one_member_cannot_store_another_one_gets(mosquitto, store_url):
    """The failing one leaves, and comes back when its store works."""
    address = Address(False, mosquitto.host, mosquitto.port)
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(contextlib.closing(open_store(store_url, create=True))) for _ in range(2)]
        failing = Gated(stores[0])
        board = stack.enter_context(connected(address))
        one = stack.enter_context(_listening(address, failing, "one"))
        stack.enter_context(_listening(address, stores[1], "two"))
        failing.breaks.set()
        seqs = iter(range(1, 1000))

        def has_left() -> bool:
            board.send(one_event(next(seqs)))
            return one.has_left_group

        assert eventually(has_left)
        wanted = set(range(first := next(seqs), first + 10))
        deadline_s = time.monotonic() + 60
        while wanted and time.monotonic() < deadline_s:  # what was on its way when it left has no receipt
            for seq in wanted:
                board.send(one_event(seq))
            with contextlib.suppress(queue.Empty):
                while wanted:
                    ranges = board.receipts.get(timeout=2).ranges
                    wanted -= {seq for low, high in ranges for seq in range(low, high + 1)}
        assert not wanted
        assert one.has_left_group
        failing.breaks.clear()
        assert eventually(lambda: not one.has_left_group)


def test_writers_at_one_time_store_each_key_once(store_url):
    """The same batches at two collectors, among unreadable messages: nothing is refused, and all counts are right."""
    batches = [
        wire.batch_of(*wire.events(5, device=f"b-{n % 4}"), first_seq=5 * n + 1, device=f"b-{n % 4}") for n in range(40)
    ]
    asides = [Aside(None, f"t{n}", b"x", f"reason {n % 7}") for n in range(40)]
    start = threading.Barrier(2)

    def write(turn: int) -> int:
        acknowledged = 0
        with contextlib.closing(open_store(store_url, create=True)) as store:
            start.wait(30)
            for at in range(0, 40, 4):
                entries = [*batches[at : at + 4], *asides[at : at + 4]]
                receipts = store.take(entries[::turn], 1.0)
                acknowledged += sum(high - low + 1 for one in receipts if one for low, high in one.ranges)
        return acknowledged

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(write, [1, -1])) == [200, 200]
    with contextlib.closing(open_store(store_url)) as store:
        found = store.check()
        assert found.faults == ()
        assert sum(count.stored for row in store.devices() for count in row.epochs) == 200
        assert [row.quarantined for row in store.devices()] == [0] * 4


def test_of_collectors_that_start_at_one_time_one_makes_the_store(store_url):
    start = threading.Barrier(3)

    def generation(_: int) -> str:
        start.wait(30)
        with contextlib.closing(open_store(store_url, create=True)) as store:
            return store.generation

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(generation, range(3)))) == 1


@pytest.mark.postgres
def test_a_collector_that_stands_still_in_a_transaction_keeps_its_rows_for_a_while_only(new_database, monkeypatch):
    """The server ends the transaction, and the other one stores."""
    monkeypatch.setattr(sql, "_PATIENCE", sql.patience(2))
    url = new_database()
    with contextlib.ExitStack() as stack:
        stands, lives = (stack.enter_context(contextlib.closing(open_store(url, create=True))) for _ in range(2))
        lives.ingest(one_event(1), 1.0)
        writing = stands._writing()
        writing.__enter__().exec_driver_sql("UPDATE device SET device = device")
        assert eventually(lambda: _stores(lives, 2))  # it waits for its own time as well
        with pytest.raises(StoreUnavailable):
            writing.__exit__(None, None, None)
        assert lives.receipt_for(DEVICE, wire.EPOCH).high_water == 2


def _stores(store: Store, seq: int) -> bool:
    with contextlib.suppress(StoreUnavailable):
        store.ingest(one_event(seq), 1.0)
        return True
    return False
