"""The repetitions of trials as flat rows for notebooks: one a repetition, each with its trial. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import asdict

from collector.columns import CellKind, Column, fields_of
from collector.stored import StoredTrial
from collector.trial_line import TrialLine, trial_line
from phasewatt.records import PhaseRun

COLUMNS = (
    *fields_of((TrialLine,)),
    Column("phase", CellKind.TEXT),
    Column("repetition", CellKind.INTEGER),
    Column("warmup", CellKind.TRUTH),
    Column("start_s", CellKind.REAL, "s"),
    Column("duration_s", CellKind.REAL, "s"),
    Column("first_token_s", CellKind.REAL, "s"),
    Column("mean_gap_s", CellKind.REAL, "s"),
    Column("tokens", CellKind.INTEGER, "token"),
    Column("kv_start", CellKind.INTEGER, "token"),
    Column("kv_end", CellKind.INTEGER, "token"),
    Column("in_flight", CellKind.INTEGER),
    Column("steady", CellKind.TRUTH),
)


def repetition_rows(stored: StoredTrial) -> Iterator[dict[str, Any]]:
    """The rows of one trial in order of its phases, warm-up ones marked; none where it ran nothing."""
    shared = asdict(trial_line(stored))
    for run in stored.trial.runs:
        for index in range(len(run.starts_ns)):
            yield shared | _repetition(run, index, stored.trial.started_ns)


def _repetition(run: PhaseRun, index: int, began_ns: int) -> dict[str, Any]:
    deeper = run.kv_advance * max(0, index - run.warmup)
    return {
        "phase": run.phase.value,
        "repetition": index,
        "warmup": index < run.warmup,
        "start_s": (run.starts_ns[index] - began_ns) * 1e-9,
        "duration_s": run.durations_ns[index] * 1e-9,
        "first_token_s": _first_token_s(run, index),
        "mean_gap_s": _mean_gap_s(run, index - run.warmup),
        "tokens": run.tokens,
        "kv_start": run.kv_start + deeper,
        "kv_end": run.kv_end + deeper,
        "in_flight": run.in_flight,
        "steady": run.steady,
    }


def _first_token_s(run: PhaseRun, index: int) -> float | None:
    known = run.first_token_ns is not None and index < len(run.first_token_ns)
    return run.first_token_ns[index] * 1e-9 if known and run.first_token_ns else None


def _mean_gap_s(run: PhaseRun, steady_index: int) -> float | None:
    """Of the gaps between tokens, which are kept of steady repetitions alone."""
    if run.gaps_ns is None or not 0 <= steady_index < len(run.gaps_ns) or not run.gaps_ns[steady_index]:
        return None
    gaps = run.gaps_ns[steady_index]
    return sum(gaps) * 1e-9 / len(gaps)
