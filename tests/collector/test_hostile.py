"""A hostile stream into ingest: nothing escapes, memory stays bounded, and good boards among it lose no row."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.ingest import Ingest
from collector.store import Store, open_store
from phasewatt import codec, topics
from phasewatt.fields import Kind
from phasewatt.messages import Receipt
from tests.faults import hostile
from tests.fixtures import wire
from tests.fixtures.wire import DEVICE

# Above what the process held before: one payload inflated to its limit, its objects and its rows, and the database's
# cache. Nothing that grows with the stream.
MEMORY_BOUND_BYTES = 12 * codec.MAX_INFLATED_BYTES
GOOD_EVERY = 50
_IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """In memory where the system offers that: a sync for each of a hundred thousand payloads is not what is tried."""
    at = _IN_MEMORY if _IN_MEMORY.is_dir() else tmp_path
    with (
        tempfile.TemporaryDirectory(dir=at) as directory,
        contextlib.closing(open_store(f"sqlite:///{directory}/store.db", create=True)) as opened,
    ):
        yield opened


def good(ingest: Ingest, number: int) -> Receipt | None:
    """The receipt for a batch of a board that does nothing wrong."""
    batch = wire.batch_of(*wire.events(1, time_unix_s=float(number)), first_seq=number)
    return ingest.take(topics.batch(DEVICE, Kind.EVENT), codec.pack(codec.encode(batch)))


class Memory:
    """The resident set of this process, whoever asked for it, above its size at the beginning."""

    _SELF = Path("/proc/self")

    def __init__(self) -> None:
        (self._SELF / "clear_refs").write_text("5")  # the peak begins anew
        self._first_bytes = self._bytes("VmRSS")

    @property
    def peak_bytes(self) -> int:
        """The largest growth so far."""
        return self._bytes("VmHWM") - self._first_bytes

    def _bytes(self, field: str) -> int:
        found = re.search(rf"{field}:\s+(\d+) kB", (self._SELF / "status").read_text())
        assert found is not None
        return int(found[1]) * 1024


@pytest.mark.timeout(1800)
def test_a_hostile_stream_ends_in_quarantine(request, store, fault_seed, caplog):
    caplog.set_level(logging.CRITICAL, "collector")  # pytest would keep every line, and that would grow
    count = request.config.getoption("--hostile-payloads")
    ingest = Ingest(store)
    memory = Memory()
    for number, letter in enumerate(itertools.islice(hostile.letters(fault_seed), count)):
        ingest.take(letter.topic, letter.payload)
        if number % GOOD_EVERY == 0:
            seq = number // GOOD_EVERY + 1
            assert (receipt := good(ingest, seq)) is not None
            assert receipt.ranges == ((seq, seq),)
    peak_bytes = memory.peak_bytes
    sys.stdout.write(f"{count} payloads, {peak_bytes / 2**20:.1f} MiB more at the peak\n")
    assert peak_bytes < MEMORY_BOUND_BYTES
    stored = [item.seq for batch in store.batches(DEVICE) for item in batch.items]
    assert stored == list(range(1, -(-count // GOOD_EVERY) + 1))
    quarantined = {row.device: row.quarantined for row in store.devices()}
    assert quarantined[DEVICE] == 0
    assert quarantined[hostile.DEVICE] > count / 3
