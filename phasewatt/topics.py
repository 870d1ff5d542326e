"""Topic names: built here and parsed here, nowhere else.

Who publishes where, for access lists:

```text
board         publishes  <device>/status, facts, batch/<kind>, live, job/get, job/update
              reads      <device>/receipt, watch, status, job/notify
collector     publishes  <device>/receipt, job/notify; _collector/<id>/state, drift
              reads      <device>/status, facts, batch/<kind>, job/get, job/update
who watches   publishes  <device>/watch           reads  <device>/status, live; _collector/<id>/drift
```
"""

from __future__ import annotations

import re

from phasewatt.errors import RecordRejected
from phasewatt.fields import Kind, Record

ROOT = "phasewatt/v1"
COLLECTORS = "_collector"  # no device can be named so: identifiers begin with a letter or digit
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
LONGEST = 128  # bytes of a topic, at most
JOB_LEAVES = ("job/notify", "job/get", "job/update")
_LEAVES = ("status", "facts", "live", "watch", "receipt", *JOB_LEAVES)


class Topic(Record, frozen=True):
    """A parsed topic: whose it is, which leaf, and the kind if it is a batch."""

    device: str
    leaf: str  # status, facts, live, watch, receipt, one of JOB_LEAVES, or batch
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


def job_notify(device: str) -> str:
    """From collector to board: the jobs that stand, and what of its words is held."""
    return f"{ROOT}/{device}/job/notify"


def job_get(device: str) -> str:
    """From board to collector: it asks for the jobs that stand."""
    return f"{ROOT}/{device}/job/get"


def job_update(device: str) -> str:
    """From board to collector: where its jobs stand."""
    return f"{ROOT}/{device}/job/update"


def drift(collector: str) -> str:
    """From a collector to who listens: that the level of a device's canaries has changed; `+` subscribes to all."""
    return f"{ROOT}/{COLLECTORS}/{collector}/drift"


def collector_state(collector: str) -> str:
    """Retained presence of a collector; `+` subscribes to all of them."""
    return f"{ROOT}/{COLLECTORS}/{collector}/state"


def shared(group: str, topic: str) -> str:
    """The subscription by which each message of `topic` goes to one member of `group`."""
    return f"$share/{group}/{topic}"


def from_boards(group: str | None = None) -> tuple[str, ...]:
    """The subscriptions of a collector; those to batches come last, and the members of `group` share them."""
    batches = f"{ROOT}/+/batch/+"
    words = (f"{ROOT}/+/status", f"{ROOT}/+/facts", job_get("+"), job_update("+"))
    return (*words, batches if group is None else shared(group, batches))


def is_job(topic: str) -> bool:
    """Whether a topic carries a board's words on jobs."""
    return topic.endswith(("/job/get", "/job/update"))


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
