"""The words that terminal, Markdown and HTML share: titles of metrics, what is the same, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collector.comparison import Comparison, Row
from collector.conditions import NO_MARKS
from collector.pairing import Refused
from collector.scopes import scopes_told
from phasewatt.metrics import Better

_TITLES: Mapping[str, str] = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "e2e_latency": "End-to-end latency",
    "prefill_mfu": "Prefill MFU",
    "decode_mfu": "Decode MFU",
    "prefill_mbu": "Prefill MBU",
    "decode_mbu": "Decode MBU",
    "decode_token_bytes": "Decode bytes a token",
    "prefill_sm_utilisation": "Prefill SM utilisation",
    "decode_sm_utilisation": "Decode SM utilisation",
    "prefill_dram_utilisation": "Prefill DRAM utilisation",
    "decode_dram_utilisation": "Decode DRAM utilisation",
    "prefill_sm_clock": "Prefill SM clock",
    "decode_sm_clock": "Decode SM clock",
}
_ADJUSTED = " adjusted"
_DIRECTIONS = {Better.LOWER: "lower is better", Better.HIGHER: "higher is better", Better.NEITHER: ""}


def metric_title(name: str) -> str:
    """The name of a metric as a person writes it, such as "Decode step latency"."""
    plain = name.replace("_", " ")
    if plain.endswith(_ADJUSTED):
        plain = f"{plain.removesuffix(_ADJUSTED)} above idle"
    return _TITLES.get(name) or plain[:1].upper() + plain[1:]


def row_title(row: Row) -> str:
    """A metric with its power scope, where it has one, or with both that are set beside each other."""
    return metric_title(row.metric) + (f" ({scopes_told(row.scope, row.beside)})" if row.scope else "")


def direction(row: Row) -> str:
    """Which way is better, in words; neither between unlike scopes."""
    return "unlike scopes" if row.beside else better_way(row.better)


def better_way(better: Better) -> str:
    """Which way an improvement goes, in words."""
    return _DIRECTIONS[better]


def shared_conditions(comparison: Comparison) -> str:
    """Settings that all groups have in common, in one line."""
    same = [c for c in comparison.conditions if not c.observed and not c.differs and c.values and c.values[0]]
    return ", ".join(f"{condition.name} {condition.values[0]}" for condition in same)


def marks(comparison: Comparison) -> list[str]:
    """What a reader must know of a group before believing it, such as "orin-1: not alone: 1.3 cores busy"."""
    marked = [c for c in comparison.conditions if c.observed and c.name == "marks"]
    return [
        f"{group.label}: {value}"
        for condition in marked
        for group, value in zip(comparison.groups, condition.values, strict=True)
        if value and value != NO_MARKS
    ]


def baseline(comparison: Comparison) -> str:
    """Which group is the baseline, and why."""
    return f"Baseline: {comparison.baseline}, {comparison.baseline_rule}."


def refused(entry: Refused) -> str:
    """Whose trials were left out, and how many: "alpha, phases/chat, 2 trials"."""
    counted = len(entry.record_ids)
    return f"{entry.device}, {entry.suite}/{entry.cell}, {counted} {'trial' if counted == 1 else 'trials'}"


def note_marks(numbers_of_notes: Sequence[int]) -> str:
    """The notes that belong to a value, such as " 1) 3)"."""
    return "".join(f" {number})" for number in numbers_of_notes)
