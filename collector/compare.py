"""Trials to a comparison: each metric of each piece of work on each group, beside a baseline. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from collector import scopes, stats
from collector.cells import rows_of
from collector.comparison import ComparedGroup, ComparedWork, Comparison, Condition
from collector.conditions import observed, printable
from collector.headline import heading, headline
from collector.machine_ceilings import with_ceilings
from collector.metering import metering_of
from collector.pairing import Across, Group, PairedWork, Pairing, pair
from collector.stored import StoredTrial
from phasewatt.errors import ConfigInvalid
from phasewatt.records import Trial
from phasewatt.work import Work

_DEFAULT_BASELINE = (
    "by default the group that took part in most works; of equals, stored before reference, measured before "
    "simulated, then by device and settings"
)


def compare(
    trials: Sequence[StoredTrial],
    baseline: str | None = None,
    across: Across | None = None,
    unlike_scopes: bool = False,
) -> Comparison:
    """The comparison of `trials`, its first group being the baseline; without works where no two groups share one.

    Groups without a power scope in common have no energy compared, unless `unlike_scopes` asks for the nearest ones.

    Raises:
        ConfigInvalid: `baseline` names no group, or several.
    """
    pairing = pair(trials, across)
    base = _baseline(pairing, baseline) if pairing.groups else None
    groups = tuple(sorted(pairing.groups, key=lambda group: group is not base))
    measured = with_ceilings(trials)
    works = tuple(_compared(work, groups, across, unlike_scopes, measured) for work in pairing.works)
    conditions = _conditions(pairing, groups)
    return Comparison(
        heading=heading(pairing, across),
        headline=headline(works, [group.label for group in groups]),
        across=across,
        unlike_scopes=unlike_scopes,
        baseline=base.label if base else None,
        baseline_rule=_DEFAULT_BASELINE if baseline is None else "as asked",
        groups=tuple(_group(index, group, pairing, conditions) for index, group in enumerate(groups)),
        conditions=conditions,
        works=works,
        refused=pairing.refused,
        method=stats.METHOD,
    )


def title(work: Work, across: Across | None = None) -> str:
    """A piece of work in one line; without the representation of its weights where that may differ."""
    task = work.task
    asked = f"{task.prompt_tokens} tokens in, {task.output_tokens} out"
    parts = [task.architecture.name, f"batch {task.batch}", asked]
    if across is None:
        parts += [work.weights.source, work.dtype, work.quantization or ""]
    return printable(" · ".join(part for part in parts if part))


def group_named(groups: Sequence[Group], wanted: str, option: str) -> Group:
    """The group with this label, of this device, or whose label begins so; `option` is what messages call the question.

    Raises:
        ConfigInvalid: there is none, or there are several.
    """
    by_label = [group for group in groups if group.label == wanted]
    by_device = [group for group in groups if group.key.device == wanted]
    by_prefix = [group for group in groups if group.label.startswith(wanted)]
    for matches in (by_label, by_device, by_prefix):
        if len(matches) == 1:
            return matches[0]
    meant = by_device or by_prefix
    listed = "; ".join(group.label for group in meant or groups)
    raise ConfigInvalid(f"{option}: expected one of {listed}; {wanted!r} names {'several' if meant else 'none'}")


def _baseline(pairing: Pairing, wanted: str | None) -> Group:
    if wanted is not None:
        return group_named(pairing.groups, wanted, "--baseline")
    return max(pairing.groups, key=lambda group: sum(group.key in work.members for work in pairing.works))


def _compared(
    work: PairedWork, groups: Sequence[Group], across: Across | None, nearest: bool, measured: Sequence[StoredTrial]
) -> ComparedWork:
    unlike = scopes.unlike(work, groups, nearest)
    rows, absent = rows_of(work, groups, unlike, measured)
    trials = [stored.trial for members in work.members.values() for stored in members]
    took_part = [group for group in groups if group.key in work.members]
    return ComparedWork(
        work_id=work.work_id,
        title=title(work.work, across),
        work=work.work,
        cells=tuple(dict.fromkeys(printable(f"{trial.suite}/{trial.cell}") for trial in trials)),
        trials={group.label: tuple(stored.record_id for stored in work.members[group.key]) for group in took_part},
        rows=tuple(rows),
        not_available=tuple(absent),
        unlike_scopes=unlike,
        metering=metering_of(work, groups),
    )


def _group(index: int, group: Group, pairing: Pairing, conditions: Iterable[Condition]) -> ComparedGroup:
    return ComparedGroup(
        label=group.label,
        device=group.key.device,
        reference=group.key.reference,
        simulated=group.key.simulated,
        settings=dict(group.key.settings),
        trials=len(_trials_of(group, pairing)),
        differs_in=tuple(c.name for c in conditions if c.values[index] != c.values[0]),
    )


def _trials_of(group: Group, pairing: Pairing) -> list[Trial]:
    return [stored.trial for work in pairing.works for stored in work.members.get(group.key, ())]


def _conditions(pairing: Pairing, groups: Sequence[Group]) -> tuple[Condition, ...]:
    settings = [{"device": group.key.device, **dict(group.key.settings)} for group in groups]
    seen = [observed(_trials_of(group, pairing)) for group in groups]
    return (*_table(settings, was_observed=False), *_table(seen, was_observed=True))


def _table(columns: Sequence[Mapping[str, str | None]], was_observed: bool) -> list[Condition]:
    names = dict.fromkeys(name for column in columns for name in column)
    rows = {name: tuple(column.get(name) for column in columns) for name in names}
    return [
        Condition(name=name, observed=was_observed, differs=len(set(values)) > 1, values=values)
        for name, values in rows.items()
    ]
