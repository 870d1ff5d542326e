"""What the energy of each phase and scope rests on, over the trials of a group: the worst of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from collector.comparison import Metering
from collector.conditions import printable
from collector.pairing import Group, PairedWork
from phasewatt.fields import Phase, Reading, Scope
from phasewatt.records import PhaseEnergy, Trial


def metering_of(work: PairedWork, groups: Sequence[Group]) -> tuple[Metering, ...]:
    """One entry a group, phase and scope of `work` that was metered."""
    return tuple(
        entry
        for group in groups
        for entry in _of_trials(group.label, [stored.trial for stored in work.members.get(group.key, ())])
    )


def _of_trials(label: str, trials: Sequence[Trial]) -> Iterator[Metering]:
    for phase in Phase:
        for scope in Scope:
            found = [e for trial in trials for e in trial.energy if (e.phase, e.scope) == (phase, scope)]
            if found:
                window_reasons = [run.window_reason for trial in trials for run in trial.runs if run.phase is phase]
                yield _entry(label, found, window_reasons)


def _entry(label: str, energies: Sequence[PhaseEnergy], window_reasons: Iterable[str | None]) -> Metering:
    first, checks = energies[0], [energy.check for energy in energies if energy.check is not None]
    readings = (first.reading, checks[0].reading if checks else None)
    ratios = sorted(ratio for energy in energies if (ratio := _ratio_of(energy, *readings)) is not None)
    return Metering(
        group=label,
        phase=first.phase,
        scope=first.scope,
        trials=len(energies),
        reading=first.reading,
        sources=_texts(energy.source for energy in energies),
        rails=_texts(rail for energy in energies for rail in energy.rails),
        shortest_window_s=min(energy.window_s for energy in energies),
        fewest_updates=min(energy.distinct_updates for energy in energies),
        longest_gap_s=max((e.longest_gap_s for e in energies if e.longest_gap_s is not None), default=None),
        temporal_uncertainty=_largest(_share(energy, energy.temporal_uncertainty_j) for energy in energies),
        gain_uncertainty=gain_of(energies),
        calibrated=all(energy.calibrated for energy in energies),
        check_reading=readings[1],
        check_sources=_texts(check.source for check in checks),
        check_ratio=(ratios[0], ratios[-1]) if ratios else None,
        check_reasons=_texts(check.reason for check in checks),
        doubts=_texts(doubt for energy in energies for doubt in energy.doubts),
        reasons=_texts(energy.reason for energy in energies),
        window_reasons=_texts(window_reasons),
    )


def check_ratio(energy: PhaseEnergy) -> float | None:
    """The energy that the other reading gives, over this one's; None where either is missing."""
    check = energy.check
    return None if check is None or check.energy_j is None or not energy.energy_j else check.energy_j / energy.energy_j


def _ratio_of(energy: PhaseEnergy, taken: Reading, checked: Reading | None) -> float | None:
    """`check_ratio` of one reading over another; a trial that took the other one is turned about."""
    ratio, check = check_ratio(energy), energy.check
    if not ratio or check is None or {energy.reading, check.reading} != {taken, checked}:
        return None
    return ratio if energy.reading is taken else 1 / ratio


def gain_of(energies: Iterable[PhaseEnergy]) -> float | None:
    """Relative gain uncertainty of the sensor, the largest of those with energy; None where one is not known."""
    shares = [_share(energy, energy.systematic_uncertainty_j) for energy in energies if energy.energy_j]
    known = [share for share in shares if share is not None]
    return max(known) if known and len(known) == len(shares) else None


def _share(energy: PhaseEnergy, half_width_j: float | None) -> float | None:
    return None if half_width_j is None or not energy.energy_j else abs(half_width_j / energy.energy_j)


def _largest(shares: Iterable[float | None]) -> float | None:
    return max((share for share in shares if share is not None), default=None)


def _texts(texts: Iterable[str | None]) -> tuple[str, ...]:
    """Each text once, safe to print."""
    return tuple(dict.fromkeys(printable(text) for text in texts if text))
