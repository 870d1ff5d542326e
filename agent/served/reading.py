"""A raw stream to timed tokens, if its counts hold. Pure.

An event's time is that of the piece with its last byte. Where tokens come several to a chunk, only the chunk has a
time, and how many it holds is kept; it is never spread over them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from agent.served.client import Reply
from agent.served.dialects import Dialect
from phasewatt.errors import EngineFailed

_END = b"[DONE]"


class Asked(NamedTuple):
    """What a stream must prove that it did."""

    model: str
    prompt_tokens: int
    output_tokens: int


class Timed(NamedTuple):
    """When the chunks of one answer came, and how many tokens each held."""

    start_ns: int
    arrivals_ns: tuple[int, ...]
    tokens: tuple[int, ...] | None  # in each chunk; None: several came in some, and the server does not say in which
    ids: tuple[int, ...] | None  # of all tokens, where the server tells them
    text: str

    @property
    def first_ns(self) -> int:
        """From the start to the first token."""
        return self.arrivals_ns[0] - self.start_ns

    @property
    def duration_ns(self) -> int:
        """From the start to the last token."""
        return max(1, self.arrivals_ns[-1] - self.start_ns)

    @property
    def gaps_ns(self) -> tuple[int, ...]:
        """Between chunks."""
        return tuple(later - earlier for earlier, later in pairwise(self.arrivals_ns))


class _Event(NamedTuple):
    at_ns: int
    said: Any


class _Chunk(NamedTuple):
    at_ns: int
    text: str
    ids: list[int] | None


def timed(reply: Reply, asked: Asked, dialect: Dialect) -> Timed:
    """The tokens of `reply` with their times.

    Raises:
        EngineFailed: it is not the stream that was asked for, or its counts do not hold.
    """
    events = list(_events(reply))
    _check_whole(events, asked)
    said = [event.said for event in events]
    usage = _usage(said)
    _check_usage(usage, asked, dialect)
    chunks = list(_chunks(events, dialect))
    return _counted(reply.start_ns, chunks, asked)


def _events(reply: Reply) -> Iterator[_Event]:
    """The server-sent events but the last one, which must be there."""
    pending, is_ended = b"", False
    for piece in reply.pieces:
        *lines, pending = (pending + piece.body).split(b"\n")
        for line in lines:
            body = line.strip().removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or is_ended:
                continue
            is_ended = body == _END
            if not is_ended:
                yield _Event(piece.at_ns, _decoded(body))
    if not is_ended:
        raise EngineFailed("the server ended the stream early: no [DONE] came")


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EngineFailed(f"the server sent what is not JSON: {body[:80]!r}") from error
    if not isinstance(said, dict):
        raise EngineFailed(f"the server sent what is no completion: {body[:80]!r}")
    if "error" in said:
        raise EngineFailed(f"the server reports an error in the stream: {str(said['error'])[:200]}")
    return said


def _check_whole(events: list[_Event], asked: Asked) -> None:
    others = sorted({str(event.said.get("model")) for event in events} - {asked.model})
    if others:
        raise EngineFailed(f"the server answers with model {others[0][:80]!r}, {asked.model!r} was asked for")
    ends = [
        choice["finish_reason"] for event in events for choice in _choices(event.said) if choice.get("finish_reason")
    ]
    if not ends:
        raise EngineFailed("the server ended the stream early: no finish_reason came")
    if ends != ["length"]:
        raise EngineFailed(
            f"the server ended its text early (finish_reason {ends[0]!r}): it does not ignore the end of text"
        )


def _choices(said: dict[str, Any]) -> list[dict[str, Any]]:
    choices = said.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices) or len(choices) > 1:
        raise EngineFailed("the server sent several choices, one was asked for")
    return choices


def _usage(said: list[dict[str, Any]]) -> dict[str, Any]:
    found = [event["usage"] for event in said if isinstance(event.get("usage"), dict)]
    if not found:
        raise EngineFailed("the server sent no usage, so nothing proves how many tokens it processed")
    if len(found) > 1:
        raise EngineFailed(f"the server sent usage {len(found)} times, once was asked for")
    return dict(found[0])


def _check_usage(usage: dict[str, Any], asked: Asked, dialect: Dialect) -> None:
    for name, wanted in (("prompt_tokens", asked.prompt_tokens), ("completion_tokens", asked.output_tokens)):
        if usage.get(name) != wanted:
            raise EngineFailed(f"the server counts {usage.get(name)} {name}, {wanted} were asked for")
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if cached:
        raise EngineFailed(f"the server took {cached} prompt tokens from its cache: {dialect.off_remedy}")
    if cached is None and dialect.must_report_cached:
        raise EngineFailed(f"the server does not say how many prompt tokens came from a cache: {dialect.off_remedy}")


def _chunks(events: list[_Event], dialect: Dialect) -> Iterator[_Chunk]:
    for event in events:
        for choice in _choices(event.said):
            ids = choice.get(dialect.ids) if dialect.ids else None
            is_list = isinstance(ids, list) and all(isinstance(one, int) for one in ids)
            text = choice.get("text")
            yield _Chunk(event.at_ns, text if isinstance(text, str) else "", ids if is_list else None)


def _counted(start_ns: int, chunks: list[_Chunk], asked: Asked) -> Timed:
    if any(chunk.ids for chunk in chunks):
        return _by_ids(start_ns, [chunk for chunk in chunks if chunk.ids], asked)
    text = "".join(chunk.text for chunk in chunks)
    with_text = [chunk for chunk in chunks if chunk.text]
    if asked.output_tokens == 1:  # its text may be empty
        return Timed(start_ns, ((with_text or chunks)[0].at_ns,), (1,), None, text)
    if len(with_text) > asked.output_tokens or not with_text:
        raise EngineFailed(f"the server counts {asked.output_tokens} tokens and sent {len(with_text)} chunks of text")
    each = (1,) * len(with_text) if len(with_text) == asked.output_tokens else None
    return Timed(start_ns, tuple(chunk.at_ns for chunk in with_text), each, None, text)


def _by_ids(start_ns: int, chunks: list[_Chunk], asked: Asked) -> Timed:
    ids = tuple(one for chunk in chunks for one in chunk.ids or ())
    if len(ids) != asked.output_tokens:
        raise EngineFailed(f"the server counts {asked.output_tokens} tokens and sent {len(ids)}")
    times = tuple(chunk.at_ns for chunk in chunks)
    return Timed(start_ns, times, tuple(len(chunk.ids or ()) for chunk in chunks), ids, "".join(c.text for c in chunks))
