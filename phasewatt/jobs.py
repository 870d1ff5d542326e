"""Jobs: what a board is asked to run, and the one state machine that board and centre share. Pure.

Each side decides what it alone can know. The centre decides that a job is there, and whether it is still wanted: a wish
to cancel is a flag and no state. The board decides what became of it, and numbers its words: `version` rises with each
change that it commits, 0 is a job that it never took. So a word that was lost, doubled or overtaken changes nothing:
the highest version is the latest, whoever hears it. A centre that changes a job itself says on which version it based
that, and has to look again where the board spoke meanwhile.

```text
queued ─┬─> in progress ─┬─> succeeded
        │     (progress)  ├─> failed
        │                 ├─> timed out     it ran for longer than it may
        ├─> rejected      └─> cancelled
        ├─> cancelled     not wanted any more, or a newer one of its schedule came
        └─> timed out     it expired before it began
```
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from phasewatt.fields import Count, Identifier, Label, Record, Text

LONGEST_S = 7 * 86400.0
Priority = Annotated[int, Meta(ge=-100, le=100)]
Seconds = Annotated[float, Meta(gt=0, le=LONGEST_S)]
Key = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
# A pattern in a union with a tuple makes msgspec 0.22 free what is not its own when the interpreter ends, so that of
# words is checked by `check_words`. Source: TypeNode_get_traverse_ranges, which counts the pattern as no object.
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Value = Annotated[int, Meta(ge=-(2**31), le=2**31)] | float | bool | Word
Values = Annotated[tuple[Value, ...], Meta(min_length=1, max_length=64)]
Parameters = Annotated[dict[Key, Value | Values], Meta(max_length=16)]
MAX_ORDERS = 64  # of one message to a board
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]*\Z")


class State(enum.Enum):
    """Where a job stands on one board."""

    QUEUED = "queued"
    IN_PROGRESS = "in progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self not in NEXT


NEXT: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset(State) - {State.SUCCEEDED, State.FAILED},
    State.IN_PROGRESS: frozenset(State) - {State.QUEUED, State.REJECTED},
}


def check_words(parameters: Mapping[str, Value | Values]) -> None:
    """Names and numbers alone: what could be a path, a URL or a word for a shell is no value of a parameter.

    Raises:
        ValueError: a value is such a thing.
    """
    for key, value in parameters.items():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, str) and not _WORD.match(one):
                raise ValueError(f"parameters.{key}: expected letters, digits, '.', '_', '+', ':' or '-', got {one!r}")


class Order(Record, frozen=True):
    """A job as it is handed to one board."""

    job: Identifier  # of this occurrence: it names the campaign, and a board takes it once
    suite: Identifier
    parameters: Parameters = msgspec.field(default_factory=dict)
    priority: Priority = 0  # higher goes first
    timeout_s: Seconds | None = None  # of the board's own running time; None: the board's own limit
    expires_in_s: float | None = None  # from now, by the clock of who sends; None: it does not expire
    cancel: bool = False  # not wanted any more
    held: Count = 0  # the version that the sender holds

    def __post_init__(self) -> None:
        check_words(self.parameters)


class Report(Record, frozen=True):
    """A board's word on one job."""

    job: Identifier
    version: Annotated[int, Meta(ge=1, le=2**53)]
    state: State
    reason: Text | None = None  # why it ended so, or waits
    cells: Count | None = None  # of the suite; None: not known yet
    done: Count = 0  # of these, committed


class JobNotice(Record, frozen=True):
    """From a collector to a board: what it may still do, and what of its words is held."""

    device: Identifier
    generation: Identifier  # of the store that speaks
    orders: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MAX_ORDERS)] = ()  # each an Order, judged alone
    held: dict[Identifier, Count] = msgspec.field(default_factory=dict)  # by job, the version that is stored


class JobGet(Record, frozen=True):
    """From a board: it has come, and asks for what stands."""

    device: Identifier
    session: Identifier


class JobUpdate(Record, frozen=True):
    """From a board: where its jobs stand; said again until a notice says that it is held."""

    device: Identifier
    reports: Annotated[tuple[Report, ...], Meta(min_length=1, max_length=MAX_ORDERS)]


class Standing(NamedTuple):
    """Where a job stands on one board, as one side holds it."""

    state: State = State.QUEUED
    version: int = 0  # the board's; 0: it has not said a word
    reason: str | None = None
    cells: int | None = None
    done: int = 0
    cancel: bool = False  # the centre's wish

    @property
    def needs_word(self) -> bool:
        """Whether the board must still be told something: the job, or that it is not wanted."""
        return not self.state.is_final and (self.version == 0 or self.cancel)


def moved(standing: Standing, state: State, reason: str | None = None, **progress: int | None) -> Standing:
    """`standing` after a step that the board takes, under the next version.

    Raises:
        ValueError: there is no such step.
    """
    if state not in NEXT.get(standing.state, ()):
        raise ValueError(f"no step from {standing.state.value} to {state.value}")
    return standing._replace(state=state, version=standing.version + 1, reason=reason, **progress)  # type: ignore[arg-type]


def heard(standing: Standing, report: Report) -> Standing | None:
    """What the centre holds after a board's word; None: that word is old, or cannot be.

    A board has the last word on what it did. Where the centre had ended a job which it believed that the board never
    took, and the board did take it, the board's word stands and the wish to cancel remains.
    """
    if report.version <= standing.version:
        return None
    if standing.state.is_final and standing.version > 0:
        return None
    return Standing(
        state=report.state,
        version=report.version,
        reason=report.reason,
        cells=report.cells,
        done=report.done,
        cancel=standing.cancel or standing.state.is_final,
    )


def cancelled(standing: Standing, reason: str) -> Standing | None:
    """What the centre holds once a job is not wanted any more; None: it ended already, or that is said."""
    if standing.state.is_final or standing.cancel:
        return None
    if standing.version == 0:
        return standing._replace(state=State.CANCELLED, reason=reason, cancel=True)
    return standing._replace(cancel=True)


def expired(standing: Standing, reason: str) -> Standing | None:
    """What the centre holds of a job that no board took in time; None: a board has it, which judges by itself."""
    if standing.state is not State.QUEUED or standing.version > 0:
        return None
    return standing._replace(state=State.TIMED_OUT, reason=reason)


def report_of(job: str, standing: Standing) -> Report:
    """A board's word on where a job stands."""
    return Report(
        job=job,
        version=standing.version,
        state=standing.state,
        reason=None if standing.reason is None else standing.reason[:4096],
        cells=standing.cells,
        done=standing.done,
    )


def unlisted(order_job: str, held: int) -> Report:
    """A board's word on a job that it once took and has no memory of."""
    reason = "the board has lost its memory of this job: its outbox was set aside, or its disk put back"
    return Report(job=order_job, version=held + 1, state=State.FAILED, reason=reason)


class Named(msgspec.Struct, frozen=True):
    """What can be read of an order that is not valid: its name, to answer by."""

    job: Identifier


def job_label(job: str, due: str | None) -> Label:
    """The name of one occurrence of a job."""
    return job if due is None else f"{job}.{due}"
