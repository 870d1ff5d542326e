"""Codec: whatever is a record survives the wire as it was, and whatever is not is refused in one clear line."""

from __future__ import annotations

import contextlib
import json
import math
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phasewatt import codec, messages
from phasewatt.errors import RecordRejected
from phasewatt.fields import Kind, Phase
from phasewatt.hosts import HostFacts
from phasewatt.records import Event, PhaseRun, Trial
from phasewatt.traces import Series, Telemetry, Trace
from tests.fixtures import records, strategies

RECORDS = [Trial, Trace, Telemetry, Event, HostFacts]
MESSAGES = [
    messages.Batch,
    messages.Receipt,
    messages.Status,
    messages.Facts,
    messages.CollectorState,
    messages.ExportHeader,
]
EVENT = Event(device="board-1", boot_id="b", time_unix_s=1.5, name="started", message="the agent started")


def rejection(call, *arguments) -> str:
    """The line with which `call` refuses."""
    with pytest.raises(RecordRejected) as caught:
        call(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("message", [*RECORDS, *MESSAGES])
def test_every_message_survives_the_wire(message):
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategies.of(message))
    def survives(sent):
        assert codec.decode(codec.unpack(codec.pack(codec.encode(sent))), message) == sent

    survives()


@pytest.mark.parametrize(("record", "kind"), codec.KINDS.items())
def test_every_kind_has_a_decoder_of_the_current_schema(record, kind):
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategies.of(record))
    def decodes(sent):
        assert codec.decode_record(kind, codec.SCHEMA, codec.encode(sent)) == sent

    decodes()


def test_every_kind_can_be_sent():
    assert set(codec.KINDS.values()) == set(Kind)


def test_the_same_content_gives_the_same_bytes():
    """The record id rests on it."""
    one = records.changed(EVENT, fields={"a": "1", "b": "2"})
    other = records.changed(EVENT, fields={"b": "2", "a": "1"})
    assert codec.encode(one) == codec.encode(other)


def test_unknown_field_is_refused_by_name():
    body = codec.encode(EVENT).replace(b'"name"', b'"surprise":1,"name"')
    assert "surprise" in rejection(codec.decode, body, Event)


def test_missing_field_is_refused_by_name():
    body = json.dumps({"device": "board-1"}).encode()
    assert "boot_id" in rejection(codec.decode_record, Kind.EVENT, codec.SCHEMA, body)


def test_wrong_type_is_refused_with_its_path():
    body = codec.encode(EVENT).replace(b"1.5", b'"noon"')
    assert "time_unix_s" in rejection(codec.decode, body, Event)


def test_newer_schema_is_refused_with_the_remedy():
    line = rejection(codec.decode_record, Kind.TRIAL, codec.SCHEMA + 1, b"{}")
    assert f"trial of schema {codec.SCHEMA + 1}" in line
    assert "upgrade" in line


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"not json",
        b"\xff\xfe",
        b'{"device":"\xff"}',
        b'{"device":"\\ud800"}',
        b"[" * 100_000,
        b'{"fields":' * 100_000,
        b'{"fields":{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
        b'{"time_unix_s":NaN}',
        b'{"time_unix_s":1e999}',
        b'{"time_unix_s":' + b"9" * 10_000 + b"}",
    ],
    ids=range(13),
)
def test_hostile_body_is_refused(body):
    rejection(codec.decode, body, Event)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_decode_or_be_refused(payload):
    with contextlib.suppress(RecordRejected):
        codec.decode(codec.unpack(payload), Event)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_record_cut_anywhere_is_refused(data):
    body = codec.encode(EVENT)
    cut = data.draw(st.integers(0, len(body) - 1))
    rejection(codec.decode, body[:cut], Event)


def test_identifier_with_a_slash_is_refused():
    """It would end up in a topic."""
    body = codec.encode(EVENT).replace(b"board-1", b"a/../b")
    assert "device" in rejection(codec.decode, body, Event)


def test_identifier_ending_in_a_newline_is_refused():
    body = codec.encode(EVENT).replace(b"board-1", b"board-1\\n")
    assert "device" in rejection(codec.decode, body, Event)


@pytest.mark.parametrize("step", [2**63, -(2**63) - 1, 10**400])
def test_step_beyond_64_bits_is_refused(step):
    """Such a step decodes as an integer that no float can hold."""
    column = {"name": "power", "unit": "W", "scale": 1.0, "steps": [step]}
    assert "steps" in rejection(codec.decode, json.dumps(column).encode(), Series)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e300])
def test_senseless_scale_is_refused(scale):
    column = {"name": "power", "unit": "W", "scale": scale, "steps": [1]}
    assert "scale" in rejection(codec.decode, json.dumps(column).encode(), Series)


def test_trace_with_columns_of_unlike_length_is_refused():
    whole = records.trace([1.0, 2.0], (records.channel(), lambda t: t))
    longer = records.trace([1.0, 2.0, 3.0], (records.channel(), lambda t: t))
    body = codec.encode(whole).replace(codec.encode(whole.values[0]), codec.encode(longer.values[0]))
    assert "time column" in rejection(codec.decode, body, Trace)


def test_trace_without_a_column_for_a_channel_is_refused():
    whole = records.trace([1.0, 2.0], (records.channel(), lambda t: t))
    body = codec.encode(whole).replace(codec.encode(whole.values), b"[]")
    assert "one column a channel" in rejection(codec.decode, body, Trace)


def test_trace_with_a_hole_in_its_times_is_refused():
    whole = records.trace([1.0, 2.0], (records.channel(), lambda t: t))
    body = codec.encode(whole).replace(b'"steps":[1000000000,', b'"steps":[null,')
    assert "without holes" in rejection(codec.decode, body, Trace)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (b'"warmup":0', b'"warmup":4', "warmup"),
        (b'"starts_ns":[1000000000', b'"starts_ns":[1,1000000000', "one length"),
        (b'"durations_ns":[1000000000', b'"durations_ns":[0', "durations_ns"),
        (b'"kv_end":4', b'"kv_end":0', "kv_end"),
    ],
)
def test_run_that_contradicts_itself_is_refused(old, new, word):
    body = codec.encode(records.phase_run(Phase.PREFILL, [1.0, 1.0, 1.0]))
    assert old in body
    assert word in rejection(codec.decode, body.replace(old, new), PhaseRun)


def test_not_a_number_travels_as_missing():
    """JSON has no NaN; where a value may be missing it becomes None, and elsewhere the record is refused."""
    facts = records.conditions(power_limit_w=math.nan)
    assert codec.decode(codec.encode(facts), type(facts)).power_limit_w is None
    rejection(codec.decode, codec.encode(records.changed(EVENT, time_unix_s=math.nan)), Event)


def test_small_bodies_travel_as_they_are_and_large_ones_compressed():
    assert codec.pack(b"{}") == b"{}"
    body = b'{"a":' + b"1" * 5000 + b"}"
    assert len(codec.pack(body)) < 100
    assert codec.unpack(codec.pack(body)) == body


def test_compression_bomb_is_refused_without_inflating_it():
    bomb = zlib.compress(b"0" * (codec.MAX_INFLATED_BYTES * 50), 9)
    assert len(bomb) < codec.MAX_PAYLOAD_BYTES
    assert f"more than {codec.MAX_INFLATED_BYTES}" in rejection(codec.unpack, bomb)


def test_the_largest_allowed_body_is_taken_and_one_byte_more_is_not():
    assert len(codec.unpack(zlib.compress(b"0" * 1000), limit_bytes=1000)) == 1000
    rejection(codec.unpack, zlib.compress(b"0" * 1001), 1000)
    rejection(codec.unpack, b"0" * 1001, 1000)


@pytest.mark.parametrize("cut", [1, 2, 3, 20])
def test_compressed_payload_cut_short_is_refused(cut):
    packed = codec.pack(b"0123456789" * 500)
    rejection(codec.unpack, packed[:cut])
    rejection(codec.unpack, packed[:-cut])


def test_bytes_after_a_compressed_payload_are_refused():
    assert "followed by" in rejection(codec.unpack, codec.pack(b"0" * 2000) + b"more")


def test_broken_compression_is_refused():
    assert "broken" in rejection(codec.unpack, b"\x78\x9c" + b"\x00" * 10)
