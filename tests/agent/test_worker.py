"""The worker's answers to orders, in this process, with the fake engine."""

from __future__ import annotations

import io
import sys
from typing import Any

import msgspec
import pytest

from agent import engines, models, worker
from agent.engines.fake import Fake
from agent.orders import Answer, CeilingMeasured, Load, Loaded, MeasureCeiling, Prompt, Ready, Refused, Repeat
from phasewatt.fields import Phase

LOAD = Load(
    architecture=models.preset("stories15m"),
    weights="random:7",
    dtype="float32",
    mode="eager",
    attention="sdpa",
    accelerator="cpu",
)


def _answers(engine: str, *orders: Any) -> list[Any]:
    lines = b"".join((order if isinstance(order, bytes) else msgspec.json.encode(order)) + b"\n" for order in orders)
    answers = io.BytesIO()
    worker.serve(engine, io.BytesIO(lines), answers)
    return [msgspec.json.decode(line, type=Answer) for line in answers.getvalue().splitlines()]


def _prompt(threads: int | None) -> Prompt:
    return Prompt(seed=1, batch=1, tokens=4, threads=threads)


def test_threads_left_out_are_the_engines_own_choice_again() -> None:
    """Not those of the cell before: the order of the cells must not matter."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    before = torch.get_num_threads()
    try:
        found = _answers("transformers", LOAD, _prompt(None), _prompt(before + 3), _prompt(None))
    finally:
        torch.set_num_threads(before)
    assert [reply.threads for reply in found if isinstance(reply, Ready)] == [before, before + 3, before]


def test_ceilings_are_measured_with_the_threads_that_are_asked_for() -> None:
    """And with torch's own number where none is, whatever was asked for before."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    before = torch.get_num_threads()
    orders = [
        MeasureCeiling(
            work="launch", shape=(1,), dtype="float32", accelerator="cpu", repetitions=1, seconds=0.0, threads=threads
        )
        for threads in (before + 1, None)
    ]
    try:
        found = _answers("transformers", *orders)
    finally:
        torch.set_num_threads(before)
    assert [reply.threads for reply in found if isinstance(reply, CeilingMeasured)] == [before + 1, before]


def test_an_order_that_fails_is_refused_and_the_next_is_answered() -> None:
    """A phase before a prompt, and bytes that are no order."""
    repeat = Repeat(phase=Phase.PREFILL, repetitions=1, seconds=0, limit_s=1)
    found = _answers("fake", LOAD, repeat, b"{}", _prompt(None))
    assert [type(reply) for reply in found] == [Loaded, Refused, Refused, Ready]
    assert "before a prompt was set" in found[1].message


def test_an_engine_that_is_not_installed_is_told_from_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is no fault of the cell: it is skipped."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "agent.engines.onnxruntime", raising=False)
    (absent,) = _answers("onnxruntime", LOAD)
    failed = _answers("fake", b"{}")[0]
    assert (absent.absent, failed.absent) == (True, False)
    assert "pip install" in absent.message


def test_the_engine_that_has_threads_of_its_own_is_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch, if it is loaded, is left alone."""

    class Own(Fake):
        def set_threads(self, asked: int | None) -> int:
            return asked or 11

    monkeypatch.setattr(engines, "create", lambda name: Own())
    found = _answers("own", LOAD, _prompt(None), _prompt(3))
    assert [reply.threads for reply in found if isinstance(reply, Ready)] == [11, 3]


def test_a_mode_that_the_engine_lacks_is_refused() -> None:
    """Never another mode in silence."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    refused = _answers("transformers", msgspec.structs.replace(LOAD, mode="fast"))[0]
    assert isinstance(refused, Refused)
    assert "no mode 'fast'; known: eager, graph, compiled" in refused.message
