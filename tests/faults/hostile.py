"""Hostile payloads without end, from a seed: real ones mangled, and the classics by hand."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from msgspec import Raw

from phasewatt import codec, topics
from phasewatt.fields import Kind
from tests.fixtures import golden, wire

DEVICE = "hostile-1"
_STRETCH = 40
_BOMB_BYTES = 8 * codec.MAX_INFLATED_BYTES
_DEPTH = 100_000
_NUMBERS = (b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b"-1", b"1e308", b"0.1e-400", b"18446744073709551616")
_WORDS = (b"null", b"{}", b"[]", b'""', b'"\\ud800"', b"\xff\xfe", b"\x00", b"true", b'"' + b"A" * 5000 + b'"')


class Letter(NamedTuple):
    """A payload and where it is published."""

    topic: str
    payload: bytes


def letters(seed: str) -> Iterator[Letter]:
    """Letters of one device, each with something wrong, or something that merely looks so."""
    draw = random.Random(seed)
    bodies = _bodies()
    bombs = _bombs()
    while True:
        name, body = draw.choice(bodies)
        spoiled = draw.choice(_SPOILERS)(draw, body) if draw.random() > 0.02 else draw.choice(bombs)
        payload = zlib.compress(spoiled, 1) if draw.random() < 0.3 else spoiled
        if draw.random() < 0.1:
            payload = _cut(draw, payload)
        yield Letter(draw.choice(_TOPICS) if draw.random() < 0.3 else name, payload)


def _bodies() -> list[tuple[str, bytes]]:
    """Golden records of every schema in a batch, and golden messages, with the topics that they belong on."""
    found = []
    for folder in sorted(golden.ROOT.iterdir()):
        schema = int(folder.name.removeprefix("schema_"))
        for path in sorted(folder.glob("*.json")):
            body = path.read_bytes().strip()
            if (kind := golden.KINDS.get(path.stem)) is not None:
                found.append((topics.batch(DEVICE, kind), _batch_of(kind, schema, body)))
                found.append((topics.batch(DEVICE, kind), _batch_of(kind, schema, _renamed(body))))
            elif path.stem in {"status", "facts"}:
                found.append((f"{topics.ROOT}/{DEVICE}/{path.stem}", _renamed(body)))
    return found


def _batch_of(kind: Kind, schema: int, body: bytes) -> bytes:
    items = [wire.item(seq, wire.telemetry(), body=Raw(body), schema=schema) for seq in (1, 2)]
    return codec.encode(wire.batch(items, kind, device=DEVICE, epoch="hostile"))


def _renamed(body: bytes) -> bytes:
    """The golden record as if `DEVICE` had made it."""
    return re.sub(rb'"device":"[^"]*"', f'"device":"{DEVICE}"'.encode(), body)


def _bombs() -> list[bytes]:
    return [
        zlib.compress(b" " * _BOMB_BYTES),
        zlib.compress(b'{"a":' * (_BOMB_BYTES // 5)),
        b"[" * _DEPTH,
        b'{"a":' * (_DEPTH // 2) + b"1" + b"}" * (_DEPTH // 2),
        b"x" * (codec.MAX_PAYLOAD_BYTES + 1),
        b'{"device":"' + b"\\u0000" * 40_000 + b'"}',
        b'{"items":[' + b"{}," * 60_000 + b"{}]}",
        b"\x78\x9c" + bytes(range(256)) * 100,
    ]


def _cut(draw: random.Random, body: bytes) -> bytes:
    return body[: draw.randint(0, len(body))]


def _overwritten(draw: random.Random, body: bytes) -> bytes:
    start = draw.randint(0, len(body))
    return body[:start] + draw.randbytes(draw.randint(1, _STRETCH)) + body[start + draw.randint(0, _STRETCH) :]


def _flipped(draw: random.Random, body: bytes) -> bytes:
    spoiled = bytearray(body)
    for _ in range(draw.randint(1, 8)):
        spoiled[draw.randrange(len(spoiled))] ^= 1 << draw.randrange(8)
    return bytes(spoiled)


def _renumbered(draw: random.Random, body: bytes) -> bytes:
    """A number somewhere takes another value."""
    places = [at for at in range(1, len(body)) if body[at : at + 1].isdigit() and body[at - 1 : at] in b":,["]
    if not places:
        return body
    start = end = draw.choice(places)
    while body[end : end + 1].isdigit():
        end += 1
    return body[:start] + draw.choice(_NUMBERS) + body[end:]


def _reworded(draw: random.Random, body: bytes) -> bytes:
    """A value somewhere becomes another sort of thing."""
    at = draw.choice([at for at in range(len(body)) if body[at : at + 1] == b":"] or [0])
    return body[: at + 1] + draw.choice(_WORDS) + body[at + 1 + draw.randint(0, 10) :]


def _doubled(draw: random.Random, body: bytes) -> bytes:
    start = draw.randint(0, len(body))
    return body[:start] + body[start : start + draw.randint(1, 400)] * draw.randint(2, 50) + body[start:]


def _of_another_version(draw: random.Random, body: bytes) -> bytes:
    return body.replace(b'"schema":', b'"schema":' + str(draw.choice((0, 3, 99))).encode(), draw.randint(1, 2))


def _noise(draw: random.Random, _body: bytes) -> bytes:
    return draw.randbytes(draw.randint(0, 300))


_SPOILERS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_cut, _overwritten, _flipped, _renumbered, _reworded, _doubled, _of_another_version, _noise),
)
_TOPICS = (
    *(topics.batch(DEVICE, kind) for kind in Kind),
    *(topics.status(DEVICE), topics.facts(DEVICE), topics.receipt(DEVICE), topics.live(DEVICE)),
    *("", "phasewatt/v1/+/batch/event", f"phasewatt/v1/{'x' * 70}/status", f"phasewatt/v1/{DEVICE}/batch/trial/more"),
    *("phasewatt/v1/_collector/centre/state", "phasewatt/v1/\x00/batch/event", "phasewatt/v1/\ud7ff/facts"),
)
