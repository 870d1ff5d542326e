"""The raw trials behind a comparison that a report draws: for each work and group the newest that has traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from collector.comparison import Comparison
from collector.stored import StoredTrial
from phasewatt.records import Trial
from phasewatt.traces import Trace

TracesOf = Callable[[Sequence[str]], Sequence[Trace]]  # traces by their record ids, those that are lost left out


class Evidence(NamedTuple):
    """One trial that stands for its group in the pictures of one piece of work."""

    work_id: str
    work: str  # its title
    group: str  # label
    place: int  # of the group among all, which gives its colour
    trial: Trial
    traces: tuple[Trace, ...]


def gather(comparison: Comparison, trials: Sequence[StoredTrial], traces_of: TracesOf) -> Iterator[Evidence]:
    """For each work and group the newest trial that has all its traces, or else the newest."""
    known = {stored.record_id: stored.trial for stored in trials}
    for work in comparison.works:
        for index, group in enumerate(comparison.groups):
            if group.label in work.trials:
                newest_first = [known[record_id] for record_id in reversed(work.trials[group.label])]
                trial, traces = _drawn(newest_first, traces_of)
                yield Evidence(work.work_id, work.title, group.label, index, trial, traces)


def _drawn(newest_first: Sequence[Trial], traces_of: TracesOf) -> tuple[Trial, tuple[Trace, ...]]:
    for trial in newest_first:
        traces = tuple(traces_of(trial.traces)) if trial.traces else ()
        if len(traces) == len(trial.traces) > 0:
            return trial, traces
    return newest_first[0], ()
