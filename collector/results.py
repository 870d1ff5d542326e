"""What a database holds, for notebooks and scripts: records, plain rows, data frames, comparisons (docs/python.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict

from collector import reference as shipped
from collector.columns import CellKind, Column
from collector.compare import compare, group_named
from collector.comparison import Comparison
from collector.conditions import group_of
from collector.flat_tables import TABLES, Row
from collector.pairing import Across, pair
from collector.reference import Reference
from collector.store import Store, TrialQuery, open_store
from collector.stored import StoredTrial
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Outcome
from phasewatt.traces import Trace

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Unpack

_NO_REFERENCE = Reference((), {})
_DTYPES = {CellKind.TEXT: "string", CellKind.INTEGER: "Int64", CellKind.REAL: "float64", CellKind.TRUTH: "boolean"}
_ABSENT = "pandas is not installed: pip install 'phasewatt[dataframe]'; records() and rows() need none"


class Which(TypedDict, total=False):
    """Which trials are asked for."""

    device: str
    suite: str
    campaign: str
    model: str
    engine: str
    outcome: str  # "ok", "failed" or "skipped"
    limit: int  # the newest so many


def open_results(url: str | None = None, *, reference: bool = False) -> Results:
    """What the database at `url` holds; with `reference`, or without a database, the trials that come with phasewatt.

    Raises:
        StoreUnavailable: there is no such database, or it is of another version; one line with the remedy.
    """
    store = None if url is None else open_store(url)
    return Results(store, shipped.load() if reference or store is None else _NO_REFERENCE)


class Results:
    """A database that is read; a context manager that closes it.

    Methods that take `which` are of all trials, or of those that it names; they raise ConfigInvalid for what it cannot
    be. All raise StoreUnavailable when the database fails.
    """

    def __init__(self, store: Store | None, reference: Reference = _NO_REFERENCE) -> None:
        self._store = store
        self._reference = reference

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        if self._store is not None:
            self._store.close()

    def records(self, **which: Unpack[Which]) -> Iterator[StoredTrial]:
        """Trials as they were recorded, newest first: `record_id`, `trial` and `origin`."""
        query = _query(which)
        stored = [] if self._store is None else self._store.trials(query)
        found = [*stored, *self._reference.matching(query)]
        yield from sorted(found, key=lambda stored: stored.trial.started_unix_s, reverse=True)[: query.limit]

    def traces(self, stored: StoredTrial) -> list[Trace]:
        """The power samples of a trial, in order; those that are not held are left out."""
        named = stored.trial.traces
        held = [] if self._store is None else self._store.traces(named)
        return held or self._reference.traces(named)

    def rows(self, table: str = "metrics", **which: Unpack[Which]) -> Iterator[Row]:
        """Rows of "trials", "metrics" or "repetitions" by name of column, as docs/exports.md describes them.

        Raises:
            ConfigInvalid: no such table.
        """
        if table not in TABLES:
            raise ConfigInvalid(f"table: expected one of {', '.join(TABLES)}, got {table!r}")
        return TABLES[table].rows(self.records(**which))

    def trials(self, **which: Unpack[Which]) -> pandas.DataFrame:
        """A row for each trial: what was run, where, how, and how it ended; units in `attrs["units"]`.

        Raises:
            ConfigInvalid: pandas is not installed.
        """
        return self._frame("trials", which)

    def metrics(self, **which: Unpack[Which]) -> pandas.DataFrame:
        """A row for each trial, metric and power scope; a metric that a trial does not give has the reason.

        Raises:
            ConfigInvalid: pandas is not installed.
        """
        return self._frame("metrics", which)

    def repetitions(self, **which: Unpack[Which]) -> pandas.DataFrame:
        """A row for each repetition of each phase, warm-up ones marked.

        Raises:
            ConfigInvalid: pandas is not installed.
        """
        return self._frame("repetitions", which)

    def compare(self, a: str, b: str, across: str | None = None) -> Comparison:
        """How `b` does beside `a`, as the command `compare --baseline a` says it, of these two groups alone.

        Each names a device that has one group, a group by its label, or the beginning of a label.

        Raises:
            ConfigInvalid: a name means no group or several, both mean the same, or they have no work in common.
        """
        how = _across(across)
        trials = list(self.records())
        groups = pair(trials, how).groups
        if not groups:
            raise ConfigInvalid("compare: no two groups did the same work; measure the same suite on another device")
        keys = [group_named(groups, name, "compare").key for name in (a, b)]
        if keys[0] == keys[1]:
            raise ConfigInvalid(f"compare: expected two groups, {a!r} and {b!r} name the same one")
        both = [each for each in trials if each.trial.work and group_of(each, how is not None) in keys]
        labels = {group.key: group.label for group in pair(both, how).groups}
        if keys[0] not in labels:
            raise ConfigInvalid(f"compare: {a!r} and {b!r} have no work in common")
        return compare(both, labels[keys[0]], how)

    def _frame(self, table: str, which: Which) -> pandas.DataFrame:
        return _frame(TABLES[table].columns, list(self.rows(table, **which)))


def _query(which: Which) -> TrialQuery:
    unknown = sorted(which.keys() - set(TrialQuery._fields))
    if unknown:
        raise ConfigInvalid(f"{unknown[0]}: expected one of {', '.join(TrialQuery._fields)}")
    if which.get("limit", 1) < 1:
        raise ConfigInvalid(f"limit: expected a number above 0, got {which['limit']}")
    asked: dict[str, Any] = dict(which)
    if "outcome" in asked:
        asked["outcome"] = _outcome(asked["outcome"])
    return TrialQuery(**asked)


def _outcome(name: str) -> Outcome:
    with contextlib.suppress(ValueError):
        return Outcome(name)
    raise ConfigInvalid(f"outcome: expected one of {', '.join(each.value for each in Outcome)}, got {name!r}")


def _across(name: str | None) -> Across | None:
    if name is None:
        return None
    with contextlib.suppress(ValueError):
        return Across(name)
    raise ConfigInvalid(f"across: expected one of {', '.join(each.value for each in Across)}, got {name!r}")


def _frame(columns: Sequence[Column], rows: Sequence[Row]) -> pandas.DataFrame:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ConfigInvalid(_ABSENT) from error
    # Nullable types, so that a missing count stays missing and does not turn the others into fractions.
    frame = pandas.DataFrame(
        {each.name: pandas.Series([row[each.name] for row in rows], dtype=_DTYPES[each.kind]) for each in columns}
    )
    frame.attrs["units"] = {each.name: each.unit for each in columns if each.unit}
    return frame
