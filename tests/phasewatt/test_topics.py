"""Topics: what is built parses back, and nothing else passes for a board's."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatt import topics
from phasewatt.errors import RecordRejected
from phasewatt.fields import Identifier, Kind
from tests.fixtures import strategies

DEVICES = strategies.of(Identifier)
HOSTILE = [
    "",
    "/",
    "phasewatt/v1",
    "phasewatt/v1/",
    "phasewatt/v1//status",
    "phasewatt/v1/board-1",
    "phasewatt/v1/board-1/",
    "phasewatt/v1/board-1/status/",
    "phasewatt/v1/board-1/status/more",
    "phasewatt/v1/board-1/batch",
    "phasewatt/v1/board-1/batch/",
    "phasewatt/v1/board-1/batch/job",
    "phasewatt/v1/board-1/batch/trial/more",
    "phasewatt/v1/board-1/batch/TRIAL",
    "phasewatt/v2/board-1/status",
    "/phasewatt/v1/board-1/status",
    "phasewatt/v1/_collector/status",
    "phasewatt/v1/_collector/main/state",
    "phasewatt/v1/+/status",
    "phasewatt/v1/#",
    "phasewatt/v1/board#/status",
    "phasewatt/v1/../status",
    "phasewatt/v1/-board/status",
    "phasewatt/v1/board 1/status",
    "phasewatt/v1/board\x00/status",
    "phasewatt/v1/board-1\n/status",
    "phasewatt/v1/board-1/status\n",
    "phasewatt/v1/b\u00f6ard/status",
    "phasewatt/v1/\u0661/status",
    "phasewatt/v1/" + "b" * 65 + "/status",
    "$SYS/broker/uptime",
    "phasewatt/v1/phasewatt/v1/board-1/status",
]


@given(DEVICES, st.sampled_from(["status", "facts", "receipt"]))
def test_leaf_topics_parse_back(device, leaf):
    build = getattr(topics, leaf)
    assert topics.parse(build(device)) == topics.Topic(device=device, leaf=leaf)


@given(DEVICES, st.sampled_from(Kind))
def test_batch_topics_parse_back(device, kind):
    assert topics.parse(topics.batch(device, kind)) == topics.Topic(device=device, leaf="batch", kind=kind)


@pytest.mark.parametrize("topic", HOSTILE, ids=range(len(HOSTILE)))
def test_other_topics_are_refused_in_one_line(topic):
    with pytest.raises(RecordRejected) as caught:
        topics.parse(topic)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_parses_or_is_refused(text):
    with contextlib.suppress(RecordRejected):
        topics.parse(text)


def test_an_endless_topic_gives_a_short_line():
    with pytest.raises(RecordRejected) as caught:
        topics.parse("x" * 65_000)
    assert len(str(caught.value)) < 300


def test_a_collector_subscribes_to_every_board_and_to_no_collector():
    """MQTT's own matching: `+` is one level."""
    wanted = [topics.status("b"), topics.facts("b"), *(topics.batch("b", kind) for kind in Kind)]
    unwanted = [topics.receipt("b"), topics.collector_state("main")]
    assert all(any(matches(pattern, topic) for pattern in topics.from_boards()) for topic in wanted)
    assert not any(matches(pattern, topic) for pattern in topics.from_boards() for topic in unwanted)


def matches(pattern: str, topic: str) -> bool:
    """Whether a subscription without `#` takes a topic."""
    levels, parts = pattern.split("/"), topic.split("/")
    return len(levels) == len(parts) and all(level in ("+", part) for level, part in zip(levels, parts, strict=True))
