"""A campaign as one file: its trials with their traces, and nothing else."""

from __future__ import annotations

import gzip
from contextlib import closing
from pathlib import Path

import pytest

from agent import archive
from agent.archive import Source
from agent.outbox import Outbox
from phasewatt import codec, identity
from phasewatt.errors import StoreUnavailable
from phasewatt.fields import Kind
from phasewatt.messages import Batch, Clock
from tests.fixtures.records import trace, trial
from tests.fixtures.wire import events


def _filled(outbox: Outbox) -> None:
    """Two campaigns of a trial with a trace each, and an event."""
    for campaign, watts in (("one", [1.0, 2.0]), ("two", [3.0, 4.0])):
        made = trace(watts)
        name = identity.record_id(Kind.TRACE, codec.encode(made))
        outbox.append([trial(campaign=campaign, traces=(name,)), made])
    outbox.append(events(1))


def _kinds(path: Path) -> list[Kind]:
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return [codec.decode(line, Batch).kind for line in text.splitlines()[1:]]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_one_campaign_is_its_trials_and_their_traces(name: str, tmp_path: Path) -> None:
    with closing(Outbox.open(tmp_path / "state", 64 * 2**20)) as outbox:
        _filled(outbox)
        source = Source(outbox, "board", "boot", Clock(synchronised=True, offset_bound_s=None))
        assert archive.write(source, tmp_path / name, "two") == 2
        assert _kinds(tmp_path / name) == [Kind.TRIAL, Kind.TRACE]
        assert archive.write(source, tmp_path / name) == 5
        assert archive.write(source, tmp_path / name, "unknown") == 0


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with closing(Outbox.open(tmp_path / "state", 64 * 2**20)) as outbox:
        source = Source(outbox, "board", "boot", Clock(synchronised=True, offset_bound_s=None))
        with pytest.raises(StoreUnavailable, match="it is no regular file"):
            archive.write(source, tmp_path)
        with pytest.raises(StoreUnavailable, match="cannot write"):
            archive.write(source, tmp_path / "absent" / "a.jsonl")
