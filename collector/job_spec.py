"""A job as its file says it: what to run, on which boards, when, and for how long it makes sense. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from collector import schedules
from phasewatt import jobs, settings
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Identifier
from phasewatt.hosts import BoardLabel
from phasewatt.jobs import Order, Parameters, Priority, Seconds, Standing, State

if TYPE_CHECKING:
    from collector.store.base import DeviceRow

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")  # leaves room for an occurrence in an identifier
LONGEST_WAIT_S = 400 * 86400.0
MOST_BYTES = 3000  # of one job, so that a notice of many fits a message


class Targets(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which boards: those that are named, and those that have one of the labels."""

    devices: tuple[Identifier, ...] = ()
    labels: tuple[BoardLabel, ...] = ()


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When: each moment makes a job of its own."""

    cron: str  # minute hour day month weekday
    timezone: str = "UTC"


class JobSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    suite: Identifier
    targets: Targets
    name: str = "job"
    parameters: Parameters = msgspec.field(default_factory=dict)
    schedule: Schedule | None = None
    priority: Priority = 0
    timeout_s: Seconds | None = None
    expires_after_s: Annotated[float, Meta(gt=0, le=LONGEST_WAIT_S)] | None = None  # unless it has begun by then

    def __post_init__(self) -> None:
        jobs.check_words(self.parameters)


class JobRow(NamedTuple):
    """A job as it was submitted."""

    id: str
    spec: JobSpec
    created_unix_s: float
    cancelled: bool = False
    last_due_unix_s: float | None = None  # of a schedule: the newest occurrence that was made


class Execution(NamedTuple):
    """One occurrence of a job on one board."""

    id: str  # of the occurrence
    device: str  # or "label:NAME", where a label matched nothing
    job: str
    due_unix_s: float | None
    created_unix_s: float
    expires_unix_s: float | None
    standing: Standing
    changed_unix_s: float
    revision: int = 0  # of this row: rises with every change, whoever makes it


def parse(text: str, origin: str) -> JobSpec:
    """The job in the TOML of `text`.

    Raises:
        ConfigInvalid: a key or value is wrong; the message names it.
    """
    spec = settings.parse(text, JobSpec, origin)
    if not _NAME.match(spec.name):
        raise ConfigInvalid(f"{origin}: name: expected at most 40 letters, digits, '.', '_' or '-', got {spec.name!r}")
    if not spec.targets.devices and not spec.targets.labels:
        raise ConfigInvalid(f"{origin}: targets: expected devices or labels")
    if len(encoded(spec)) > MOST_BYTES:
        raise ConfigInvalid(f"{origin}: more than {MOST_BYTES} bytes: sweep less, or name boards by a label")
    if spec.schedule is not None:
        try:
            schedules.check(spec.schedule.cron, spec.schedule.timezone)
        except ConfigInvalid as error:
            raise ConfigInvalid(f"{origin}: {error}") from error
    return spec


def executions_of(job: JobRow, due_unix_s: float | None, devices: Sequence[DeviceRow], now: float) -> list[Execution]:
    """One occurrence of a job, for each of its boards; a target that is nobody is rejected here."""
    spec = job.spec
    name = jobs.job_label(job.id, None if due_unix_s is None else schedules.stamp(due_unix_s))
    begins = now if due_unix_s is None else due_unix_s
    expires = None if spec.expires_after_s is None else begins + spec.expires_after_s
    return [
        Execution(name, device, job.id, due_unix_s, now, expires, standing, now)
        for device, standing in _targets(spec.targets, devices)
    ]


def order_of(execution: Execution, spec: JobSpec, now_unix_s: float) -> Order:
    """What its board is told."""
    expires = execution.expires_unix_s
    return Order(
        job=execution.id,
        suite=spec.suite,
        parameters=spec.parameters,
        priority=spec.priority,
        timeout_s=spec.timeout_s,
        expires_in_s=None if expires is None else expires - now_unix_s,
        cancel=execution.standing.cancel,
        held=execution.standing.version,
    )


def _targets(targets: Targets, devices: Sequence[DeviceRow]) -> Iterable[tuple[str, Standing]]:
    known = {row.device: row.facts.labels if row.facts else () for row in devices}
    found: dict[str, Standing] = {}
    for device in targets.devices:
        found[device] = Standing() if device in known else _rejected(f"no device {device!r} is known here")
    for label in targets.labels:
        matching = [device for device, labels in known.items() if label in labels]
        found |= {device: Standing() for device in matching}
        if not matching:
            found[f"label:{label}"] = _rejected(f"no device has the label {label!r}")
    return found.items()


def _rejected(reason: str) -> Standing:
    return Standing(state=State.REJECTED, reason=reason)


def encoded(spec: JobSpec) -> bytes:
    """The spec as it is stored."""
    return msgspec.json.encode(spec, order="deterministic")


def decoded(body: bytes) -> JobSpec:
    """The spec that was stored."""
    return msgspec.json.decode(body, type=JobSpec)
