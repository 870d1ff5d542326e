"""Reference trials shipped with phasewatt: export files packaged beside this one, read like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from collector.exports import batches_in
from collector.store.base import TrialQuery
from collector.stored import StoredTrial
from phasewatt import codec, identity
from phasewatt.errors import ConfigInvalid, RecordRejected
from phasewatt.fields import Kind
from phasewatt.messages import Item
from phasewatt.records import Trial
from phasewatt.traces import Trace

_HERE = Path(__file__).parent


class Reference(NamedTuple):
    """The shipped trials, and their traces by record id, decoded when asked for."""

    trials: tuple[StoredTrial, ...]
    trace_items: Mapping[str, Item]

    def matching(self, query: TrialQuery) -> list[StoredTrial]:
        """The trials that match, newest first."""
        found = [stored for stored in self.trials if _matches(stored.trial, query)]
        return sorted(found, key=lambda stored: stored.trial.started_unix_s, reverse=True)[: query.limit]

    def traces(self, ids: Sequence[str]) -> list[Trace]:
        """The traces with these record ids, in that order; those not shipped are left out."""
        records = [_record(Kind.TRACE, self.trace_items[each]) for each in ids if each in self.trace_items]
        return [record for record in records if isinstance(record, Trace)]


def load(directory: Path = _HERE) -> Reference:
    """All reference trials in `directory`; none where it holds no export file.

    Raises:
        ConfigInvalid: a file is damaged.
    """
    trials: dict[str, StoredTrial] = {}
    traces: dict[str, Item] = {}
    try:
        for path in sorted(directory.glob("*.jsonl.gz")):
            _read(path, trials, traces)
    except (RecordRejected, OSError) as error:
        raise ConfigInvalid(f"reference trials: {error}; install phasewatt anew, or add --no-reference") from error
    return Reference(tuple(trials.values()), traces)


def _matches(trial: Trial, query: TrialQuery) -> bool:
    model = trial.work.task.architecture.name if trial.work else None
    asked = (
        (query.device, trial.device),
        (query.suite, trial.suite),
        (query.campaign, trial.campaign),
        (query.model, model),
        (query.engine, trial.conditions.engine),
        (query.outcome, trial.outcome),
    )
    return all(wanted in {None, value} for wanted, value in asked)


def _read(path: Path, trials: dict[str, StoredTrial], traces: dict[str, Item]) -> None:
    with path.open("rb") as file:
        for batch in batches_in(file, str(path)):
            for item in batch.items:
                record_id = identity.record_id(batch.kind, bytes(item.body))
                if batch.kind is Kind.TRACE:
                    traces[record_id] = item
                elif isinstance(trial := _record(batch.kind, item), Trial):
                    trials[record_id] = StoredTrial(record_id, trial, "reference")


def _record(kind: Kind, item: Item) -> codec.SentRecord:
    return codec.decode_record(kind, item.schema, bytes(item.body))
