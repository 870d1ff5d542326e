"""Over and over again: what comes back must give back what it took."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import hasty

pytestmark = pytest.mark.broker

RECONNECTS = 60
EVERY = 20
GROWTH_BYTES = 4 * 2**20


def test_reconnects_leave_no_descriptor_and_no_thread_behind(tmp_path: Path, fault_seed: str) -> None:
    """Board and collector, over TLS, cut off or with their broker killed: after 60 times they hold what they held."""
    _, first, *_, last = hasty.reconnects(tmp_path, fault_seed, RECONNECTS, EVERY)
    for before, after in ((first.board, last.board), (first.collector, last.collector)):
        assert (after.descriptors, after.threads, after.processes) == (
            before.descriptors,
            before.threads,
            before.processes,
        )
        assert after.rss_bytes < before.rss_bytes + GROWTH_BYTES
