"""The spool outlives kills, power cuts and damage: what was committed is there, and the start is never blocked."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from agent import spool
from agent.outbox import Outbox
from phasewatt.errors import StoreUnavailable
from phasewatt.messages import Receipt
from tests.fixtures.wire import events

CAP_BYTES = 64 * 1024 * 1024
NOW_UNIX_S = 1.7e9

# Three events a transaction, all with the number of the transaction, which is printed once it is committed.
APPEND_FOR_EVER = """
import sys
from pathlib import Path
from agent.outbox import Outbox
from tests.fixtures.wire import events
outbox = Outbox.open(Path(sys.argv[1]), 64 * 1024 * 1024)
for number in range(10**9):
    outbox.append(events(3, name=str(number)))
    print(number, flush=True)
"""


def kept(outbox: Outbox) -> list[int]:
    """The numbers of the transactions whose events the outbox holds, in order."""
    found: dict[int, int] = {}
    exclude: set[int] = set()
    while parcel := outbox.next_parcel(exclude):
        exclude |= parcel.seqs
        found |= {item.seq: int(bytes(item.body).split(b'"name":"')[1].split(b'"')[0]) for item in parcel.items}
    return [found[seq] for seq in sorted(found)]


def outbox_with(directory: Path, transactions: int) -> Outbox:
    outbox = Outbox.open(directory, CAP_BYTES)
    for number in range(transactions):
        outbox.append(events(3, name=str(number)))
    return outbox


@pytest.mark.parametrize("seed", range(6))
def test_what_was_committed_survives_kill_9_in_mid_append(tmp_path, seed):
    """Every transaction that was reported done is there, whole; at most one more, also whole."""
    committed = random.Random(seed).randrange(1, 150)
    writer = subprocess.Popen(
        [sys.executable, "-c", APPEND_FOR_EVER, tmp_path], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    with writer:
        for line in writer.stdout:
            if int(line) == committed:
                break
        writer.send_signal(signal.SIGKILL)
        reported = [committed, *map(int, writer.stdout)][-1]
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as outbox:
        numbers = kept(outbox)
    assert outbox.set_aside is None
    assert numbers in ([n for n in range(last + 1) for _ in range(3)] for last in (reported, reported + 1))


@pytest.mark.parametrize("seed", range(25))
def test_a_log_cut_by_a_power_loss_loses_only_its_tail(tmp_path, seed):
    """Whatever part of the write-ahead log reached the disk, whole transactions are read, the earliest first."""
    outbox = outbox_with(tmp_path / "live", 30)
    shutil.copytree(tmp_path / "live", tmp_path / "cut")
    outbox.close()
    log = tmp_path / "cut" / f"{spool.NAME}-wal"
    os.truncate(log, random.Random(seed).randrange(log.stat().st_size))
    (tmp_path / "cut" / f"{spool.NAME}-shm").unlink()
    with closing(Outbox.open(tmp_path / "cut", CAP_BYTES)) as cut:
        numbers = kept(cut)
        assert cut.append(events(1)) != []
    assert numbers == [number for number in range(len(numbers) // 3) for _ in range(3)]


def test_every_commit_is_synced_before_it_returns(tmp_path):
    """FULL (2) or more in write-ahead mode: what `append` returned for is on the disk."""
    with closing(outbox_with(tmp_path, 1)) as outbox, outbox.reading() as db:
        assert spool.value(db, "PRAGMA journal_mode") == "wal"
        assert spool.value(db, "PRAGMA synchronous") >= 2


def test_a_spool_of_garbage_is_set_aside_and_a_fresh_one_begins(tmp_path):
    (tmp_path / spool.NAME).write_bytes(b"not a database at all" * 500)
    with closing(Outbox.open(tmp_path, CAP_BYTES, lambda: NOW_UNIX_S)) as outbox:
        assert outbox.append(events(2)) == [1, 2]
    assert outbox.set_aside.name.startswith("outbox.db.damaged-20231114T221320Z-")
    assert outbox.set_aside.read_bytes().startswith(b"not a database")


def test_a_truncated_spool_is_set_aside_with_a_new_epoch(tmp_path):
    outbox = outbox_with(tmp_path, 200)
    outbox.close()
    os.truncate(tmp_path / spool.NAME, (tmp_path / spool.NAME).stat().st_size // 2)
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as fresh:
        assert fresh.set_aside.exists()
        assert fresh.epoch != outbox.epoch
        assert fresh.pending() == 0


def test_a_spool_is_set_aside_with_its_log(tmp_path):
    """The newest rows are in the log alone: who wants to rescue them needs both."""
    with closing(outbox_with(tmp_path / "live", 200)):
        shutil.copytree(tmp_path / "live", tmp_path / "hurt")
    path = tmp_path / "hurt" / spool.NAME
    path.write_bytes(b"garbage!" * (path.stat().st_size // 8))
    (tmp_path / "hurt" / f"{spool.NAME}-shm").unlink()
    with closing(Outbox.open(tmp_path / "hurt", CAP_BYTES)) as fresh:
        log = fresh.set_aside.with_name(f"{fresh.set_aside.name}-wal")
        assert log.stat().st_size > 0


def test_a_database_of_something_else_is_set_aside_whole(tmp_path):
    with closing(sqlite3.connect(tmp_path / spool.NAME)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
        db.commit()
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as outbox:
        assert outbox.pending() == 0
    with closing(sqlite3.connect(outbox.set_aside)) as db:
        assert db.execute("SELECT * FROM recipes").fetchall() == []


def test_an_empty_file_is_a_spool_whose_power_went_before_it_began(tmp_path):
    (tmp_path / spool.NAME).touch()
    with closing(Outbox.open(tmp_path, CAP_BYTES)) as outbox:
        assert outbox.append(events(1)) == [1]
    assert outbox.set_aside is None


def test_two_spools_that_were_set_aside_are_kept_and_no_more(tmp_path):
    """A failing card does not fill itself with its own damage."""
    names = []
    for number in range(4):
        (tmp_path / spool.NAME).write_bytes(b"garbage" * 1000)
        (tmp_path / f"{spool.NAME}-wal").unlink(missing_ok=True)
        with closing(Outbox.open(tmp_path, CAP_BYTES, lambda now=NOW_UNIX_S + number: now)) as outbox:
            names.append(outbox.set_aside.name)
    assert sorted(path.name for path in tmp_path.glob("*.damaged-*")) == names[2:]


def test_a_spool_of_a_newer_version_is_refused_and_left_as_it_was(tmp_path):
    outbox_with(tmp_path, 1).close()
    path = tmp_path / spool.NAME
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 3")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"newer phasewatt \(format 3, this one reads 2\): upgrade"):
        Outbox.open(tmp_path, CAP_BYTES)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*damaged*")) == []


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "state").write_text("a file, not a directory")
    with pytest.raises(StoreUnavailable, match=r"outbox .*state/outbox.db cannot be opened: .*; check"):
        Outbox.open(tmp_path / "state", CAP_BYTES)


def test_reading_where_nothing_was_measured_is_one_clear_line(tmp_path):
    with pytest.raises(StoreUnavailable, match="no outbox in"):
        Outbox.read(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(120))
def test_random_damage_never_blocks_the_start(tmp_path, seed):
    """Bits, blocks or ends are lost: the outbox opens, and takes, gives and settles rows."""
    chance = random.Random(seed)
    outbox = outbox_with(tmp_path / "sound", 20)
    if seed % 2:
        outbox.close()
    shutil.copytree(tmp_path / "sound", tmp_path / "hurt")
    outbox.close()
    victim = chance.choice([path for path in sorted((tmp_path / "hurt").iterdir()) if path.stat().st_size])
    victim.write_bytes(damaged(victim.read_bytes(), chance))
    with closing(Outbox.open(tmp_path / "hurt", CAP_BYTES)) as hurt:
        newest = hurt.append(events(1))[0]
        assert newest in kept_seqs(hurt)
        receipt = Receipt(
            device="board-1", epoch=hurt.epoch, generation="g", ranges=((1, 1000),), rejected=(), high_water=newest
        )
        assert hurt.apply(receipt)
        assert hurt.pending() == 0


@pytest.mark.parametrize("seed", range(60))
def test_damage_that_the_check_did_not_reach_is_met_later_and_ends_at_the_next_start(tmp_path, seed):
    """The check of a large spool is limited in time; here it has none."""
    chance = random.Random(seed)
    outbox_with(tmp_path, 60).close()
    path = tmp_path / spool.NAME
    path.write_bytes(damaged(path.read_bytes(), chance))
    with closing(Outbox.open(tmp_path, CAP_BYTES, check_s=0.0)) as hurt:
        met = False
        try:
            hurt.append(events(1))
            kept_seqs(hurt)
        except StoreUnavailable:
            met = True
    assert spool.is_doubted(tmp_path) is met
    with closing(Outbox.open(tmp_path, CAP_BYTES, check_s=0.0)) as again:
        (newest,) = again.append(events(1))
        assert newest in kept_seqs(again)
    assert not spool.is_doubted(tmp_path)


def test_a_row_whose_bytes_cannot_be_read_holds_up_no_other(tmp_path):
    """A page in the midst of the bodies is gone."""
    with closing(outbox_with(tmp_path, 100)) as outbox, outbox.reading() as db:
        page_bytes = spool.value(db, "PRAGMA page_size")
        page = spool.value(db, "SELECT pageno FROM dbstat WHERE name = 'body' AND pagetype = 'leaf' LIMIT 1 OFFSET 3")
    path = tmp_path / spool.NAME
    content = bytearray(path.read_bytes())
    content[(page - 1) * page_bytes : page * page_bytes] = b"\xff" * page_bytes
    path.write_bytes(content)
    with closing(Outbox.open(tmp_path, CAP_BYTES, check_s=0.0)) as hurt:
        kept = kept_seqs(hurt)
        assert 200 < len(kept) < 300
        assert {refusal.reason for refusal in hurt.rejected()} == {"damaged on the board's disk"}
        assert len(kept) + len(hurt.rejected()) == 300


def test_the_check_of_a_large_spool_ends_in_time(tmp_path):
    """Here of a hundred MB, in a millisecond."""
    with closing(Outbox.open(tmp_path, 512 * 1024 * 1024)) as outbox, outbox.transaction() as db:
        db.execute(
            """INSERT INTO body WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
            SELECT i, randomblob(10000) FROM n"""
        )
    began_s = time.monotonic()
    opened = spool.open_spool(tmp_path, check_s=0.001)
    assert time.monotonic() - began_s < 0.5
    opened.db.close()
    assert opened.set_aside is None


def kept_seqs(outbox: Outbox) -> set[int]:
    exclude: set[int] = set()
    while parcel := outbox.next_parcel(exclude):
        exclude |= parcel.seqs
    return exclude


def damaged(content: bytes, chance: random.Random) -> bytes:
    hurt = bytearray(content)
    # Past the header, two of whose fields say "read-only" and "newer version": those are believed.
    at = chance.randrange(100, len(hurt))
    kind = chance.choice(["bit", "block", "end"])
    if kind == "bit":
        hurt[at] ^= 1 << chance.randrange(8)
    elif kind == "block":
        hurt[at : at + 512] = chance.randbytes(len(hurt[at : at + 512]))
    else:
        del hurt[at:]
    return bytes(hurt)
