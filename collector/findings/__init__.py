"""The study's claims, decided on the trials there are: one file a claim, all in one table. Pure.

Trials are grouped by what they were run with and never mixed. A finding is that of the largest model that decides it,
and names the others with their verdicts. What was simulated decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from collector.conditions import printable
from collector.findings import (
    claim01_phase_bounds,
    claim02_dominant_phase,
    claim03_prefill_operators,
    claim04_decode_operators,
    claim05_predictability,
    claim06_energy,
    claim07_batch,
    claim08_several_gpus,
    claim09_mixture,
    claim10_retrieval,
    claim11_microarchitecture,
    claim12_edge,
)
from collector.findings.checks import Check, Verdict
from collector.findings.families import SINGLE, Family, counts, families
from collector.findings.finding import Answer, Claim, Each, Finding, Judged, Other
from collector.stored import StoredTrial

__all__ = ["CLAIMS", "FLEET", "Answer", "Check", "Finding", "Verdict", "answers", "remarks"]

CLAIMS: Mapping[int, Claim] = {
    1: claim01_phase_bounds,
    2: claim02_dominant_phase,
    3: claim03_prefill_operators,
    4: claim04_decode_operators,
    5: claim05_predictability,
    6: claim06_energy,
    7: claim07_batch,
    8: claim08_several_gpus,
    9: claim09_mixture,
    10: claim10_retrieval,
    11: claim11_microarchitecture,
    12: claim12_edge,
}
FLEET = "fleet"
_MOST_OTHERS = 20
_MOST_WAYS = 2  # that are spelled out in a remark


def answers(trials: Iterable[StoredTrial], numbers: Iterable[int] = CLAIMS) -> tuple[Answer, ...]:
    """The claims on every device, and those of the fleet once; without any trial that counts, all are open."""
    found = families(trials)
    return tuple(answer for number in numbers for answer in _of_claim(CLAIMS[number], found))


def remarks(trials: Iterable[StoredTrial]) -> tuple[str, ...]:
    """What a reader must know of the trials as a whole."""
    every = list(trials)
    return (*_left_out(every), *dict.fromkeys(_not_counted(every)), *_mixed(families(every)))


def _of_claim(claim: Claim, every: Sequence[Family]) -> Iterator[Answer]:
    found = [family for family in every if claim.EACH is Each.DEVICE or family.parallelism == SINGLE]
    if not found:
        yield _nothing(claim)
    elif claim.EACH is Each.FLEET:
        yield _answer(claim, FLEET, [(found[0].name, claim.judge(found))], shown=False)
    else:
        for device in sorted({family.device for family in found}):
            mine = [family for family in found if family.device == device]
            judged = [(name, claim.judge(subject)) for name, subject in _subjects(claim.EACH, mine)]
            yield _answer(claim, device, judged)


def _subjects(each: Each, mine: Sequence[Family]) -> list[tuple[str, Sequence[Family]]]:
    """What is judged apart on one device, by name."""
    if each is Each.MODEL:
        return [(family.name, [family]) for family in mine]
    if each is Each.DEVICE:
        return [(mine[0].device, mine)]
    ways = dict.fromkeys(family.way for family in mine)
    grouped = [[family for family in mine if family.way == way] for way in ways]
    return [
        (f"{several[0].label}: {', '.join(family.shape.name for family in several)}", several) for several in grouped
    ]


def _answer(claim: Claim, device: str, judged: Sequence[tuple[str, Judged]], shown: bool = True) -> Answer:
    """The first of those that are decided with most of their parts measured; else the first that has any figure."""
    ordered = sorted(judged, key=lambda each: _rank(each[1]))
    name, first = ordered[0]
    others = ordered[1:]
    finding = Finding(
        id=claim.NUMBER,
        claim=claim.SENTENCE,
        verdict=first.verdict,
        figure=first.figure,
        rule=claim.RULE,
        device=device,
        missing=first.missing or tuple(_spanned(first)),
        group=name if shown else None,
        basis=first.basis,
        checks=first.checks,
        trials=tuple(stored.record_id for stored in first.trials),
        others=tuple(
            Other(group=other, verdict=each.verdict, figure=each.figure) for other, each in others[:_MOST_OTHERS]
        ),
        remarks=(*first.remarks, *_weakened(first), *_disagreeing(first, others)),
    )
    return Answer(finding, first.picture)


def _spanned(judged: Judged) -> Iterator[str]:
    """What is open though all its trials are there."""
    if judged.verdict is Verdict.NOT_ENOUGH_DATA:
        for check in judged.checks:
            if check.verdict is Verdict.NOT_ENOUGH_DATA:
                yield f"{check.says}: a narrower interval, for it spans the threshold: run the suite again"


def _rank(judged: Judged) -> tuple[bool, bool, int]:
    """Decided ones first, those with most parts measured."""
    unknown = sum(check.value is None for check in judged.checks)
    return judged.verdict is Verdict.NOT_ENOUGH_DATA, judged.figure is None, unknown


def _weakened(judged: Judged) -> Iterator[str]:
    """What a reader must know of the trials that it rests on."""
    mine = [stored.trial for stored in judged.trials]
    unsettled = sum(any(not run.steady for run in trial.runs) for trial in mine)
    if unsettled:
        yield f"{unsettled} of its {len(mine)} trials have windows that never settled"
    marked = [mark for trial in mine for mark in dict.fromkeys(trial.conditions.marks)]
    if marked:
        trials = sum(bool(trial.conditions.marks) for trial in mine)
        yield f"{trials} of its {len(mine)} trials are marked, such as: {printable(marked[0])}"
    throttled = sum(bool(trial.conditions.throttled) for trial in mine)
    if throttled:
        yield f"{throttled} of its {len(mine)} trials ran while something held the processor back"


def _disagreeing(first: Judged, others: Sequence[tuple[str, Judged]]) -> Iterator[str]:
    for name, other in others:
        if Verdict.NOT_ENOUGH_DATA not in (first.verdict, other.verdict) and first.verdict is not other.verdict:
            yield f"other trials of this device say otherwise: {name}: {other.verdict.value}"


def _nothing(claim: Claim) -> Answer:
    """Open, for there is no trial at all."""
    return Answer(
        Finding(
            id=claim.NUMBER,
            claim=claim.SENTENCE,
            verdict=Verdict.NOT_ENOUGH_DATA,
            figure=None,
            rule=claim.RULE,
            device=FLEET if claim.EACH is Each.FLEET else None,
            missing=("any trial that went well: `phasewatt-agent run paper`",),
        )
    )


def _left_out(trials: Sequence[StoredTrial]) -> Iterator[str]:
    working = [stored for stored in trials if not stored.trial.ceilings]
    simulated = sum(stored.trial.conditions.simulated for stored in working)
    if simulated:
        yield f"{simulated} of {len(working)} trials are simulated and decide nothing"
    others = sum(not counts(stored) and not stored.trial.conditions.simulated for stored in working)
    if others:
        yield f"{others} of {len(working)} trials failed, were skipped or imported, and decide nothing"


def _not_counted(trials: Sequence[StoredTrial]) -> Iterator[str]:
    """Why trials that were to count have no counters."""
    for stored in trials:
        for profile in stored.trial.counters:
            if not profile.operators and not counts(stored):
                yield f"{stored.trial.device}: no hardware counters: {profile.reason or stored.trial.reason}"


def _mixed(found: Sequence[Family]) -> Iterator[str]:
    """Devices whose trials were run in several ways."""
    for device in sorted({family.device for family in found}):
        ways = {family.way: family.label for family in found if family.device == device}
        if len(ways) > 1:
            told = "; ".join(ways.values()) if len(ways) <= _MOST_WAYS else "each finding names its own"
            yield f"{device}: trials were run under {len(ways)} sets of conditions, which are not mixed: {told}"
