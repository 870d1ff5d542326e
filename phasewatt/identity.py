"""Ids derived from content: two hosts that did the same work say so without having met."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from phasewatt.fields import Kind
from phasewatt.work import Task, Work

_LENGTH = 32  # hexadecimal digits, 128 bits


def task_id(task: Task) -> str:
    """Id of what was asked of any model of that shape: architecture, batch, prompt, output length."""
    content = _content(task)
    del content["architecture"]["name"]
    return _digest("task", content)


def work_id(work: Work) -> str:
    """Id of the work itself: task, weights, and dtype or quantization.

    Weights with a digest are known by it, whatever they were called; others by their source and the place
    where they were drawn.
    """
    weights = work.weights
    named = weights.digest or f"{weights.source} drawn on {weights.drawn_on}"
    return _digest("work", [task_id(work.task), named, work.dtype, work.quantization])


def record_id(kind: Kind, body: bytes) -> str:
    """Id of one record, from the bytes that the outbox holds and the wire carries."""
    return hashlib.sha256(kind.value.encode() + b"\0" + body).hexdigest()[:_LENGTH]


def _content(record: msgspec.Struct) -> dict[str, Any]:
    """Fields that differ from their default, so that a field added later leaves old ids as they are."""
    fields = ((field, getattr(record, field.name)) for field in msgspec.structs.fields(type(record)))
    return {field.name: _plain(value, field.type) for field, value in fields if value != field.default}


def _plain(value: Any, declared: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _content(value)
    return float(value) if declared is float else value  # 500000 and 500000.0 are one number and give one id


def _digest(label: str, content: Any) -> str:
    body = msgspec.json.encode([label, content], order="deterministic")
    return hashlib.sha256(body).hexdigest()[:_LENGTH]
