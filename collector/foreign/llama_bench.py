"""`llama-bench -o json` and `-o jsonl`: one trial a test. Pure.

Source: ggml-org/llama.cpp, tools/llama-bench/README.md, "Output formats".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from collector.foreign.checked import count, number, numbers, text, unix_s
from collector.foreign.terms import metric_of
from phasewatt.conditions import Conditions
from phasewatt.errors import RecordRejected
from phasewatt.fields import Outcome
from phasewatt.records import ForeignFigure, Imported, Trial

TOOL = "llama-bench"
_ACCELERATORS = {"CPU": "cpu", "CUDA": "cuda"}
_UNKNOWN = ("power_mode", "governor", "clock_hz", "temperature_c", "other_cpu_load", "throttled", "attention", "mode")


def trials_in(body: str, device: str) -> Iterator[Trial]:
    """The trials in a file's text.

    Raises:
        RecordRejected: not such a file, naming the place.
    """
    for place, row in _rows(body):
        try:
            yield _trial(row, device)
        except RecordRejected as error:  # noqa: PERF203 - the first one ends the loop
            raise RecordRejected(f"{place}: {error}") from error


def _rows(body: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each test with its place: an array of objects, or an object a line."""
    if body.lstrip().startswith("["):
        rows = [(f"test {index}", row) for index, row in enumerate(_parsed(body, "the file"), 1)]
    else:
        lines = [(f"line {index}", line) for index, line in enumerate(body.splitlines(), 1) if line.strip()]
        rows = [(place, _parsed(line, place)) for place, line in lines]
    if not rows:
        raise RecordRejected("no test in it")
    for place, row in rows:
        if not isinstance(row, dict):
            raise RecordRejected(f"{place}: expected an object of one test")
        yield place, row


def _parsed(body: str, place: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RecordRejected(f"{place} is not JSON: {error}") from error


def _trial(row: dict[str, Any], device: str) -> Trial:
    prompt, generated, depth = (count(row, name) for name in ("n_prompt", "n_gen", "n_depth"))
    prompt, generated, depth = prompt or 0, generated or 0, depth or 0
    if not prompt and not generated:
        raise RecordRejected("neither n_prompt nor n_gen is above 0")
    imported = Imported(
        tool=TOOL,
        tool_version=_build(row),
        model=text(row, "model_type"),
        prompt_tokens=prompt,
        output_tokens=generated,
        depth=depth,
        figures=tuple(_figures(row, prompt, generated, depth)),
    )
    return Trial(
        device=device,
        campaign="import",
        suite=TOOL,
        cell=_cell(row, prompt, generated, depth),
        agent_version=f"{TOOL} {imported.tool_version or 'of unknown version'}",
        boot_id="unknown",
        started_unix_s=unix_s(row, "test_time"),
        started_ns=0,
        outcome=Outcome.OK,
        reason=None,
        work=None,
        conditions=_conditions(row, imported.tool_version),
        energy_reason=f"{TOOL} does not meter energy",
        imported=imported,
    )


def _figures(row: dict[str, Any], prompt: int, generated: int, depth: int) -> Iterator[ForeignFigure]:
    """Times, and rates where they are of one phase alone."""
    times_s = tuple(value * 1e-9 for value in numbers(row, "samples_ns") or (number(row, "avg_ns"),))
    if prompt and generated:
        yield _figure("pg time", "s", times_s)
    elif prompt and depth:
        yield _figure("pp at depth", "token/s", tuple(prompt / value for value in times_s))
    elif prompt:
        yield _figure("pp", "token/s", tuple(prompt / value for value in times_s))
        yield _figure("pp time", "s", times_s)
    else:
        yield _figure("tg", "token/s", tuple(generated / value for value in times_s))
        yield _figure("tg time", "s", tuple(value / generated for value in times_s))


def _figure(term: str, unit: str, values: tuple[float, ...]) -> ForeignFigure:
    return ForeignFigure(term=term, metric=metric_of(TOOL, term), unit=unit, values=values)


def _cell(row: dict[str, Any], prompt: int, generated: int, depth: int) -> str:
    """The test as llama-bench writes it."""
    test = "+".join([f"pp{prompt}"] * bool(prompt) + [f"tg{generated}"] * bool(generated))
    return f"{text(row, 'model_type') or 'unknown model'} {test}{f' @ d{depth}' if depth else ''}"[:256]


def _build(row: dict[str, Any]) -> str | None:
    commit, build = text(row, "build_commit"), count(row, "build_number")
    return None if commit is None and build is None else f"{build if build is not None else '?'} ({commit or '?'})"


def _conditions(row: dict[str, Any], build: str | None) -> Conditions:
    backend = text(row, "backends")
    accelerator = _ACCELERATORS.get(backend or "", (backend or "unknown").lower())
    return Conditions(
        engine="llama.cpp",
        mode="unknown",
        accelerator=accelerator,
        processor=text(row, "cpu_info" if accelerator == "cpu" else "gpu_info"),
        threads=count(row, "n_threads") or None,
        versions={"llama.cpp": build} if build else {},
        marks=("imported: warm-up, clocks, temperature and other load are not known",),
        unknown=_UNKNOWN,
    )
