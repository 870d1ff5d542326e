"""The outbox: a row is done on the collector's receipt alone, and nothing is lost unseen up to the cap."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent import spool
from agent.outbox import MIN_CAP_BYTES, PARCEL_BYTES, Outbox, OutboxFull
from phasewatt import codec
from phasewatt.errors import ConfigInvalid, RecordRejected
from phasewatt.fields import Kind
from phasewatt.messages import Batch, Clock, Receipt, Rejection
from phasewatt.traces import Series, Telemetry, Trace
from tests.fixtures.records import changed, channel, trace, trial
from tests.fixtures.wire import batch, events, telemetry

CAP_BYTES = 64 * 1024 * 1024
ROW_BYTES = 200_000


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as opened:
        yield opened


def receipt(outbox: Outbox, seqs: Iterable[int] = (), **fields) -> Receipt:
    """The word of a collector that holds `seqs` and nothing else of this outbox."""
    held = tuple(seqs)
    whole = Receipt(
        device="board-1",
        epoch=outbox.epoch,
        generation="generation-1",
        ranges=tuple((seq, seq) for seq in held),
        rejected=(),
        high_water=max(held, default=0),
    )
    return changed(whole, **fields)


def sending(outbox: Outbox) -> list[int]:
    """The seqs that would be sent, in the order of sending."""
    found: list[int] = []
    while parcel := outbox.next_parcel(set(found), max_bytes=1):
        found += parcel.seqs
    return found


def large_telemetry(size_bytes: int) -> Telemetry:
    """Telemetry of about that size that no compression makes much smaller."""
    chance = random.Random(size_bytes)
    steps = tuple(chance.randrange(10**14, 10**15) for _ in range(size_bytes // 18))
    return telemetry(time=ticks(len(steps)), values=(Series(name="noise", unit="1", scale=1.0, steps=steps),))


def large_trace(size_bytes: int) -> Trace:
    """A trace of about that size."""
    whole = large_telemetry(size_bytes)
    return changed(trace([1.0], (channel(), lambda _: 1.0)), time=whole.time, values=whole.values)


def ticks(count: int) -> Series:
    return Series(name="time", unit="s", scale=1e-9, steps=(1,) * count)


def test_rows_and_their_epoch_are_there_after_a_restart(tmp_path):
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as before:
        assert before.append(events(3)) == [1, 2, 3]
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as after:
        assert after.epoch == before.epoch
        assert sending(after) == [1, 2, 3]
        assert after.append(events(1)) == [4]


def test_a_seq_is_never_given_twice(tmp_path):
    """Not even when every row is gone: the collector knows rows by it."""
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        seqs = [seq for _ in range(120) for seq in outbox.append([large_telemetry(ROW_BYTES)])]
        assert outbox.dropped()["telemetry"] > 10
    assert seqs == list(range(1, 121))


def test_records_are_stored_all_or_none(outbox):
    good, bad = events(1)[0], changed(events(1)[0], message="x" * 5000)
    with pytest.raises(RecordRejected, match="not a valid event: Expected `str` of length <= 4096"):
        outbox.append([good, bad])
    assert outbox.pending() == 0


def test_a_record_too_large_for_a_message_is_refused_before_it_is_stored(outbox):
    with pytest.raises(RecordRejected, match=r"telemetry of \d+ bytes \(\d+ compressed\) does not fit .*split it"):
        outbox.append([large_telemetry(4 * PARCEL_BYTES)])
    assert outbox.pending() == 0


def test_a_large_record_that_compresses_well_goes_alone_and_fits(outbox):
    """What `append` takes can be sent, also where it only fits by compression."""
    flat = telemetry(time=ticks(500_000), values=(Series(name="flat", unit="1", scale=1.0, steps=(0,) * 500_000),))
    outbox.append([telemetry(), flat, telemetry()])
    parcels = [outbox.parcel_of(seq) for seq in (1, 2, 3)]
    assert [len(parcel.items) for parcel in parcels] == [1, 1, 1]
    assert outbox.next_parcel(exclude={3}).seqs == {2}
    assert len(codec.pack(codec.encode(batch(parcels[1].items)))) < codec.MAX_PAYLOAD_BYTES


def test_full_parcels_fit_a_payload_even_uncompressed(outbox):
    outbox.append([large_telemetry(30_000) for _ in range(30)])
    parcel = outbox.next_parcel()
    assert 5 < len(parcel.items) < 30
    assert len(codec.encode(batch(parcel.items))) <= codec.MAX_PAYLOAD_BYTES


def test_a_parcel_has_a_bounded_number_of_rows(outbox):
    outbox.append(events(1200))
    assert len(outbox.next_parcel().items) == 500


def test_events_go_first_then_trials_newest_telemetry_its_backlog_and_traces(outbox):
    """Rows 1 to 8 are given in the order in which nothing is sent."""
    one_trace = trace([1.0, 2.0])
    outbox.append([one_trace, telemetry(), trial(), events(1)[0], one_trace, telemetry(), trial(), events(1)[0]])
    assert sending(outbox) == [4, 8, 3, 7, 6, 2, 1, 5]


def test_a_parcel_holds_one_kind_and_leaves_out_what_is_on_its_way(outbox):
    outbox.append([*events(3), trial()])
    assert outbox.next_parcel().seqs == {1, 2, 3}
    assert outbox.next_parcel(exclude={2}).seqs == {1, 3}
    parcel = outbox.next_parcel(exclude={1, 2, 3})
    assert (parcel.kind, parcel.seqs) == (Kind.TRIAL, {4})
    assert outbox.next_parcel(exclude={1, 2, 3, 4}) is None


def test_only_a_receipt_makes_a_row_done(outbox, tmp_path):
    outbox.append(events(4))
    outbox.next_parcel()
    assert outbox.pending() == 4
    assert outbox.apply(receipt(outbox, ranges=((1, 2), (4, 4)), high_water=4))
    assert sending(outbox) == [3]


def test_a_receipt_of_another_epoch_is_ignored(outbox):
    outbox.append(events(2))
    assert not outbox.apply(receipt(outbox, [1, 2], epoch="of-an-older-outbox"))
    assert outbox.pending() == 2


def test_a_receipt_that_comes_again_changes_nothing(outbox):
    outbox.append(events(3))
    for _ in range(3):
        outbox.apply(receipt(outbox, [1, 2, 3]))
    assert outbox.pending() == 0


def test_a_new_generation_gets_every_row_again(outbox):
    outbox.append(events(5))
    outbox.apply(receipt(outbox, [1, 2, 3]))
    outbox.apply(receipt(outbox, generation="generation-2"))
    assert sending(outbox) == [1, 2, 3, 4, 5]


def test_two_collectors_that_take_turns_do_not_cause_resends_for_ever(outbox):
    """Each generation is new once: a second collector on the broker costs one resend."""
    outbox.append(events(3))
    for _ in range(2):
        outbox.apply(receipt(outbox, [1, 2, 3]))
        outbox.apply(receipt(outbox, [1, 2, 3], generation="generation-2"))
    assert outbox.pending() == 0


def test_a_store_that_comes_back_after_another_gets_what_the_other_got(outbox):
    """A new database was tried for a day; the old one never fell, but it lacks that day."""
    outbox.append(events(5))
    outbox.apply(receipt(outbox, [1, 2, 3]))
    outbox.apply(receipt(outbox, [1, 2, 3, 4, 5], generation="generation-2"))
    outbox.apply(receipt(outbox, high_water=3))
    assert {4, 5} <= set(sending(outbox))


def test_a_store_that_fell_back_gets_what_it_lost(outbox):
    """The collector was restored from a backup that ends at row 2."""
    outbox.append(events(5))
    for seq in range(1, 6):
        outbox.apply(receipt(outbox, [seq]))
    outbox.apply(receipt(outbox, high_water=2))
    assert sending(outbox) == [3, 4, 5]


def test_a_store_that_fell_back_gets_older_rows_that_it_had_received_later(outbox):
    """Backlog is sent after newer rows: the backup ends at row 9, and rows 1 and 2 came after that."""
    outbox.append(events(10))
    for seq in (9, 1, 2, 10):
        outbox.apply(receipt(outbox, [seq], high_water=max(9, seq)))
    outbox.apply(receipt(outbox, high_water=9))
    assert sending(outbox) == [1, 2, 3, 4, 5, 6, 7, 8, 10]


def test_receipts_of_two_collectors_on_one_store_may_cross(outbox):
    """The one that answers rows and is behind comes late; it says what it says of its rows, and of no fall."""
    outbox.append(events(6))
    outbox.apply(receipt(outbox, [1, 2], high_water=2))
    outbox.apply(receipt(outbox, [5, 6], high_water=6))
    outbox.apply(receipt(outbox, [3, 4], high_water=4))
    assert outbox.pending() == 0
    outbox.apply(receipt(outbox, high_water=4))  # a greeting that says so does tell of one
    assert {5, 6} <= set(sending(outbox))


def test_a_fall_is_seen_though_the_highest_rows_were_given_up_since(tmp_path):
    """The backup ends at row 3, which is no longer here to say that rows 1 and 2 came after it."""
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        outbox.append([*events(2), large_telemetry(ROW_BYTES), large_telemetry(ROW_BYTES)])
        for seqs, high_water in (([3], 3), ([1, 2], 3), ([4], 4)):
            outbox.apply(receipt(outbox, seqs, high_water=high_water))
        while remaining(outbox, Kind.TELEMETRY)[0] <= 4:
            outbox.append([large_telemetry(ROW_BYTES)])
        outbox.apply(receipt(outbox, high_water=3))
        assert {1, 2} <= set(sending(outbox))


def test_an_outbox_that_lost_its_tail_passes_over_keys_that_the_collector_knows(outbox):
    """A card that lied about a sync, or a restored image: a key used twice would be refused."""
    outbox.append(events(3))
    outbox.apply(receipt(outbox, high_water=10))
    assert outbox.append(events(1)) == [11]


def test_a_nonsensical_high_water_does_not_use_up_the_keys(outbox):
    outbox.append(events(3))
    outbox.apply(receipt(outbox, high_water=2**53))
    assert outbox.append(events(1)) == [4]


def test_a_refused_row_is_kept_with_its_reason_and_not_sent_again(outbox):
    outbox.append(events(3))
    refusal = Rejection(seq=2, reason="same key with another body")
    outbox.apply(receipt(outbox, [1, 3], rejected=(refusal,)))
    assert (outbox.pending(), outbox.rejected(), sending(outbox)) == (0, [refusal], [])
    exported = list(outbox.batches("board-1", "boot-1", Clock(synchronised=None, offset_bound_s=None)))
    assert [item.seq for item in exported[0].items] == [1, 2, 3]


def test_a_row_that_rotted_on_disk_is_refused_here_and_holds_up_nothing(outbox):
    outbox.append(events(3))
    with outbox.transaction() as db:
        db.execute("UPDATE body SET bytes = X'7B7D' WHERE seq = 2")
    assert sending(outbox) == [1, 3]
    assert outbox.rejected() == [Rejection(seq=2, reason="damaged on the board's disk")]


def fill(outbox: Outbox, **rows: int) -> dict[str, list[int]]:
    """The seqs of so many rows of about 200 kB a kind, in the order given."""
    made = {
        "telemetry": lambda: large_telemetry(ROW_BYTES),
        "trace": lambda: large_trace(ROW_BYTES),
    }
    return {kind: [outbox.append([made[kind]()])[0] for _ in range(count)] for kind, count in rows.items()}


def remaining(outbox: Outbox, kind: Kind) -> list[int]:
    clock = Clock(synchronised=None, offset_bound_s=None)
    found = [each for each in outbox.batches("board-1", "boot-1", clock) if each.kind is kind]
    return [item.seq for each in found for item in each.items]


def test_at_the_cap_delivered_rows_go_first(tmp_path):
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        first = fill(outbox, trace=30)["trace"]
        outbox.apply(receipt(outbox, first))
        later = fill(outbox, telemetry=60)["telemetry"]
        assert remaining(outbox, Kind.TRACE) == []
        assert set(remaining(outbox, Kind.TELEMETRY)) == set(later[-outbox.pending() :])
        assert set(outbox.dropped()) <= {"telemetry"}


def test_at_the_cap_oldest_telemetry_goes_before_traces_and_these_before_trials(tmp_path):
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        kept = outbox.append([trial(), *events(2)])
        old = fill(outbox, telemetry=15, trace=30)
        fill(outbox, trace=45)
        left = remaining(outbox, Kind.TRACE)
        assert remaining(outbox, Kind.TELEMETRY) == []
        assert left == list(range(left[0], left[-1] + 1))
        assert left[0] > old["trace"][0]
        assert outbox.dropped() == {"telemetry": 15, "trace": 75 - len(left)}
        assert sending(outbox)[:3] == [2, 3, kept[0]]


def test_new_telemetry_never_pushes_out_traces_or_results(tmp_path):
    """Where all room is taken by better rows, the newcomer is the one to go, and is counted."""
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        fill(outbox, trace=75)
        before = remaining(outbox, Kind.TRACE)
        fill(outbox, telemetry=3)
        assert remaining(outbox, Kind.TRACE) == before
        assert outbox.dropped()["telemetry"] == 3


def test_only_when_nothing_else_is_left_events_and_trials_go_oldest_first(tmp_path):
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        chance = random.Random(7)
        large = changed(trial(), traces=tuple(f"{chance.getrandbits(1024):0256x}" for _ in range(800)))
        seqs = [outbox.append([large])[0] for _ in range(120)]
        left = sending(outbox)
        assert left == seqs[-len(left) :]
        assert outbox.dropped() == {"trial": 120 - len(left)}


def test_drops_are_counted_over_restarts(tmp_path):
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        fill(outbox, telemetry=90)
        before = outbox.dropped()
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        assert outbox.dropped() == before
        fill(outbox, telemetry=1)
        assert outbox.dropped() == {"telemetry": before["telemetry"] + 1}


def test_the_files_stay_under_the_cap_whatever_is_appended(tmp_path):
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        for number in range(60):
            outbox.append([large_telemetry(ROW_BYTES), *events(number)])
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= MIN_CAP_BYTES


def test_a_lowered_cap_shrinks_the_file_at_the_next_start(tmp_path):
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as outbox:
        fill(outbox, telemetry=100)
    with closing(Outbox.open(tmp_path, MIN_CAP_BYTES)) as outbox:
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= MIN_CAP_BYTES
        assert outbox.pending() + outbox.dropped()["telemetry"] == 100


def test_a_cap_too_small_to_work_with_is_refused(tmp_path):
    with pytest.raises(ConfigInvalid, match="outbox cap: expected at least 8388608 bytes, got 1000"):
        Outbox.open(tmp_path, 1000)


def test_a_full_disk_is_an_error_and_leaves_the_outbox_as_it_was(tmp_path):
    opened = spool.open_spool(tmp_path)
    opened.db.execute("PRAGMA max_page_count = 100")  # what SQLite answers is the same as on a full disk
    with closing(Outbox(opened, CAP_BYTES)) as outbox:
        outbox.append(events(2))
        with pytest.raises(OutboxFull, match="the disk is full, nothing was stored; free some space"):
            outbox.append([*events(1), large_telemetry(PARCEL_BYTES // 2), *[large_telemetry(ROW_BYTES)] * 3])
        assert sending(outbox) == [1, 2]
        assert outbox.append(events(1)) == [3]


def test_an_export_has_the_keys_and_bytes_that_are_sent(outbox, tmp_path):
    """So that rows which arrive both ways are stored once."""
    outbox.append([*events(3), trial(), telemetry()])
    sent = {(item.seq, bytes(item.body)) for seq in range(1, 6) for item in outbox.parcel_of(seq).items}
    outbox.apply(receipt(outbox, [1, 2, 4]))
    with closing(Outbox.read(tmp_path)) as reader:  # while the agent has it open
        exported = list(reader.batches("board-1", "boot-1", Clock(synchronised=True, offset_bound_s=None)))
    assert {(item.seq, bytes(item.body)) for each in exported for item in each.items} == sent
    assert {each.epoch for each in exported} == {outbox.epoch}
    again = [codec.decode(codec.encode(each), Batch) for each in exported]
    assert [each.kind for each in again] == [each.kind for each in exported]


def test_a_block_that_fails_leaves_nothing_of_what_it_appended(outbox):
    def fail_after_append() -> None:
        with outbox.transaction():
            outbox.append(events(2))
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_append()
    assert outbox.pending() == 0


def test_one_thread_appends_while_another_delivers(outbox):
    def deliver() -> None:
        while len(done) < 600:
            if parcel := outbox.next_parcel():
                outbox.apply(receipt(outbox, parcel.seqs, high_water=max(parcel.seqs | done)))
                done.update(parcel.seqs)

    done: set[int] = set()
    thread = threading.Thread(target=deliver, daemon=True)
    thread.start()
    seqs = [seq for number in range(200) for seq in outbox.append(events(3, name=str(number)))]
    thread.join(20)
    assert done == set(seqs)
    assert outbox.pending() == 0
