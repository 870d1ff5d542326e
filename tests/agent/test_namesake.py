"""A disk that was copied, or put back: a board that is not alone with its epoch takes another one and loses nothing."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish

from agent import spool
from agent.outbox import Outbox
from collector.store import open_store
from phasewatt import codec, topics
from phasewatt.messages import Receipt, Rejection
from phasewatt.records import Event
from tests.fixtures import wire
from tests.fixtures.broker import Mosquitto
from tests.fixtures.links import QUICK, running
from tests.fixtures.receipts import CollectorDouble, wait_until
from tests.fixtures.records import changed
from tests.fixtures.wire import DEVICE, events

CAP_BYTES = 64 * 1024 * 1024
HELD = "key_held: its key is held already, with another body"
HELD_BEFORE = "its key is held already, with another body"


def opened(directory: Path) -> Outbox:
    return Outbox.open(directory, CAP_BYTES)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(opened(tmp_path / "state")) as outbox:
        yield outbox


@pytest.fixture
def collector(mosquitto: Mosquitto) -> Iterator[CollectorDouble]:
    with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as double:
        yield double


def receipt(outbox: Outbox, **fields: Any) -> Receipt:
    whole = Receipt(device=DEVICE, epoch=outbox.epoch, generation="g", ranges=(), rejected=(), high_water=0)
    return changed(whole, **fields)


def names(outbox: Outbox) -> dict[int, str]:
    """The names of the events that are pending, by seq."""
    parcel = outbox.next_parcel()
    items = parcel.items if parcel else ()
    return {item.seq: codec.decode_record(parcel.kind, item.schema, bytes(item.body)).name for item in items}


def named(*wanted: str) -> list[Event]:
    return [changed(events(1)[0], name=name) for name in wanted]


def kept_status(mosquitto: Mosquitto, **fields: Any) -> None:
    """Have the broker keep a status of this device."""
    body = codec.encode(wire.status(**fields))
    publish.single(topics.status(DEVICE), body, qos=1, retain=True, hostname=mosquitto.host, port=mosquitto.port)


def test_a_fork_keeps_every_row_under_new_numbers_without_gaps(tmp_path):
    """What a collector was told of the old epoch does not count for the new one."""
    with closing(opened(tmp_path)) as outbox:
        before = outbox.epoch
        outbox.append(named(*"abcdef"))
        outbox.apply(receipt(outbox, ranges=((1, 2),), rejected=(Rejection(seq=3, reason="bad"),), high_water=2))
        with outbox.transaction() as db:
            db.execute("DELETE FROM row WHERE seq = 4")
            db.execute("INSERT INTO dropped VALUES ('event', 1)")
        outbox.fork(named("notice")[0])
        assert outbox.epoch != before
        assert names(outbox) == dict(enumerate(["a", "b", "c", "e", "f", "notice"], 1))
        assert (outbox.dropped(), outbox.rejected()) == ({}, [])
        assert not outbox.apply(receipt(outbox, epoch=before, ranges=((1, 6),), high_water=6))
        outbox.apply(receipt(outbox, ranges=((1, 2),), high_water=2))  # the generation is new to this epoch
        assert list(names(outbox)) == [3, 4, 5, 6]
        epoch = outbox.epoch
    with closing(opened(tmp_path)) as outbox:
        assert outbox.epoch == epoch
        assert outbox.append(named("g")) == [7]
        assert names(outbox) == {3: "c", 4: "e", 5: "f", 6: "notice", 7: "g"}


def test_a_row_whose_key_is_held_goes_again_under_another(tmp_path):
    with closing(opened(tmp_path)) as outbox:
        outbox.append(named("a", "b"))
        refused = (Rejection(seq=1, reason=HELD), Rejection(seq=2, reason="bad"))
        for _ in range(2):  # it may come twice
            outbox.apply(receipt(outbox, rejected=refused, high_water=5))
        assert names(outbox) == {6: "a"}
        assert outbox.rejected() == [Rejection(seq=2, reason="bad")]
        assert outbox.append(named("c")) == [7]
    with closing(opened(tmp_path)) as outbox:
        assert names(outbox) == {6: "a", 7: "c"}


@pytest.mark.parametrize("reason", [HELD, HELD_BEFORE, "key_held: in the words of a later version"])
def test_a_row_that_meets_held_keys_again_and_again_stays_refused(outbox, reason, caplog):
    """So that two boards which fight over their keys come to rest; five new numbers a row."""
    outbox.append(named("a"))
    for seq in range(1, 7):
        assert names(outbox) == {seq: "a"}
        outbox.apply(receipt(outbox, rejected=(Rejection(seq=seq, reason=reason),), high_water=seq))
    assert outbox.pending() == 0
    assert outbox.rejected() == [Rejection(seq=6, reason=reason)]
    assert "row 6 met a held key too often and stays here" in caplog.text


def test_a_key_used_twice_costs_no_row_with_a_real_store(tmp_path):
    """The disk lost a commit that the collector holds, and gave the number again."""
    with closing(open_store(f"sqlite:///{tmp_path}/store.db", create=True)) as store:
        with closing(opened(tmp_path / "state")) as outbox:
            for name in ("lost", "found"):
                outbox.append(named(name))
                if name == "lost":
                    store.ingest(wire.batch(outbox.next_parcel().items, epoch=outbox.epoch), 0.0)
                    with outbox.transaction() as db:
                        for table in ("row", "body", "sqlite_sequence"):
                            db.execute(f"DELETE FROM {table}")
            while parcel := outbox.next_parcel():
                assert outbox.apply(store.ingest(wire.batch(parcel.items, epoch=outbox.epoch), 0.0))
            assert outbox.rejected() == []
        stored = [bytes(item.body) for batch in store.batches() for item in batch.items]
    assert sorted(stored) == sorted(map(codec.encode, named("lost", "found")))


def test_only_the_own_sessions_are_recognised_over_restarts(tmp_path):
    with closing(opened(tmp_path)) as outbox:
        session = outbox.new_session()
    with closing(opened(tmp_path)) as outbox:
        assert outbox.recognises(session)
        assert not outbox.recognises("another")


def test_old_sessions_are_forgotten_in_the_end(outbox):
    first, *_, last = [outbox.new_session() for _ in range(300)]
    assert (outbox.recognises(first), outbox.recognises(last)) == (False, True)
    with outbox.reading() as db:
        assert spool.value(db, "SELECT count(*) FROM session") == 256


def test_a_full_disk_does_not_keep_a_board_from_delivering(tmp_path):
    """It goes by a name that it had before, which it will recognise."""
    opened_spool = spool.open_spool(tmp_path)
    with closing(Outbox(opened_spool, CAP_BYTES)) as outbox:
        session = outbox.new_session()
        outbox.append(events(20))
        opened_spool.db.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size then
        seen = {outbox.new_session() for _ in range(500)}
        assert session in seen or all(outbox.recognises(name) for name in seen)


def as_format_1(path: Path) -> None:
    """Make a spool what an older agent left."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            """ALTER TABLE row DROP COLUMN body; ALTER TABLE row DROP COLUMN moves; DROP TABLE session;
            PRAGMA user_version = 1;"""
        )


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 35), reason="this SQLite cannot drop columns")
def test_an_outbox_of_the_older_format_is_upgraded_without_loss(tmp_path):
    """It never noted its sessions, so the first one that it meets is taken for its own."""
    with closing(opened(tmp_path)) as outbox:
        epoch = outbox.epoch
        outbox.append(named("a", "b"))
    as_format_1(tmp_path / spool.NAME)
    with closing(Outbox.read(tmp_path)) as reader:
        assert names(reader) == {1: "a", 2: "b"}
    with closing(opened(tmp_path)) as outbox:
        assert (outbox.epoch, outbox.set_aside) == (epoch, None)
        outbox.append(named("c"))
        assert names(outbox) == {1: "a", 2: "b", 3: "c"}
        assert outbox.recognises("from before")
        assert outbox.recognises("from before")
        assert not outbox.recognises("another")
        outbox.fork(named("notice")[0])
        outbox.append(named("d"))
        assert names(outbox) == dict(enumerate(["a", "b", "c", "notice", "d"], 1))


@pytest.mark.broker
def test_a_copied_disk_forks_and_both_boards_rows_are_stored(mosquitto, collector, tmp_path):
    """The original was online since; the copy has its epoch and does not know its sessions."""
    with closing(opened(tmp_path / "a")) as original:
        original.append(named("common"))
        with running(mosquitto, original) as link:
            assert link.wait_drained(10)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with closing(opened(tmp_path / "a")) as original, closing(opened(tmp_path / "b")) as copy:
        original.append(named("of the original"))
        copy.append(named("of the copy"))
        with running(mosquitto, original) as link:
            assert link.wait_drained(10)
        with running(mosquitto, copy, QUICK) as link:
            assert wait_until(lambda: copy.epoch != original.epoch)
            assert link.wait_drained(10)
        epoch = original.epoch
        with running(mosquitto, original) as link:  # another epoch is no matter
            assert link.wait_drained(10)
        assert original.epoch == epoch
        held = {(of, codec.decode(body, Event).name) for (of, _), body in collector.stored.items()}
        assert held == {
            *((original.epoch, name) for name in ("common", "of the original")),
            *((copy.epoch, name) for name in ("common", "of the copy", "outbox-forked")),
        }
        assert {seq for of, seq in collector.stored if of == copy.epoch} == {1, 2, 3}


@pytest.mark.broker
def test_a_receipt_for_the_copy_is_not_believed_before_it_is_known_whose_it_is(mosquitto, collector, outbox):
    """Kept by the broker, so that it comes before anything else."""
    outbox.append(events(1))
    body = codec.encode(receipt(outbox, ranges=((1, 1),), high_water=1))
    publish.single(topics.receipt(DEVICE), body, qos=1, retain=True, hostname=mosquitto.host, port=mosquitto.port)
    collector.answers = False
    with running(mosquitto, outbox, QUICK):
        assert collector.until(lambda: bool(collector.batches))
        assert outbox.pending() == 1


@pytest.mark.broker
def test_a_disk_that_was_put_back_to_an_older_state_forks(mosquitto, collector, tmp_path):
    with closing(opened(tmp_path / "a")) as outbox, running(mosquitto, outbox):
        assert collector.until(lambda: bool(collector.statuses))
    shutil.copytree(tmp_path / "a", tmp_path / "image")
    with closing(opened(tmp_path / "a")) as outbox, running(mosquitto, outbox):
        assert collector.until(lambda: len({status.session for status in collector.statuses}) == 2)
    with closing(opened(tmp_path / "image")) as restored, running(mosquitto, restored, QUICK):
        assert wait_until(lambda: restored.epoch != outbox.epoch)


@pytest.mark.broker
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_board_alone_with_its_name_never_forks(mosquitto, collector, tmp_path, end):
    """Over restarts, broken connections and its own last will."""
    mosquitto.configure("persistence true")
    mosquitto.configure(f"persistence_location {tmp_path}/")
    with closing(opened(tmp_path / "state")) as outbox:
        epoch = outbox.epoch
    for _ in range(3):
        sessions = len({status.session for status in collector.statuses})
        with closing(opened(tmp_path / "state")) as outbox, running(mosquitto, outbox, QUICK):
            assert collector.until(lambda known=sessions: len({s.session for s in collector.statuses}) > known)
            getattr(mosquitto, end)()
            mosquitto.start()
            assert collector.until(lambda known=sessions: len({s.session for s in collector.statuses}) > known + 1)
            assert outbox.epoch == epoch


@pytest.mark.broker
@pytest.mark.parametrize("body", [codec.encode(wire.status(epoch="another", session="foreign")), b"garbage"])
def test_a_status_of_another_epoch_or_none_at_all_is_no_matter(mosquitto, outbox, body):
    epoch = outbox.epoch
    outbox.append(events(1))
    publish.single(topics.status(DEVICE), body, qos=1, retain=True, hostname=mosquitto.host, port=mosquitto.port)
    with running(mosquitto, outbox, QUICK) as link:
        time.sleep(1.0)
        with closing(CollectorDouble(mosquitto.host, mosquitto.port)):
            assert link.wait_drained(10)
    assert outbox.epoch == epoch


@pytest.mark.broker
def test_a_board_that_may_not_read_its_status_delivers_all_the_same(mosquitto, collector, outbox, tmp_path):
    """The broker grants the subscription and sends nothing, as access lists of mosquitto do."""
    acl = tmp_path / "acl"
    acl.write_text("topic write phasewatt/#\ntopic read phasewatt/v1/+/receipt\ntopic read phasewatt/v1/+/batch/#\n")
    kept_status(mosquitto, epoch=outbox.epoch, session="foreign")
    mosquitto.stop()
    mosquitto.configure(f"acl_file {acl}")
    mosquitto.start()
    outbox.append(events(1))
    with running(mosquitto, outbox, QUICK) as link:
        assert link.wait_drained(5)
