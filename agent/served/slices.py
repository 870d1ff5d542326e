"""The decode window, taken out of streams: from where all sequences decode to where the first one ends. Pure.

Prefill and decode of one request cannot be asked for apart. A long request is, after its first token, nothing but
decode steps; so the stretch of it in which every sequence decodes is cut into slices of equal steps, back to back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from agent.served.reading import Timed
from phasewatt.errors import EngineFailed

_ASTRAY = 0.03  # share of the tokens by which sequences that decode together may differ from equal steps


class Slices(NamedTuple):
    """Decode steps, one slice after another."""

    starts_ns: tuple[int, ...]
    durations_ns: tuple[int, ...]
    ahead: int  # tokens by which the sequences, in the mean, were deeper than the prompt when the window opened


def slices_of(streams: Sequence[Timed], steps: int) -> Slices:
    """The slices of `steps` tokens a sequence in the window that `streams` share; none if they share too little.

    Raises:
        EngineFailed: chunks that cannot be cut there, or sequences that do not decode together.
    """
    if any(stream.tokens is None for stream in streams):
        raise EngineFailed(
            "the server sends several tokens in some chunks and does not say in which: no step can be timed"
        )
    opened_ns = max(stream.arrivals_ns[0] for stream in streams)
    closed_ns = min(stream.arrivals_ns[-1] for stream in streams)
    pace = max(streams, key=lambda stream: stream.arrivals_ns[0])
    edges_ns = [edge for edge in _edges_ns(pace, steps) if edge <= closed_ns]
    if len(edges_ns) < 2:
        return Slices((), (), 0)
    counted = sum(_between(stream, opened_ns, edges_ns[-1]) for stream in streams)
    equal = len(streams) * steps * (len(edges_ns) - 1)
    if abs(counted - equal) > _ASTRAY * equal + len(streams):
        raise EngineFailed(f"{len(streams)} sequences do not decode together: {counted} tokens came for {equal}")
    ahead = [_between(stream, 0, opened_ns) - 1 for stream in streams]
    durations_ns = tuple(later - earlier for earlier, later in pairwise(edges_ns))
    return Slices(tuple(edges_ns[:-1]), durations_ns, round(sum(ahead) / len(ahead)))


def _edges_ns(stream: Timed, steps: int) -> list[int]:
    """When its first token came, and then each `steps`-th one."""
    held = stream.tokens or ()
    at_ns = dict(zip((total - held[0] for total in accumulate(held)), stream.arrivals_ns, strict=True))
    wanted = range(0, sum(held) - held[0] + 1, steps)
    if any(edge not in at_ns for edge in wanted):
        raise EngineFailed(
            f"tokens come up to {max(held)} to a chunk, which cannot be cut into slices of {steps} steps: "
            "have the server send each token by itself, or choose other decode_steps"
        )
    return [at_ns[edge] for edge in wanted]


def _between(stream: Timed, after_ns: int, until_ns: int) -> int:
    pairs = zip(stream.arrivals_ns, stream.tokens or (), strict=True)
    return sum(tokens for at_ns, tokens in pairs if after_ns < at_ns <= until_ns)
