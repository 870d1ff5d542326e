"""A trial in one line: what was run, where, how, and how it ended. Part of the JSON and CSV formats."""

from __future__ import annotations

from msgspec import Struct

from collector.stored import StoredTrial
from phasewatt import identity


class TrialLine(Struct, frozen=True, kw_only=True):
    """One trial, as docs/json.md describes it; what is of the work is None where the trial failed before that."""

    record_id: str
    work_id: str | None
    task_id: str | None
    started_unix_s: float
    device: str
    campaign: str
    suite: str
    cell: str
    model: str | None
    weights: str | None
    dtype: str | None
    quantization: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    batch: int | None
    engine: str
    mode: str
    accelerator: str
    processor: str | None
    simulated: bool
    outcome: str
    reason: str | None


def trial_line(stored: StoredTrial) -> TrialLine:
    """The line of a stored trial."""
    trial, conditions, work = stored.trial, stored.trial.conditions, stored.trial.work
    task = work.task if work else None
    told = trial.imported
    return TrialLine(
        record_id=stored.record_id,
        work_id=identity.work_id(work) if work else None,
        task_id=identity.task_id(task) if task else None,
        started_unix_s=trial.started_unix_s,
        device=trial.device,
        campaign=trial.campaign,
        suite=trial.suite,
        cell=trial.cell,
        model=task.architecture.name if task else (told.model if told else None),
        weights=work.weights.source if work else None,
        dtype=work.dtype if work else None,
        quantization=work.quantization if work else None,
        prompt_tokens=task.prompt_tokens if task else (told.prompt_tokens if told else None),
        output_tokens=task.output_tokens if task else (told.output_tokens if told else None),
        batch=task.batch if task else None,
        engine=conditions.engine,
        mode=conditions.mode,
        accelerator=conditions.accelerator,
        processor=conditions.processor,
        simulated=conditions.simulated,
        outcome=trial.outcome.value,
        reason=trial.reason,
    )
