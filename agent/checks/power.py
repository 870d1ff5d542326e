"""Which meters answer and which one is read, why the others are not, and whether their sensors are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from agent.checks import Finding, Subject
from agent.checks.host import LOCKS, holder_of
from agent.control import LOCK
from agent.kernel_files import text
from agent.meters import EXCLUSIVE, RAILS, jtop
from agent.surveying import Surveyed, facts_of

_PROFILING = "proc/driver/nvidia/params"
_RESTRICTED = "RmProfilingAdminOnly: 1"


def meters(subject: Subject) -> Iterator[Finding]:
    """Every meter with its verdict; of those for one board's rails, which is read by automatic choice."""
    answering = [meter for meter in subject.found if meter.reason is None]
    rails = next((meter.meter for meter in answering if kind(meter) in RAILS), None)
    elsewhere = [] if subject.named or subject.host.jetson or rails else _of_jetsons(subject.found)
    for meter in subject.found:
        if meter not in elsewhere:
            yield _held(subject, meter) or _meter(meter, subject.named, rails)
    if elsewhere:
        names = ", ".join(meter.meter for meter in elsewhere)
        yield Finding(f"power: {names}", True, "for the rails of a Jetson, which this host is not")
    if subject.host.jetson is not None and not any(kind(meter) == "jtop" for meter in subject.found):
        yield Finding("power: jtop", True, f"not tried, a user must name it: {jtop.standing(subject.root)}")
    if not subject.named and not answering:
        yield Finding("power", None, "no power sensor answers: time and memory are measured, energy is not")


def cards(subject: Subject) -> Iterator[Finding]:
    """Whether the sensors of each meter that is read are known."""
    yield from (card_finding(meter) for meter in subject.found if meter.reason is None and not meter.simulated)


def card_finding(meter: Surveyed) -> Finding:
    """Whether every power channel of a meter has a card that holds."""
    question = f"sensor cards: {meter.meter}"
    if not meter.uncalibrated:
        return Finding(question, True, "every power channel has one")
    names = ", ".join(dict.fromkeys(f"{channel.name} ({channel.source})" for channel in meter.uncalibrated))
    verdict = f"{names}: none for this driver and mode, so that short phases are doubtful"
    return Finding(question, None, verdict, "phasewatt-agent meters --calibrate")


def permissions(subject: Subject) -> Iterator[Finding]:
    """What only root may read here, beside what the meters said of themselves."""
    yield from permission_findings(subject, os.geteuid)


def permission_findings(subject: Subject, user: Callable[[], int]) -> Iterator[Finding]:
    """The same for any user."""
    if user() == 0:
        return
    if _RESTRICTED in (text(subject.root / _PROFILING) or ""):
        verdict = "utilisation by GPM and profiling by ncu are for root alone"
        remedy = "run as root, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
        yield Finding("permission: GPU counters", None, verdict, remedy)
    if subject.host.jetson is not None and subject.host.state_files.clocks.memory is None:
        verdict = "the clock of the memory (EMC) is in debugfs, which is for root alone"
        yield Finding(
            "permission: memory clock", None, verdict, "run as root; docs/install.md says how the service does"
        )


def kind(meter: Surveyed) -> str:
    """The meter without its argument."""
    return meter.meter.partition(":")[0]


def _of_jetsons(found: Sequence[Surveyed]) -> list[Surveyed]:
    return [meter for meter in found if kind(meter) in RAILS and meter.reason is not None]


def _held(subject: Subject, meter: Surveyed) -> Finding | None:
    """That the agent which lives here has a meter that only one process can read; None: it has not."""
    if meter.reason is None or kind(meter) not in EXCLUSIVE:
        return None
    holder = holder_of(subject.state / LOCK, LOCKS)
    if holder is None:
        return None
    verdict = f"does not answer here while the agent of this state directory (process {holder}) may read it"
    return Finding(f"power: {meter.meter}", None, f"{verdict}: {meter.reason}", "ask again when that agent is stopped")


def _meter(meter: Surveyed, named: bool, rails: str | None) -> Finding:
    question = f"power: {meter.meter}"
    (facts,) = facts_of([meter])
    if meter.reason is None:
        told = _chosen(meter, facts.reason, named, rails)
        missing = _missing_parts(meter)
        if not missing:
            return Finding(question, True, told)
        verdict = f"{told}; without {', '.join(missing)} it has no total, and no energy"
        return Finding(question, None, verdict, "run as root, or open it by a udev rule (chmod o+r)")
    if named:
        return Finding(question, False, facts.reason, "take it out of the settings, or mend it")
    if rails is not None:
        return Finding(question, True, f"not needed, {rails} reads this board: {facts.reason}")
    return Finding(question, None, facts.reason)


def _missing_parts(meter: Surveyed) -> list[str]:
    """Parts of a total that do not answer now."""
    pairs = zip(meter.channels, meter.values, strict=True)
    return [c.name for c, value in pairs if c.scope is not None and c.parts_of_total and value is None]


def _chosen(meter: Surveyed, told: str, named: bool, rails: str | None) -> str:
    """What a meter reads, and whether that is read."""
    if named or kind(meter) not in RAILS:
        return told
    if meter.meter == rails:
        return f"chosen, the first that answers; {told}"
    return f"answers, and is not read, since {rails} reads the same rails; {told}"
