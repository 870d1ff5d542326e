"""`jobs submit FILE | list | show JOB | cancel JOB`: work for boards, and what became of it."""

from __future__ import annotations

import argparse
import contextlib
import re
import secrets
import time
from pathlib import Path

import msgspec

from collector import job_spec, schedules
from collector.commands import table
from collector.job_spec import Execution, JobRow
from collector.store import Store, open_store
from phasewatt import jobs
from phasewatt.errors import ConfigInvalid
from phasewatt.jobs import State

_JOBS = ("JOB", "SUITE", "SUBMITTED", "SCHEDULE", "NEXT", "RUNS", "STANDING")
_EXECUTIONS = ("RUN", "DEVICE", "STATE", "CELLS", "TRIALS", "CHANGED", "EXPIRES", "REASON")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")


class Run(msgspec.Struct, frozen=True):
    """One occurrence of a job on one device."""

    run: str
    device: str
    state: str
    version: int
    cancel: bool
    reason: str | None
    cells: int | None
    done: int
    trials: int
    due_unix_s: float | None
    created_unix_s: float
    changed_unix_s: float
    expires_unix_s: float | None


class Job(msgspec.Struct, frozen=True):
    """A job as it was submitted, with what became of it."""

    job: str
    suite: str
    parameters: jobs.Parameters
    devices: tuple[str, ...]
    labels: tuple[str, ...]
    cron: str | None
    timezone: str | None
    next_due_unix_s: float | None
    priority: int
    timeout_s: float | None
    expires_after_s: float | None
    submitted_unix_s: float
    cancelled: bool
    states: dict[str, int]
    runs: list[Run]


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "jobs/0"
    jobs: list[Job]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do; each may be followed by --db and --json."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    again = argparse.ArgumentParser(add_help=False)
    again.add_argument("--db", metavar="URL", default=argparse.SUPPRESS, help="as before ACTION")
    again.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    submit = actions.add_parser("submit", parents=[again], help="take a job from a TOML file (docs/jobs.md)")
    submit.add_argument("file", type=Path)
    submit.add_argument("--id", dest="job", help="its name; submitted twice under one name it is one job")
    actions.add_parser("list", parents=[again], help="list the jobs, the newest first")
    for name, explanation in (("show", "what became of a job, board by board"), ("cancel", "have a job run no more")):
        action = actions.add_parser(name, parents=[again], help=explanation)
        action.add_argument("job", help="a job, or one run of it")
        action.add_argument("--device", help="on this device only")


def run(args: argparse.Namespace) -> int:
    """Do it; 1 where a submitted job is rejected on all its targets at once."""
    with contextlib.closing(open_store(args.db)) as store:
        return {"submit": _submit, "list": _list, "show": _show, "cancel": _cancel}[args.action](store, args)


def _submit(store: Store, args: argparse.Namespace) -> int:
    job = JobRow(*_named(args.job, _spec(args.file)), created_unix_s=time.time())
    first = [] if job.spec.schedule else job_spec.executions_of(job, None, store.devices(), job.created_unix_s)
    held = store.jobs.submit(job, first)
    if held is not None and held != job.spec:
        raise ConfigInvalid(f"job {job.id!r} is there already and asks for something else; choose another --id")
    _print([job.id], store, args)
    made = store.jobs.executions(job.id)
    return int(bool(made) and all(each.standing.state is State.REJECTED for each in made))


def _list(store: Store, args: argparse.Namespace) -> int:
    found = [_job(store, job, []) for job in store.jobs.jobs()]
    if args.json:
        _print_json(found)
    else:
        table.show(_JOBS, map(_job_cells, found), "no job was submitted yet")
    return 0


def _show(store: Store, args: argparse.Namespace) -> int:
    _print([args.job], store, args, args.device)
    return 0


def _cancel(store: Store, args: argparse.Namespace) -> int:
    names = {job.id for job in store.jobs.jobs()}
    if args.job in names and args.device is None:
        store.jobs.stop_schedule(args.job)
    else:
        _found(store, args.job)
    for execution in store.jobs.executions(args.job, args.device, open_only=True):
        _withdraw(store, execution)
    _print([args.job], store, args, args.device)
    return 0


def _withdraw(store: Store, execution: Execution) -> None:
    """Cancel on one device; where the board spoke meanwhile, by what it said."""
    while (after := jobs.cancelled(execution.standing, "cancelled before a board took it")) is not None:
        if store.jobs.change(execution, after, time.time()):
            return
        execution = next(e for e in store.jobs.executions(execution.id) if e.device == execution.device)


def _spec(path: Path) -> job_spec.JobSpec:
    try:
        return job_spec.parse(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"job: cannot read {path}: {error}") from error


def _named(asked: str | None, spec: job_spec.JobSpec) -> tuple[str, job_spec.JobSpec]:
    if asked is not None and not _ID.match(asked):
        raise ConfigInvalid(f"--id: expected at most 40 letters, digits, '.', '_' or '-', got {asked!r}")
    return asked or f"{spec.name[:33]}-{secrets.token_hex(3)}", spec


def _found(store: Store, name: str) -> JobRow:
    """The job of that name, or the one that a run of that name belongs to."""
    rows = {job.id: job for job in store.jobs.jobs()}
    runs = store.jobs.executions(name)
    job = rows.get(name) or (rows.get(runs[0].job) if runs else None)
    if job is None:
        raise ConfigInvalid(f"no job {name!r}; `jobs list` shows them")
    return job


def _print(names: list[str], store: Store, args: argparse.Namespace, device: str | None = None) -> None:
    found = []
    for name in names:
        job = _found(store, name)
        executions = store.jobs.executions(name, device)
        found.append(_job(store, job, executions))
    if args.json:
        _print_json(found)
        return
    for job_shown in found:
        print(f"job {job_shown.job}: suite {job_shown.suite}, {_schedule(job_shown)}")
        table.show(_EXECUTIONS, map(_run_cells, job_shown.runs), "no run yet")


def _print_json(found: list[Job]) -> None:
    print(msgspec.json.format(msgspec.json.encode(Jobs(jobs=found))).decode())


def _job(store: Store, job: JobRow, executions: list[Execution]) -> Job:
    spec, schedule = job.spec, job.spec.schedule
    states: dict[str, int] = {}
    for execution in store.jobs.executions(job.id):
        states[execution.standing.state.value] = states.get(execution.standing.state.value, 0) + 1
    due = None
    if schedule is not None and not job.cancelled:
        due = schedules.next_due(schedule.cron, schedule.timezone, time.time())
    counts = store.jobs.trials_of(job.id) if executions else {}
    return Job(
        job=job.id,
        suite=spec.suite,
        parameters=spec.parameters,
        devices=spec.targets.devices,
        labels=spec.targets.labels,
        cron=None if schedule is None else schedule.cron,
        timezone=None if schedule is None else schedule.timezone,
        next_due_unix_s=due,
        priority=spec.priority,
        timeout_s=spec.timeout_s,
        expires_after_s=spec.expires_after_s,
        submitted_unix_s=job.created_unix_s,
        cancelled=job.cancelled,
        states=states,
        runs=[_run(each, counts.get((each.id, each.device), 0)) for each in executions],
    )


def _run(execution: Execution, trials: int) -> Run:
    standing = execution.standing
    return Run(
        run=execution.id,
        device=execution.device,
        state=standing.state.value,
        version=standing.version,
        cancel=standing.cancel,
        reason=standing.reason,
        cells=standing.cells,
        done=standing.done,
        trials=trials,
        due_unix_s=execution.due_unix_s,
        created_unix_s=execution.created_unix_s,
        changed_unix_s=execution.changed_unix_s,
        expires_unix_s=execution.expires_unix_s,
    )


def _schedule(job: Job) -> str:
    if job.cron is None:
        return "cancelled" if job.cancelled else "once"
    if job.cancelled:
        return f"{job.cron} ({job.timezone}), cancelled"
    return f"{job.cron} ({job.timezone}), next {table.when(job.next_due_unix_s)}"


def _job_cells(job: Job) -> tuple[object, ...]:
    return (
        job.job,
        job.suite,
        table.when(job.submitted_unix_s),
        None if job.cron is None else f"{job.cron} ({job.timezone})",
        "cancelled" if job.cancelled else table.when(job.next_due_unix_s),
        sum(job.states.values()),
        ", ".join(f"{count} {state}" for state, count in sorted(job.states.items())) or None,
    )


def _run_cells(run: Run) -> tuple[object, ...]:
    waits = run.cancel and not State(run.state).is_final
    return (
        run.run,
        run.device,
        f"{run.state}, to be cancelled" if waits else run.state,
        None if run.cells is None else f"{run.done}/{run.cells}",
        run.trials,
        table.when(run.changed_unix_s),
        table.when(run.expires_unix_s),
        run.reason,
    )
