"""Jobs in the store: the truth about what was submitted and is wanted, and each board's newest word on it.

A row is changed by whoever read it last: `change` names the revision that it is based on. Two collectors on one
database, or a command beside a collector, so never overwrite what the other one did not see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from collector import job_spec
from collector.drift_words import Found
from collector.job_spec import Execution, JobRow, JobSpec
from collector.store import rows, tables
from collector.store.writing import upsert_of
from phasewatt import codec, jobs
from phasewatt.fields import Kind, Outcome
from phasewatt.jobs import Report, Standing, State
from phasewatt.records import Trial

_OPEN = tuple(state.value for state in State if not state.is_final)
Transaction = Callable[[], contextlib.AbstractContextManager[Connection]]


class JobTables:
    """The jobs of one store. Raises StoreUnavailable as `Store` does."""

    def __init__(self, reading: Transaction, writing: Transaction) -> None:
        self._reading = reading
        self._writing = writing

    def submit(self, job: JobRow, executions: Sequence[Execution] = ()) -> JobSpec | None:
        """Keep a job; None: it is kept now. Else one of that name is there already, and it is given back."""
        with self._writing() as connection:
            held = connection.scalar(select(tables.job.c.body).where(tables.job.c.id == job.id))
            if held is not None:
                return job_spec.decoded(held)
            values = {"id": job.id, "body": job_spec.encoded(job.spec), "created_unix_s": job.created_unix_s}
            connection.execute(insert(tables.job).values(**values, cancelled=False, last_due_unix_s=None))
            _add(connection, executions)
        return None

    def jobs(self) -> list[JobRow]:
        """All jobs, the newest first."""
        query = select(tables.job).order_by(tables.job.c.created_unix_s.desc(), tables.job.c.id)
        with self._reading() as connection:
            return [_job(row) for row in connection.execute(query)]

    def occur(self, job: JobRow, due_unix_s: float, executions: Sequence[Execution]) -> None:
        """Make one occurrence of a schedule, unless another collector has."""
        table = tables.job
        with self._writing() as connection:
            _add(connection, executions)
            connection.execute(update(table).where(table.c.id == job.id).values(last_due_unix_s=due_unix_s))

    def stop_schedule(self, job: str) -> None:
        """Note that a job is not wanted any more, so that nothing more is made of it."""
        with self._writing() as connection:
            connection.execute(update(tables.job).where(tables.job.c.id == job).values(cancelled=True))

    def executions(self, job: str | None = None, device: str | None = None, open_only: bool = False) -> list[Execution]:
        """What became of jobs, the newest first."""
        table = tables.execution
        query = select(table).order_by(table.c.created_unix_s.desc(), table.c.id.desc(), table.c.device)
        if job is not None:
            query = query.where((table.c.job == job) | (table.c.id == job))
        if device is not None:
            query = query.where(table.c.device == device)
        if open_only:
            query = query.where(table.c.state.in_(_OPEN))
        with self._reading() as connection:
            return [_execution(row) for row in connection.execute(query)]

    def change(self, execution: Execution, standing: Standing, now_unix_s: float) -> bool:
        """Whether `standing` took the place of what `execution` holds; False: it changed meanwhile, look again."""
        with self._writing() as connection:
            return _put(connection, execution, standing, now_unix_s)

    def hear(self, device: str, reports: Sequence[Report], now_unix_s: float) -> dict[str, int]:
        """Take a board's words; by job, the version that is committed after it. A job that is not here is left out."""
        held: dict[str, int] = {}
        with self._writing() as connection:
            for report in reports:
                row = connection.execute(_locked(report.job, device)).one_or_none()
                if row is None:
                    continue
                execution = _execution(row)
                after = jobs.heard(execution.standing, report)
                if after is not None:
                    _put(connection, execution, after, now_unix_s)
                # What cannot be is acknowledged as well: that board need not say it again.
                held[report.job] = max(report.version, execution.standing.version)
        return held

    def canaries(self, device: str | None = None) -> list[tuple[float, Trial]]:
        """The good trials of scheduled jobs, each with the moment for which it was made, the oldest first."""
        table, trial = tables.execution, tables.trial
        query = (
            select(table.c.due_unix_s, trial.c.record_id, trial.c.schema, trial.c.body)
            .join_from(table, trial, (trial.c.campaign == table.c.id) & (trial.c.device == table.c.device))
            .where(table.c.due_unix_s.is_not(None), trial.c.outcome == Outcome.OK.value)
            .order_by(table.c.due_unix_s, trial.c.started_unix_s)
        )
        if device is not None:
            query = query.where(table.c.device == device)
        with self._reading() as connection:
            return [
                (row.due_unix_s, record)
                for row in connection.execute(query)
                if isinstance(record := rows.record_of(Kind.TRIAL, row), Trial)
            ]

    def trials_of(self, job: str) -> dict[tuple[str, str], int]:
        """How many trials of each occurrence and device of a job are here."""
        table, trial = tables.execution, tables.trial
        query = (
            select(table.c.id, table.c.device, trial.c.record_id)
            .join_from(table, trial, (trial.c.campaign == table.c.id) & (trial.c.device == table.c.device))
            .where((table.c.job == job) | (table.c.id == job))
        )
        counts: dict[tuple[str, str], int] = {}
        with self._reading() as connection:
            for row in connection.execute(query):
                counts[row.id, row.device] = counts.get((row.id, row.device), 0) + 1
        return counts

    def note_drift(self, found: Found, now_unix_s: float) -> bool:
        """Whether a change of level is news; it is kept in any case."""
        values = {"device": found.device, "series": found.series, "since_unix_s": found.since_unix_s}
        with self._writing() as connection:
            new = upsert_of(connection)(tables.drift).on_conflict_do_nothing()
            done = connection.execute(new.values(**values, found_unix_s=now_unix_s, body=codec.encode(found)))
            return bool(done.rowcount)

    def drifts(self, since_unix_s: float = 0.0) -> list[Found]:
        """Changes of level from then on, the newest first."""
        table = tables.drift
        query = select(table.c.body).where(table.c.since_unix_s >= since_unix_s)
        with self._reading() as connection:
            bodies = connection.scalars(query.order_by(table.c.since_unix_s.desc(), table.c.device, table.c.series))
            return [codec.decode(body, Found) for body in bodies]


def _add(connection: Connection, executions: Sequence[Execution]) -> None:
    if executions:
        new = upsert_of(connection)(tables.execution).on_conflict_do_nothing()
        connection.execute(new, [_columns(execution) for execution in executions])


def _put(connection: Connection, execution: Execution, standing: Standing, now_unix_s: float) -> bool:
    table = tables.execution
    same_row = (table.c.id == execution.id, table.c.device == execution.device)
    values = _standing_columns(standing) | {"changed_unix_s": now_unix_s, "revision": execution.revision + 1}
    done = connection.execute(update(table).where(*same_row, table.c.revision == execution.revision).values(**values))
    return bool(done.rowcount)


def _locked(job: str, device: str) -> Select[Any]:
    table = tables.execution
    return select(table).where(table.c.id == job, table.c.device == device).with_for_update()


def _columns(execution: Execution) -> dict[str, Any]:
    columns = execution._asdict()
    return _standing_columns(columns.pop("standing")) | columns


def _standing_columns(standing: Standing) -> dict[str, Any]:
    return standing._asdict() | {"state": standing.state.value}


def _execution(row: Any) -> Execution:
    standing = Standing(State(row.state), row.version, row.reason, row.cells, row.done, row.cancel)
    own = {field: getattr(row, field) for field in Execution._fields if field != "standing"}
    return Execution(standing=standing, **own)


def _job(row: Any) -> JobRow:
    return JobRow(row.id, job_spec.decoded(row.body), row.created_unix_s, row.cancelled, row.last_due_unix_s)
