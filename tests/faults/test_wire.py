"""What else may come over the wire: everything twice, in any order, late, broken, of another version or not its own."""

from __future__ import annotations

import contextlib
import itertools
import random

import pytest
from msgspec import Raw

from collector.store import open_store
from phasewatt import codec, topics
from phasewatt.fields import Kind
from phasewatt.messages import Batch
from tests.faults import hostile
from tests.faults.field import BoardProcess, Collector, Field, account, until
from tests.faults.journal import digest
from tests.faults.wiretap import Wiretap, tapped
from tests.fixtures import golden, wire
from tests.fixtures.records import changed

pytestmark = pytest.mark.broker


def delivered(board: BoardProcess, appends: int = 40) -> None:
    """One life that ends with everything delivered."""
    board.start(appends=appends, pause_s=0.005)
    board.expect_delivered()


def put_aside(collector: Collector) -> dict[str, int]:
    """Messages and records in quarantine, by device."""
    with contextlib.closing(open_store(collector.url)) as store:
        return {row.device: row.quarantined for row in store.devices()}


def withheld(collector: Collector, device: str) -> int:
    """Records of `device` that a later version of the collector may read."""
    with contextlib.closing(open_store(collector.url)) as store:
        return sum(epoch.withheld for row in store.devices() if row.device == device for epoch in row.epochs)


def test_duplicates_reordering_and_replay_change_nothing(fleet: Field) -> None:
    """Every batch three times more, shuffled, while the board sends others; and all of it once more much later."""
    draw = random.Random(fleet.seed)
    collector, board = fleet.collector(), fleet.board()
    with tapped(fleet.broker.port) as tap:
        delivered(board)
        replayed = list(tap.batches) * 3
        draw.shuffle(replayed)
        board.start(pause_s=0.005)
        for heard in replayed:
            tap.publish(*heard)
        board.finish()
        for heard in reversed(tap.batches[:]):
            tap.publish(*heard)
    found = account(collector, board)
    assert found.faults() == []
    assert found.right == len(board.told().kept)
    assert put_aside(collector) == {"board-1": 0}


def test_hostile_payloads_disturb_no_board(fleet: Field) -> None:
    """Corrupt, truncated, deep, inflated, NaN, huge, bad UTF-8: counted under the sender, and the others go on."""
    collector, board = fleet.collector(), fleet.board()
    board.start()
    with tapped(fleet.broker.port, listens=False) as attacker:
        for letter in itertools.islice(hostile.letters(fleet.seed), 400):
            if _may_be_published(letter.topic):
                attacker.publish(*letter)
    assert collector.lives
    board.finish()
    kept = [(key, row) for key, row in collector.stored() if key.device == board.device]
    assert dict(kept) == board.told().kept
    assert put_aside(collector)[hostile.DEVICE] > 100
    assert put_aside(collector)[board.device] == 0


def _may_be_published(topic: str) -> bool:
    """Whether a client library takes the topic; others never reach a broker."""
    return bool(topic) and not set(topic) & set("+#\0\ud7ff")


def test_older_versions_are_stored_and_newer_ones_left_with_their_board(fleet: Field) -> None:
    """N-1 from the golden records; N+1 as from a board that was upgraded first: counted, not refused for good."""
    collector = fleet.collector()
    folder = golden.ROOT / f"schema_{codec.SCHEMA - 1}"
    old = [(Kind.TRIAL, "trial_ok"), (Kind.TELEMETRY, "telemetry"), (Kind.EVENT, "event"), (Kind.TRACE, "trace")]
    bodies = [(kind, (folder / f"{name}.json").read_bytes().strip()) for kind, name in old]
    with tapped(fleet.broker.port, listens=False) as sender:
        for seq, (kind, body) in enumerate(bodies, 1):
            item = wire.item(seq, wire.telemetry(), schema=codec.SCHEMA - 1, body=Raw(body))
            device = codec.decode_record(kind, codec.SCHEMA - 1, body).device
            _send(sender, wire.batch([item], kind, device=device))
        newer = [wire.item(seq, event, schema=codec.SCHEMA + 1) for seq, event in enumerate(wire.events(3), 10)]
        _send(sender, wire.batch(newer))
        until(lambda: withheld(collector, wire.DEVICE) == 3, 10, collector.printed)
    assert put_aside(collector)[wire.DEVICE] == 0
    assert sorted(row.digest for _, row in collector.stored()) == sorted(digest(body) for _, body in bodies)


def test_a_batch_on_the_topic_of_another_device_is_refused(fleet: Field) -> None:
    """In the envelope, and in the records within an envelope that is right."""
    collector, board = fleet.collector(), fleet.board()
    delivered(board, 10)
    before = collector.stored()
    with tapped(fleet.broker.port, listens=False) as stranger:
        stray = wire.batch_of(*wire.events(2, device="board-2"), device="board-2")
        stranger.publish(topics.batch("board-1", Kind.EVENT), codec.encode(stray))
        inner = wire.batch_of(*wire.events(2, device="board-2"), device="board-1", epoch="stranger")
        stranger.publish(topics.batch("board-1", Kind.EVENT), codec.encode(inner))
        until(lambda: put_aside(collector) == {"board-1": 3}, 10, collector.printed)
    assert collector.stored() == before


def test_a_key_with_another_body_is_refused_and_the_first_one_stays(fleet: Field) -> None:
    collector, board = fleet.collector(), fleet.board()
    with tapped(fleet.broker.port) as forger:
        delivered(board)
        (genuine, *_) = [heard for heard in forger.batches if heard.topic.endswith("/event")]
        batch = codec.decode(codec.unpack(genuine.payload), Batch)
        others = wire.events(len(batch.items), device="board-1", name="forged")
        items = [changed(item, body=Raw(codec.encode(other))) for item, other in zip(batch.items, others, strict=True)]
        forger.publish(genuine.topic, codec.pack(codec.encode(changed(batch, items=tuple(items)))))
        until(lambda: put_aside(collector) == {"board-1": len(items)}, 10, collector.printed)
    assert account(collector, board).faults() == []


def _send(sender: Wiretap, batch: Batch) -> None:
    sender.publish(topics.batch(batch.device, batch.kind), codec.pack(codec.encode(batch)))
