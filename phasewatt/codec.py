"""Records and messages to bytes and back: strict, versioned, and never more than a stated size.

`SCHEMA` is what this version writes. A reader knows every older one from 1 on: `_DECODERS` maps (kind, schema) to a
function that returns today's record. Schema 0 was a draft and is not read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from phasewatt.errors import RecordNewer, RecordRejected
from phasewatt.fields import Kind
from phasewatt.records import Event, Trial
from phasewatt.traces import Telemetry, Trace

SCHEMA = 2
MAX_PAYLOAD_BYTES = 256 * 1024  # on the wire; below mosquitto's, EMQX's and AWS IoT's usual limits of 1 MiB
MAX_INFLATED_BYTES = 4 * 1024 * 1024
_COMPRESS_ABOVE_BYTES = 1024
_ZLIB_MAGIC = b"\x78"

SentRecord = Trial | Trace | Telemetry | Event
Message = TypeVar("Message")

KINDS: Mapping[type, Kind] = {
    Trial: Kind.TRIAL,
    Trace: Kind.TRACE,
    Telemetry: Kind.TELEMETRY,
    Event: Kind.EVENT,
}


def encode(message: Any) -> bytes:
    """Canonical JSON of a record or message: the same content gives the same bytes."""
    return msgspec.json.encode(message, order="deterministic")


def decode(body: bytes, message: type[Message]) -> Message:
    """A message of the given type.

    Raises:
        RecordRejected: not JSON, or not of that type; the reason names the field.
    """
    return _strict(lambda: msgspec.json.decode(body, type=message), message.__name__)


def decode_record(kind: Kind, schema: int, body: bytes) -> SentRecord:
    """The record in `body`, brought to today's form.

    Raises:
        RecordNewer: of a schema version above `SCHEMA`.
        RecordRejected: of a draft's schema version, or not a valid record of its version.
    """
    decoder = _DECODERS.get((kind, schema))
    if decoder is None and schema < 1:
        raise RecordRejected(f"{kind.value} of schema {schema}: a draft from before version 1; measure again")
    if decoder is None:
        raise RecordNewer(f"{kind.value} of schema {schema}: this version reads up to {SCHEMA}; upgrade this program")
    return _strict(lambda: decoder(body), kind.value)


def pack(body: bytes) -> bytes:
    """`body` as it travels: compressed where that pays."""
    return zlib.compress(body, 6) if len(body) > _COMPRESS_ABOVE_BYTES else body


def unpack(payload: bytes, limit_bytes: int = MAX_INFLATED_BYTES) -> bytes:
    """The body in `payload`, inflated if need be.

    Raises:
        RecordRejected: broken compression, or more than `limit_bytes` inside.
    """
    if not payload.startswith(_ZLIB_MAGIC):
        return _within(payload, limit_bytes)
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(payload, limit_bytes + 1)
    except zlib.error as error:
        raise RecordRejected(f"compressed payload is broken: {error}") from error
    if len(body) <= limit_bytes and not inflater.eof:
        raise RecordRejected("compressed payload is cut short")
    if inflater.unused_data:
        raise RecordRejected("compressed payload is followed by other bytes")
    return _within(body, limit_bytes)


def _within(body: bytes, limit_bytes: int) -> bytes:
    if len(body) > limit_bytes:
        raise RecordRejected(f"payload holds more than {limit_bytes} bytes")
    return body


def _strict(decode_body: Callable[[], Message], what: str) -> Message:
    try:
        return decode_body()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise RecordRejected(f"not a valid {what}: {error}") from error


def _current(record: type[SentRecord]) -> Callable[[bytes], SentRecord]:
    return msgspec.json.Decoder(record).decode


# What schema 2 added has a default that says "not told", so that the records of schema 1 are read as they are.
_DECODERS: dict[tuple[Kind, int], Callable[[bytes], SentRecord]] = {
    (kind, schema): _current(record) for record, kind in KINDS.items() for schema in (1, SCHEMA)
}
