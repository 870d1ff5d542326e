"""Topic names: built here and parsed here, nowhere else."""

from __future__ import annotations

import re

from phasewatt.errors import RecordRejected
from phasewatt.records import Kind, Record

ROOT = "phasewatt/v1"
COLLECTORS = "_collector"  # no device can be named so: identifiers begin with a letter or digit
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
LONGEST = 128  # bytes of a topic, at most
_LEAVES = ("status", "facts", "live", "watch", "receipt")


class Topic(Record, frozen=True):
    """A parsed topic: whose it is, which leaf, and the kind if it is a batch."""

    device: str
    leaf: str  # status, facts, live, watch, receipt or batch
    kind: Kind | None = None


def status(device: str) -> str:
    """Retained presence of a board."""
    return f"{ROOT}/{device}/status"


def facts(device: str) -> str:
    """Retained description of a board."""
    return f"{ROOT}/{device}/facts"


def batch(device: str, kind: Kind) -> str:
    """Records of one kind."""
    return f"{ROOT}/{device}/batch/{kind.value}"


def live(device: str) -> str:
    """Telemetry as it is sampled, not stored, while someone watches; `+` subscribes to all boards."""
    return f"{ROOT}/{device}/live"


def watch(device: str) -> str:
    """To a board: that someone watches."""
    return f"{ROOT}/{device}/watch"


def receipt(device: str) -> str:
    """From collector to board: what is stored."""
    return f"{ROOT}/{device}/receipt"


def collector_state(collector: str) -> str:
    """Retained presence of a collector; `+` subscribes to all of them."""
    return f"{ROOT}/{COLLECTORS}/{collector}/state"


def shared(group: str, topic: str) -> str:
    """The subscription by which each message of `topic` goes to one member of `group`."""
    return f"$share/{group}/{topic}"


def from_boards(group: str | None = None) -> tuple[str, ...]:
    """The subscriptions of a collector; those to batches come last, and the members of `group` share them."""
    batches = f"{ROOT}/+/batch/+"
    return (f"{ROOT}/+/status", f"{ROOT}/+/facts", batches if group is None else shared(group, batches))


def is_of_collector(topic: str) -> bool:
    """Whether a collector speaks there."""
    return topic.startswith(f"{ROOT}/{COLLECTORS}/")


def parse(topic: str) -> Topic:
    """The parts of a board's topic.

    Raises:
        RecordRejected: not a topic of a board.
    """
    device, _, rest = topic.removeprefix(f"{ROOT}/").partition("/")
    if not topic.startswith(f"{ROOT}/") or not _DEVICE.match(device):
        raise RecordRejected(f"topic {topic[:200]!r} is no board's")
    if rest in _LEAVES:
        return Topic(device=device, leaf=rest)
    leaf, _, kind = rest.partition("/")
    if leaf == "batch" and kind in Kind._value2member_map_:
        return Topic(device=device, leaf=leaf, kind=Kind(kind))
    raise RecordRejected(f"topic {topic[:200]!r} has no known leaf")
