"""Every profiled trial on the roofline of its machine: of each group and piece of work the newest. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from collector.compare import title
from collector.conditions import GroupKey, group_of, in_order, labels, natural, printable
from collector.machine_ceilings import peaks_for, with_ceilings
from collector.stored import StoredTrial
from phasewatt import identity
from phasewatt.ceilings import Peaks
from phasewatt.fields import Outcome, Phase, Record
from phasewatt.records import Trial
from phasewatt.roofline_points import PhasePoints, points_of

NOT_PROFILED = "no operator profile: it was not asked for, or the agent that measured it is older"


class Unprofiled(Record, frozen=True):
    """Trials of one device that have no profile, and why."""

    device: str
    reason: str
    record_ids: tuple[str, ...]


class TrialRoofline(Record, frozen=True):
    """One trial's profiled phases against the ceilings of its machine."""

    record_id: str
    device: str
    group: str  # device, and what tells its settings from the others'
    work: str  # in one line
    cell: str
    simulated: bool
    reference: bool
    peaks: Peaks
    phases: tuple[PhasePoints, ...]

    @property
    def title(self) -> str:
        """Whose and of what."""
        return f"{self.group}: {self.work}" + (" (simulated)" if self.simulated else "")


class Rooflines(Record, frozen=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    trials: tuple[TrialRoofline, ...]
    without: tuple[Unprofiled, ...]
    schema: str = "roofline/0"


def rooflines(trials: Sequence[StoredTrial], measured: Iterable[StoredTrial] | None = None) -> Rooflines:
    """The profiled ones of `trials`, held against ceilings out of `measured`, which are `trials` unless it is given."""
    ceilings = with_ceilings(trials if measured is None else measured)
    done = [stored for stored in trials if stored.trial.outcome is Outcome.OK and stored.trial.work is not None]
    keys = {stored.record_id: group_of(stored, across=False) for stored in done}
    named = labels(in_order(set(keys.values())))
    newest = _newest([stored for stored in done if stored.trial.profiles], keys)
    made = [_roofline(stored, named[keys[stored.record_id]], ceilings) for stored in newest]
    return Rooflines(
        trials=tuple(sorted(made, key=lambda each: (each.reference, natural(each.group), natural(each.work)))),
        without=tuple(_without([stored for stored in done if not stored.trial.profiles])),
    )


def _newest(profiled: Iterable[StoredTrial], keys: dict[str, GroupKey]) -> list[StoredTrial]:
    """One of each group and piece of work."""
    found: dict[tuple[GroupKey, str], StoredTrial] = {}
    for stored in sorted(profiled, key=lambda stored: stored.trial.started_unix_s):
        assert stored.trial.work is not None
        found[keys[stored.record_id], identity.work_id(stored.trial.work)] = stored
    return list(found.values())


def _roofline(stored: StoredTrial, label: str, ceilings: Sequence[StoredTrial]) -> TrialRoofline:
    trial = stored.trial
    assert trial.work is not None
    peaks = peaks_for(trial, ceilings)
    order = list(Phase)
    profiles = sorted(trial.profiles, key=lambda profile: order.index(profile.phase))
    return TrialRoofline(
        record_id=stored.record_id,
        device=trial.device,
        group=label,
        work=title(trial.work),
        cell=printable(f"{trial.suite}/{trial.cell}"),
        simulated=trial.conditions.simulated,
        reference=stored.origin == "reference",
        peaks=peaks,
        phases=tuple(points_of(trial, profile, peaks) for profile in profiles),
    )


def _without(trials: Iterable[StoredTrial]) -> Iterator[Unprofiled]:
    ids: dict[tuple[str, str], list[str]] = {}
    for stored in trials:
        ids.setdefault((stored.trial.device, _why(stored.trial)), []).append(stored.record_id)
    for (device, reason), found in ids.items():
        yield Unprofiled(device=device, reason=reason, record_ids=tuple(found))


def _why(trial: Trial) -> str:
    return f"imported from {printable(trial.imported.tool)}" if trial.imported is not None else NOT_PROFILED
