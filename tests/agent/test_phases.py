"""The timed loops: what they call, in which order, and that nothing else is inside a span."""

from __future__ import annotations

import ast
import contextlib
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from agent import phases
from agent.orders import Described, Load, Loaded, Profile, ProfileOperators, Repeat, Resolve
from agent.phases import Phases
from phasewatt.errors import EngineFailed
from phasewatt.fields import Phase
from phasewatt.profiles import OperatorProfile
from phasewatt.records import MemoryUse


class Recorder:
    """An engine that notes the calls it gets, and the depth of its cache."""

    simulated = True

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.depth = self.tokens = 0
        self.busy_ns: int | EngineFailed = 7
        self.most_steps = 10**9
        self.sync_s = 0.0

    def describe(self, order: Resolve) -> Described:
        raise NotImplementedError

    def load(self, order: Load) -> Loaded:
        raise NotImplementedError

    def set_prompt(self, ids: array[int], batch: int) -> None:
        self.tokens = len(ids) // batch
        self.calls.append(f"prompt {self.tokens}")

    def reset(self) -> None:
        self.depth = 0

    def prefill(self) -> Any:
        assert self.depth == 0, "prefill needs an empty cache"
        self.depth = self.tokens
        self.calls.append("prefill")
        return 0

    def decode_one(self, token: Any) -> Any:
        if not self.most_steps:
            raise EngineFailed("lost")
        self.most_steps -= 1
        self.depth += 1
        self.calls.append(f"decode at {self.depth - 1}")
        return token + 1

    def crop(self, depth: int) -> None:
        self.depth = min(self.depth, depth)

    def sync(self) -> None:
        self.calls.append("sync")
        time.sleep(self.sync_s)

    def device_busy_ns(self, work: Callable[[], None]) -> int:
        work()
        if isinstance(self.busy_ns, EngineFailed):
            raise self.busy_ns
        return self.busy_ns

    def guarded(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def reset_peak_memory(self) -> None:
        raise NotImplementedError

    def memory(self) -> MemoryUse:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def _phases(engine: Recorder) -> Phases:
    return Phases(engine, lambda tokens: array("i", [1] * tokens), batch=1, tokens=8)


def test_prefill_repeats_on_an_empty_cache() -> None:
    """Each repetition is a prefill of the whole prompt and a sync."""
    engine = Recorder()
    done = _phases(engine).repeat(Repeat(phase=Phase.PREFILL, repetitions=3, seconds=0, limit_s=9))
    assert engine.calls.count("prefill") == len(done.durations_ns) == 3
    assert engine.calls[-2:] == ["prefill", "sync"]


def test_decode_repeats_over_the_same_depths() -> None:
    """Each repetition begins at the stated depth and is cropped back to it."""
    engine = Recorder()
    _phases(engine).repeat(Repeat(phase=Phase.DECODE, repetitions=2, seconds=0, limit_s=9, depth=20, steps=3))
    assert [call for call in engine.calls if call.startswith("decode")] == [
        "decode at 20",
        "decode at 21",
        "decode at 22",
    ] * 2
    assert engine.depth == 20


def test_request_times_every_token() -> None:
    """The first token, and a gap for each further one; they add up to the duration."""
    engine = Recorder()
    done = _phases(engine).repeat(Repeat(phase=Phase.REQUEST, repetitions=2, seconds=0, limit_s=9, steps=4))
    assert engine.calls.count("prefill") == 2
    assert [len(gaps) for gaps in done.gaps_ns] == [3, 3]
    for first, gaps, duration in zip(done.first_token_ns, done.gaps_ns, done.durations_ns, strict=True):
        assert first + sum(gaps) <= duration


def test_repetitions_go_on_until_the_seconds_are_full_but_not_past_the_limit() -> None:
    """Long enough to meter; and a limit holds even when repetitions are missing."""
    engine = Recorder()
    engine.sync_s = 0.001
    long = _phases(engine).repeat(Repeat(phase=Phase.PREFILL, repetitions=1, seconds=0.05, limit_s=9))
    assert long.starts_ns[-1] - long.starts_ns[0] > 20_000_000
    short = _phases(engine).repeat(Repeat(phase=Phase.PREFILL, repetitions=4000, seconds=0, limit_s=0))
    assert len(short.durations_ns) == 1


def test_profile_gives_busy_times_or_the_engines_reason() -> None:
    """A pass of its own; an engine without device time says why."""
    engine = Recorder()
    order = Profile(phase=Phase.PREFILL, repetitions=2)
    assert _phases(engine).profile(order).busy_ns == (7, 7)
    engine.busy_ns = EngineFailed("no device time")
    refused = _phases(engine).profile(order)
    assert refused.busy_ns is None
    assert refused.reason == "no device time"


def test_operators_are_the_engines_or_it_says_why_there_are_none() -> None:
    """One that cannot tell them; one that fails half-way, whose next phase is prepared anew."""
    order = ProfileOperators(phase=Phase.DECODE, repetitions=1, kv_start=20, kv_end=23, depth=20, steps=3)
    mute = _phases(Recorder()).operators(order).profile
    assert (mute.repetitions, mute.kv_start, mute.kv_end) == (0, 20, 23)
    assert mute.reason == "the engine does not tell which operator a kernel of its own is of"

    class Telling(Recorder):
        def operator_profile(self, order: ProfileOperators, work: Callable[[], object]) -> OperatorProfile:
            work()
            raise EngineFailed("the profiler saw no kernel")

    engine = Telling()
    running = _phases(engine)
    assert running.operators(order).profile.reason == "the profiler saw no kernel"
    assert _decoded_at(engine) == [20, 21, 22]
    engine.calls.clear()
    running.repeat(_decode())
    assert engine.calls.count("prefill") == 1


def _decode(depth: int = 20, steps: int = 3) -> Repeat:
    return Repeat(phase=Phase.DECODE, repetitions=2, seconds=0, limit_s=9, depth=depth, steps=steps)


def _decoded_at(engine: Recorder) -> list[int]:
    return [int(call.removeprefix("decode at ")) for call in engine.calls if call.startswith("decode")]


def test_a_stretch_that_follows_another_of_its_kind_begins_without_preparing() -> None:
    """A second window of decode finds the cache as the first left it: no prefill in between, and the same depths."""
    engine = Recorder()
    running = _phases(engine)
    running.repeat(_decode())
    engine.calls.clear()
    running.repeat(_decode())
    running.profile(Profile(phase=Phase.DECODE, repetitions=1, depth=20, steps=3))
    assert "prefill" not in engine.calls
    assert _decoded_at(engine) == [20, 21, 22] * 3


@pytest.mark.parametrize("other", [_decode(depth=30), _decode(steps=2)])
def test_another_depth_or_number_of_steps_is_prepared_for(other: Repeat) -> None:
    """And so is the way back."""
    engine = Recorder()
    running = _phases(engine)
    running.repeat(_decode())
    engine.calls.clear()
    running.repeat(other)
    assert engine.calls.count("prefill") == 1
    assert _decoded_at(engine) == [*range(other.depth, other.depth + other.steps)] * 2
    running.repeat(_decode())
    assert engine.calls.count("prefill") == 2
    assert engine.depth == 20


@pytest.mark.parametrize("between", [Phase.PREFILL, Phase.REQUEST])
def test_a_phase_in_between_is_prepared_for_and_so_is_the_return(between: Phase) -> None:
    """Each has its own prompt: the whole one, and for decode one of the depth asked for."""
    engine = Recorder()
    running = _phases(engine)
    running.repeat(_decode())
    engine.calls.clear()
    running.repeat(Repeat(phase=between, repetitions=1, seconds=0, limit_s=9, steps=2))
    running.repeat(_decode())
    assert [call for call in engine.calls if call.startswith("prompt")] == ["prompt 8", "prompt 20"]
    assert _decoded_at(engine)[-6:] == [20, 21, 22] * 2


def test_a_pass_that_failed_half_way_leaves_nothing_prepared() -> None:
    """The cache stands at a depth that nobody knows."""
    engine = Recorder()
    running = _phases(engine)
    running.repeat(_decode())
    engine.most_steps = 2
    assert running.profile(Profile(phase=Phase.DECODE, repetitions=1, depth=20, steps=3)).reason == "lost"
    assert engine.depth == 22
    engine.most_steps = 10**9
    engine.calls.clear()
    running.repeat(_decode())
    assert _decoded_at(engine) == [20, 21, 22] * 2


def test_nothing_but_model_calls_a_sync_and_the_clock_is_inside_a_span() -> None:
    """Over the source of the timed loops; the check itself is shown to fail on a log line."""
    source = Path(phases.__file__).read_text()
    assert _strangers(source) == []
    spans = source.count("with watch.span():")
    assert spans == 3
    spoilt = source.replace(
        "engine.prefill()\n            engine.sync()\n        return", "print(1)\n        return", 1
    )
    assert _strangers(spoilt) == ["print(1)"]


def _strangers(source: str) -> list[str]:
    """Calls inside `with watch.span()` that are neither the engine's, nor `watch.mark`, nor `range`."""
    blocks = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr) == "watch.span()"
    ]
    allowed = {"engine.prefill", "engine.decode_one", "engine.sync", "watch.mark", "range"}
    calls = [n for block in blocks for s in block.body for n in ast.walk(s) if isinstance(n, ast.Call)]
    others = [
        n for block in blocks for s in block.body for n in ast.walk(s) if isinstance(n, ast.With | ast.Try | ast.If)
    ]
    return [ast.unparse(c) for c in calls if ast.unparse(c.func) not in allowed] + [ast.unparse(o) for o in others]


def test_the_span_check_finds_a_branch(tmp_path: Path) -> None:
    """A test of the back-end inside a span would be a stranger too."""
    spoilt = "with watch.span():\n    if cuda:\n        engine.sync()\n"
    assert len(_strangers(spoilt)) == 1


@pytest.mark.parametrize("phase", [Phase.PREFILL, Phase.DECODE, Phase.REQUEST])
def test_spans_do_not_overlap_and_are_in_order(phase: Phase) -> None:
    """A repetition begins after the one before it ended."""
    order = Repeat(phase=phase, repetitions=5, seconds=0, limit_s=9, depth=9, steps=3)
    done = _phases(Recorder()).repeat(order)
    ends = [start + duration for start, duration in zip(done.starts_ns, done.durations_ns, strict=True)]
    assert all(end <= start for end, start in zip(ends, done.starts_ns[1:], strict=False))
