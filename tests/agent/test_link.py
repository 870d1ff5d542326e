"""The link against a real broker: delivered is what was receipted, whatever the broker or the collector does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.outbox import Outbox
from phasewatt import codec
from phasewatt.fields import Kind
from phasewatt.messages import Receipt
from tests.fixtures.links import PATIENT, QUICK, running
from tests.fixtures.receipts import CollectorDouble, wait_until
from tests.fixtures.records import trace, trial
from tests.fixtures.wire import events, telemetry

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


def all_sent(collector: CollectorDouble, seqs: list[int]) -> Callable[[], bool]:
    return lambda: {item.seq for batch in collector.batches for item in batch.items} >= set(seqs)


def test_rows_reach_the_collector_byte_by_byte_and_are_done(mosquitto, collector, outbox):
    record = trial()
    seqs = outbox.append([record, *events(3), telemetry(), trace([1.0, 2.0])])
    with running(mosquitto, outbox) as link:
        assert link.wait_drained(10)
        assert link.connected
        assert link.last_error is None
    assert collector.seqs() == seqs
    assert collector.stored[outbox.epoch, 1] == codec.encode(record)


def test_rows_appended_later_go_out_when_the_link_is_told(mosquitto, collector, outbox):
    with running(mosquitto, outbox) as link:
        assert wait_until(lambda: link.connected)
        seqs = outbox.append(events(2))
        link.notify()
        assert collector.until(lambda: collector.seqs() == seqs, 5)


def test_an_acknowledgement_of_the_broker_is_no_receipt(mosquitto, collector, outbox):
    """The broker took every message and the collector has it, but said nothing."""
    collector.answers = False
    seqs = outbox.append(events(3))
    with running(mosquitto, outbox) as link:
        assert collector.until(all_sent(collector, seqs))
        assert not link.wait_drained(0.5)
    assert outbox.pending() == 3


def test_what_gets_no_receipt_is_sent_again(mosquitto, collector, outbox):
    """The collector comes to its senses after three copies; they are stored once."""
    collector.ignores = lambda _: len(collector.batches) < 3
    seqs = outbox.append(events(2))
    with running(mosquitto, outbox, QUICK) as link:
        assert link.wait_drained(10)
    assert len(collector.batches) >= 3
    assert collector.seqs() == seqs


def test_rows_wait_while_there_is_no_broker_and_go_out_when_it_comes(mosquitto, outbox):
    mosquitto.stop()
    seqs = outbox.append(events(3))
    with running(mosquitto, outbox) as link:
        assert wait_until(lambda: link.last_error is not None)
        assert (
            link.last_error
            == f"broker 127.0.0.1:{mosquitto.port}: refused; is the broker running, and is this its port?"
        )
        assert not link.connected
        mosquitto.start()
        with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as collector:
            assert link.wait_drained(10)
            assert collector.seqs() == seqs


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_that_restarts_in_the_middle_costs_nothing(mosquitto, collector, outbox, end):
    """Rows are appended all the time while the broker goes twice and forgets all it had."""
    with running(mosquitto, outbox, PATIENT._replace(receipt_timeout_s=24.0)) as link:
        seqs: list[int] = []
        for round_number in range(3):
            for _ in range(20):
                seqs += outbox.append(events(5))
                link.notify()
            if round_number < 2:
                getattr(mosquitto, end)()
                seqs += outbox.append([trial()])
                mosquitto.start()
        assert link.wait_drained(20)  # well before the receipts are late: the collector greets when it is back
    assert collector.seqs() == seqs


def test_events_go_before_trials_telemetry_and_traces(mosquitto, collector, outbox):
    outbox.append([trace([1.0, 2.0]), telemetry(), trial(), *events(1)])
    with running(mosquitto, outbox) as link:
        assert link.wait_drained(10)
    assert collector.kinds() == [Kind.EVENT, Kind.TRIAL, Kind.TELEMETRY, Kind.TRACE]


def test_no_more_than_a_window_is_unreceipted(mosquitto, collector, outbox):
    """Four messages may be on their way; the fifth waits for a receipt."""
    collector.answers = False
    for _ in range(9):
        outbox.append(events(300, name="n" * 200))  # some 100 kB
    with running(mosquitto, outbox, PATIENT._replace(window_messages=4)):
        assert collector.until(lambda: len(collector.batches) == 4)
        assert not collector.until(lambda: len(collector.batches) > 4, 0.5)
        first = collector.batches[0]
        seqs = [item.seq for item in first.items]
        collector.send(a_receipt(outbox, ranges=((min(seqs), max(seqs)),), high_water=max(seqs)))
        assert collector.until(lambda: len(collector.batches) == 5)


def test_the_window_is_bounded_in_bytes_too(mosquitto, collector, outbox):
    collector.answers = False
    outbox.append(events(2500))
    with running(mosquitto, outbox, PATIENT._replace(window_bytes=1)):
        assert collector.until(lambda: len(collector.batches) == 1)
        assert not collector.until(lambda: len(collector.batches) > 1, 0.5)


def a_receipt(outbox: Outbox, **fields) -> Receipt:
    whole = {"device": "board-1", "epoch": outbox.epoch, "generation": "generation-1", "rejected": ()}
    return Receipt(**{**whole, "ranges": ((1, 1000),), "high_water": 1000, **fields})


def test_receipts_for_others_and_garbage_change_nothing_and_end_nothing(mosquitto, collector, outbox):
    collector.answers = False
    seqs = outbox.append(events(3))
    with running(mosquitto, outbox) as link:
        assert collector.until(all_sent(collector, seqs))
        collector.send_bytes("board-1", codec.encode(a_receipt(outbox, device="board-2")))
        collector.send(a_receipt(outbox, epoch="another-epoch"))
        for payload in (b"", b"\x78\x9c" * 50, b"null", b"{}", b"[" * 100_000, b"\xff" * 1000, b'{"device": 1}'):
            collector.send_bytes("board-1", payload)
        assert not link.wait_drained(0.5)
        assert outbox.pending() == 3
        collector.send(a_receipt(outbox, ranges=((1, 3),), high_water=3))
        assert link.wait_drained(5)
        assert len(collector.statuses) == 1  # it is still the first connection


def test_a_new_store_gets_everything_again(mosquitto, collector, outbox):
    """The collector's database was lost and made anew: its generation says so."""
    seqs = outbox.append(events(4))
    with running(mosquitto, outbox) as link:
        assert link.wait_drained(10)
        collector.lose(seqs)
        collector.generation = "generation-2"
        collector.greet("board-1", outbox.epoch)
        assert collector.until(lambda: collector.seqs() == seqs)


def test_a_store_restored_from_a_backup_gets_what_it_lost(mosquitto, collector, outbox):
    with running(mosquitto, outbox) as link:
        for _ in range(4):
            outbox.append(events(1))
            link.notify()
            assert link.wait_drained(10)
        collector.lose([3, 4])
        sent_before = len(collector.batches)
        collector.greet("board-1", outbox.epoch)
        assert collector.until(lambda: collector.seqs() == [1, 2, 3, 4])
    assert {item.seq for batch in collector.batches[sent_before:] for item in batch.items} == {3, 4}


def test_a_refused_row_is_kept_and_holds_up_nothing(mosquitto, collector, outbox):
    collector.refuses = lambda seq: "same key with another body" if seq == 2 else None
    outbox.append(events(3))
    with running(mosquitto, outbox, QUICK) as link:
        assert link.wait_drained(10)
        time.sleep(0.7)  # longer than the wait for a receipt: nothing is sent again
    assert collector.seqs() == [1, 3]
    assert len(collector.batches) == 1
    assert [refusal.reason for refusal in outbox.rejected()] == ["same key with another body"]


def test_a_message_that_never_gets_a_receipt_does_not_hold_up_the_rest(mosquitto, collector, outbox):
    """The collector falls silent on every message with row 2 in it; in the end that row alone is left."""
    collector.ignores = lambda batch: any(item.seq == 2 for item in batch.items)
    seqs = outbox.append([*events(30), telemetry()])
    with running(mosquitto, outbox, QUICK):
        assert collector.until(lambda: collector.seqs() == [seq for seq in seqs if seq != 2], 20)
        assert wait_until(lambda: outbox.pending() == 1)


def test_messages_that_fill_all_places_do_not_hold_up_the_rest(mosquitto, collector, outbox):
    """Three rows go first and get no receipt, and there is room for two."""
    collector.ignores = lambda batch: any(item.seq <= 3 for item in batch.items)
    seqs = outbox.append([*events(3), *events(20), telemetry()])
    with running(mosquitto, outbox, QUICK._replace(window_messages=2)):
        assert collector.until(lambda: collector.seqs() == seqs[3:], 20)
        assert wait_until(lambda: outbox.pending() == 3)


@pytest.mark.parametrize("limit", ["message_size_limit", "max_packet_size"])
def test_a_message_that_the_broker_will_not_take_does_not_hold_up_the_rest(mosquitto, outbox, limit):
    """The first limit drops a message though it is acknowledged, the second ends the connection each time."""
    mosquitto.stop()
    mosquitto.configure(f"{limit} 20000")
    mosquitto.start()
    large = trial(traces=tuple(os.urandom(128).hex() for _ in range(200)))
    outbox.append([*events(3), trial(), large, trial(), *events(3), telemetry()])
    with closing(CollectorDouble(mosquitto.host, mosquitto.port)) as collector, running(mosquitto, outbox, QUICK):
        assert collector.until(lambda: collector.seqs() == [1, 2, 3, 4, 6, 7, 8, 9, 10], 20)
        assert wait_until(lambda: outbox.pending() == 1)
