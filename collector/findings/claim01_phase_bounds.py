"""Claim 1: what bounds each phase, by its arithmetic intensity against the balance of the machine. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from collector.findings import bounds
from collector.findings.bounds import Bounds, above, below, exact
from collector.findings.checks import Check, opened, unmeasured
from collector.findings.device_time import Timed, bases, timed, without_device_time
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.machine import Machine
from collector.findings.pictures import Line, Lines, Picture, Point
from collector.findings.wanted import CEILINGS, DECODES, PREFILLS
from collector.numbers import significant
from phasewatt import roofline
from phasewatt.fields import Phase

NUMBER = 1
SENTENCE = (
    "Prefill is compute-bound, decode memory-bound (arithmetic intensity about 55 to 100 FLOP/byte against 1 to 10)."
)
EACH = Each.MODEL
SHORTEST = 1024  # tokens. Source: the study's common context lengths are 1K to 8K
ENOUGH = 0.5  # of a ceiling: with less, more than half of the time goes to something else than this bound
RULE = (
    f"One sequence. The analytic intensity of every prefill of {SHORTEST:,} tokens or more lies above the machine's "
    "balance (matrix-product rate over read bandwidth), that of every decode step below it; and over device time the "
    f"median prefill reaches at least {ENOUGH:.0%} of the matrix-product rate, the median decode at least "
    f"{ENOUGH:.0%} of the read bandwidth. Measured ceilings, else the data sheet's, of which 75 to 100 % are allowed "
    "for. The study's 55 to 100 against 1 to 10 FLOP/byte are counters of one GPU and are shown beside, not asked "
    "for."
)
_COMPUTING = "prefill's lowest intensity over the balance"
_MEMORY = "decode's highest intensity over the balance"
_MFU = "share of the matrix-product rate that the median prefill reaches"
_MBU = "share of the read bandwidth that the median decode step reaches"


def judge(families: Sequence[Family]) -> Judged:
    """From the trials of one model."""
    (family,) = families
    prefills = [each for each in timed(family, Phase.PREFILL) if each.cell.kv_end >= SHORTEST]
    decodes = timed(family, Phase.DECODE)
    missing = [] if prefills else [PREFILLS]
    missing += [] if decodes else [DECODES]
    missing += [] if family.machine else [f"in {family.dtype}{_threads(family)}, {CEILINGS}"]
    why = without_device_time(family)
    return Judged(
        checks=tuple(_checks(family, family.machine, prefills, decodes)),
        figure=_figure(family, prefills, decodes),
        missing=tuple(missing),
        basis=bases(prefills + decodes),
        trials=trials_of(prefills + decodes),
        remarks=() if why is None or (prefills and decodes) else (why,),
        picture=_picture(family, prefills, decodes),
    )


def _threads(family: Family) -> str:
    """What a CPU's ceilings must share beside the dtype."""
    threads = family.trials[0].trial.conditions.threads
    return f" with threads = {threads}" if family.accelerator == "cpu" and threads else ""


def intensity(family: Family, phase: Phase, each: Timed) -> float:
    """Analytic FLOP per byte."""
    flops, moved = _asked(family, phase, each)
    return flops / moved


def _asked(family: Family, phase: Phase, each: Timed) -> tuple[float, float]:
    """FLOPs and bytes of what was timed."""
    work = each.trials[0].trial.work
    assert work is not None
    steps = phase.steps(each.cell.kv_start, each.cell.kv_end)
    width = roofline.weight_element_bytes(work.dtype, work.quantization)
    lengths = (each.cell.kv_start, each.cell.kv_end)
    flops = roofline.phase_flops(work.task, phase, *lengths)
    moved = roofline.phase_bytes(work.task, work.dtype, phase, *lengths, width)
    return flops / steps, moved / steps


def split_checks(
    family: Family, machine: Machine, prefills: Sequence[Timed], decodes: Sequence[Timed]
) -> tuple[Check, Check]:
    """Whether the two phases lie on different sides of the balance."""
    lowest = min(intensity(family, Phase.PREFILL, each) for each in prefills)
    highest = max(intensity(family, Phase.DECODE, each) for each in decodes)
    balance = machine.balance
    return (
        above(_COMPUTING, exact(lowest).over(balance), 1.0, "×"),
        below(_MEMORY, exact(highest).over(balance), 1.0, "×"),
    )


def _checks(
    family: Family, machine: Machine | None, prefills: Sequence[Timed], decodes: Sequence[Timed]
) -> list[Check]:
    if machine is None or not prefills or not decodes:
        return [unmeasured(says) for says in (_COMPUTING, _MEMORY, _MFU, _MBU)]
    mfu = [
        exact(_asked(family, Phase.PREFILL, each)[0]).over(each.seconds).over(machine.flop_per_s) for each in prefills
    ]
    mbu = [exact(_asked(family, Phase.DECODE, each)[1]).over(each.seconds).over(machine.byte_per_s) for each in decodes]
    return [
        *split_checks(family, machine, prefills, decodes),
        _reached(_MFU, _median(mfu)),
        _reached(_MBU, _median(mbu)),
    ]


def _reached(says: str, share: Bounds) -> Check:
    """More than all of a ceiling is no share of it: the ceiling is not that of this work, and nothing is decided."""
    check = above(says, share, ENOUGH)
    return opened(check) if share.low > 1 else check


def _median(several: Sequence[Bounds]) -> Bounds:
    return bounds.Bounds(*(statistics.median(each) for each in zip(*several, strict=True)))


def _figure(family: Family, prefills: Sequence[Timed], decodes: Sequence[Timed]) -> str | None:
    told = []
    for phase, several in ((Phase.PREFILL, prefills), (Phase.DECODE, decodes)):
        found = [intensity(family, phase, each) for each in several]
        if found:
            told.append(f"{phase.value} {_range(found)} FLOP/byte")
    if told and family.machine is not None:
        balance = family.machine.balance
        interval = f"[{significant(balance.low)}, {significant(balance.high)}]"
        told.append(f"balance {significant(balance.value)} {interval} by {family.machine.source}")
    return ", ".join(told) or None


def _range(found: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys((significant(min(found)), significant(max(found)))))


def _picture(family: Family, prefills: Sequence[Timed], decodes: Sequence[Timed]) -> Picture | None:
    lines = [
        Line(phase.value, tuple(Point(each.cell.kv_end, intensity(family, phase, each)) for each in several))
        for phase, several in ((Phase.PREFILL, prefills), (Phase.DECODE, decodes))
        if several
    ]
    level = None if family.machine is None else ("balance of the machine", family.machine.balance.value)
    along = "tokens in the prompt, or in the cache"
    return Lines("Arithmetic intensity", along, "FLOP/byte", tuple(lines), level=level) if lines else None
