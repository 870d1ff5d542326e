"""AIPerf's `profile_export_aiperf.json`: one trial a run. Pure.

Source: ai-dynamo/aiperf, docs/reference/json-export-schema.md, schema 1.0 to 1.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from collector.foreign.checked import text, unix_s
from collector.foreign.terms import TERMS, UNITS, metric_of
from phasewatt.conditions import Conditions
from phasewatt.errors import RecordRejected
from phasewatt.fields import Outcome
from phasewatt.records import ForeignFigure, Imported, Trial

TOOL = "aiperf"
_STATISTICS = ("avg", "min", "max", "std", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "count")
_UNKNOWN = (
    *("engine", "mode", "accelerator", "processor", "attention", "threads", "parallelism", "versions"),
    *("power_mode", "governor", "clock_hz", "temperature_c", "other_cpu_load", "throttled"),
)


def trials_in(body: str, device: str) -> Iterator[Trial]:
    """The one trial in a file's text.

    Raises:
        RecordRejected: not such a file, or without any figure that is known here.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RecordRejected(f"not JSON: {error}") from error
    if not isinstance(said, dict):
        raise RecordRejected("expected the object that aiperf writes as profile_export_aiperf.json")
    yield _trial(said, device)


def _trial(said: dict[str, Any], device: str) -> Trial:
    blocks = said["records"] if isinstance(said.get("records"), dict) else said  # below `records` in early versions
    figures = tuple(_figures(blocks))
    if not figures:
        raise RecordRejected(f"none of {', '.join(_known())} is in it")
    version = text(said, "aiperf_version")
    model = _model(said)
    imported = Imported(
        tool=TOOL,
        tool_version=version,
        model=model,
        prompt_tokens=_constant(blocks, "input_sequence_length"),
        output_tokens=_constant(blocks, "output_sequence_length"),
        depth=None,
        figures=figures,
    )
    is_cancelled = said.get("was_cancelled") is True
    return Trial(
        device=device,
        campaign="import",
        suite=TOOL,
        cell=f"{model or 'unknown model'} {_label(said)}".strip()[:256],
        agent_version=f"{TOOL} {version or 'of unknown version'}",
        boot_id="unknown",
        started_unix_s=unix_s(said, "start_time"),
        started_ns=0,
        outcome=Outcome.FAILED if is_cancelled else Outcome.OK,
        reason="the run was cancelled" if is_cancelled else None,
        work=None,
        conditions=Conditions(
            engine="unknown",
            mode="unknown",
            accelerator="unknown",
            processor=None,
            parallelism="unknown",
            marks=tuple(_marks(said)),
            unknown=_UNKNOWN,
        ),
        energy_reason=f"energy is not taken from {TOOL}",
        imported=imported,
    )


def _figures(blocks: Mapping[str, Any]) -> Iterator[ForeignFigure]:
    for term in _known():
        block = blocks.get(term)
        if isinstance(block, dict):
            yield _figure(term, block)


def _figure(term: str, block: Mapping[str, Any]) -> ForeignFigure:
    unit, factor = UNITS.get(str(block.get("unit")), (None, 0.0))
    if unit is None:
        raise RecordRejected(f"{term}: unit {block.get('unit')!r} is not known; expected one of {', '.join(UNITS)}")
    numbers = {name: block[name] for name in _STATISTICS if _is_number(block.get(name))}
    statistics = {name: value if name == "count" else value * factor for name, value in numbers.items()}
    middle = statistics.get("p50", statistics.get("avg"))
    if middle is None:
        raise RecordRejected(f"{term}: neither p50 nor avg is a number")
    return ForeignFigure(
        term=term, metric=metric_of(TOOL, term), unit=unit, values=(float(middle),), statistics=statistics
    )


def _known() -> list[str]:
    return [term.theirs for term in TERMS if term.tool == TOOL]


def _constant(blocks: Mapping[str, Any], name: str) -> int | None:
    """A length that all requests share; None: it varies, or is not told."""
    block = blocks.get(name)
    if not isinstance(block, dict) or not _is_number(block.get("min")) or block["min"] != block.get("max"):
        return None
    return int(block["min"]) if block["min"] >= 0 else None


def _model(said: Mapping[str, Any]) -> str | None:
    config = said.get("input_config")
    config = config if isinstance(config, dict) else {}
    models, endpoint = config.get("models"), config.get("endpoint")
    items = models.get("items") if isinstance(models, dict) else None
    if isinstance(items, list) and items and isinstance(items[0], dict):
        return text(items[0], "name")
    names = endpoint.get("model_names") if isinstance(endpoint, dict) else None
    return names[0][:256] if isinstance(names, list) and names and isinstance(names[0], str) else None


def _label(said: Mapping[str, Any]) -> str:
    """What tells this run from the others of a sweep."""
    run = said.get("run_info")
    return (text(run, "variation_label") or "") if isinstance(run, dict) else ""


def _marks(said: Mapping[str, Any]) -> Iterator[str]:
    yield "imported: medians over requests; the server, its host and its cache are not known"
    errors = said.get("error_summary")
    if isinstance(errors, list) and errors:
        yield f"requests failed: {len(errors)} kinds of error"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
