"""Claim 11: warp stalls, hit rates and memory use of the operators, prefill against decode. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from collector.findings import stalls
from collector.findings.bounds import Bounds, above, below, exact
from collector.findings.checks import Check, Verdict, unmeasured
from collector.findings.families import Family
from collector.findings.finding import Each, Judged
from collector.findings.pictures import Bar, Bars, Picture
from collector.findings.stalls import Counted, percent
from collector.findings.wanted import from_command
from phasewatt.counter_metrics import DRAM_BUSY, L2_HITS
from phasewatt.fields import Phase
from phasewatt.operators import Cost, Operator, Pass, costs
from phasewatt.stall_words import Word

NUMBER = 11
SENTENCE = (
    "Microarchitecture, prefill -> decode: pipeline-busy falls to 3-4 %, memory dependency dominates stalls (FFN-Up "
    "58 %); O-Proj and FFN-Down are bound by execution dependency (51 %, register pressure); LayerNorm "
    "synchronisation stalls 11.0 -> 27.7 %; attention L2 hit rate falls 81.9 % (Chat) and 73.3 % (Summary); DRAM "
    "utilisation up to 76 %; FFN arithmetic intensity about 95 -> 8."
)
EACH = Each.MODEL
BUSY = 0.05  # the study's 3 to 4 %, rounded up to a twentieth
USED = 0.6  # of DRAM's peak. Source: Nsight Compute's speed-of-light rule calls a unit above 60 % the bottleneck
INTENSE, LEAN = 55.0, 10.0  # FLOP/byte: the lower end of the study's prefill, the upper end of its decode
RULE = (
    "Counters of one sequence, shares of all stall reasons but `selected`. In decode pipe busy is the reason of at "
    f"most {BUSY:.0%} of the stalls of all operators, by their time, and of fewer than in prefill; memory dependency "
    "is the largest reason of FFN-Up, execution dependency that of O-Proj and of FFN-Down; the norms' "
    "synchronisation stalls are a larger part than in prefill; attention's L2 hit rate is lower; the busiest "
    f"operator uses more than {USED:.0%} of the DRAM's peak; and FFN's analytic intensity falls from above "
    f"{INTENSE:g} to below {LEAN:g} FLOP/byte. A counter is taken to be off by up to {stalls.COUNTER_HALF_WIDTH:.0%}. "
    "Each part holds with every workload that was counted (Chat, Summary); one that fails fails the claim."
)
_WANTED = from_command(
    "hardware counters of prefill and decode (Nsight Compute, with the permission to count)", "counters MODEL"
)
_MEMORY, _EXECUTION = Word.MEMORY_DEPENDENCY, Word.EXECUTION_DEPENDENCY
_SYNC, _BUSY = Word.SYNCHRONISATION, Word.PIPE_BUSY


class _Both(NamedTuple):
    """The two phases of one model."""

    prefill: Counted
    decode: Counted


class _Part(NamedTuple):
    """One sentence of the claim."""

    says: str
    needs: str  # what is missing where it is open
    check: Callable[[str, _Both], Check | None]


def judge(families: Sequence[Family]) -> Judged:
    """From the counters of one model."""
    (family,) = families
    workloads = [_Both(*each) for each in stalls.workloads(family)]
    if not workloads:
        reasons = {p.reason for s in family.trials for p in s.trial.counters if p.reason}
        unknown = tuple(unmeasured(part.says) for part in _PARTS)
        return Judged(unknown, missing=(_WANTED,), remarks=tuple(sorted(reasons)))
    checks = [_worst(part, workloads) for part in _PARTS]
    lengths = (f"{each.prefill.profile.kv_end:,}/{each.decode.profile.kv_start:,}" for each in workloads)
    return Judged(
        checks=tuple(checks),
        figure=_figure(checks),
        missing=tuple(_missing(checks, workloads[0])),
        basis=f"hardware counters by {workloads[0].decode.profile.tool}",
        trials=tuple(each.decode.stored for each in workloads),
        remarks=(f"prefill tokens/decode depth: {', '.join(lengths)}; of each part the worst is shown",),
        picture=_picture(workloads[-1]),
    )


def _worst(part: _Part, workloads: Sequence[_Both]) -> Check:
    """A part holds with every workload, and fails with any."""
    checks = [part.check(part.says, both) or unmeasured(part.says) for both in workloads]
    return min(checks, key=lambda check: _WORST_FIRST.index(check.verdict))


_WORST_FIRST = (Verdict.DOES_NOT_HOLD, Verdict.NOT_ENOUGH_DATA, Verdict.HOLDS)


def _pipe_busy(says: str, both: _Both) -> Check | None:
    """Held to both: the level, and that it fell."""
    before, after = (each.shares_of_all() for each in both)
    if before is None or after is None:
        return None
    level = below(says, after[_BUSY], BUSY)
    fell = after[_BUSY].high < before[_BUSY].low
    rose = after[_BUSY].low >= before[_BUSY].high
    if level.verdict is Verdict.HOLDS and not fell:
        return msgspec.structs.replace(level, verdict=Verdict.DOES_NOT_HOLD if rose else Verdict.NOT_ENOUGH_DATA)
    return level


def _largest(word: Word, operator: Operator) -> Callable[[str, _Both], Check | None]:
    """That a reason is the largest of an operator's stalls in decode."""

    def check(says: str, both: _Both) -> Check | None:
        found = both.decode.shares(operator)
        if found is None:
            return None
        rest = max(share for other, share in found.items() if other != word)
        if found[word].value <= 0 or rest.low <= 0:
            return above(says, exact(float(found[word].value > rest.value)), 0.5)
        return above(says, found[word].over(rest), 1.0, "×")

    return check


def _norms(says: str, both: _Both) -> Check | None:
    before, after = (each.shares(Operator.NORM) for each in both)
    if before is None or after is None or before[_SYNC].low <= 0:
        return None
    return above(says, after[_SYNC].over(before[_SYNC]), 1.0, "×")


def _l2(says: str, both: _Both) -> Check | None:
    before, after = (percent(each.of(Operator.ATTN_CORE), L2_HITS) for each in both)
    if before is None or after is None or before.low <= 0:
        return None
    return below(says, after.over(before), 1.0, "×")


def _dram(says: str, both: _Both) -> Check | None:
    found = [used for each in both.decode.profile.operators if (used := percent(each, DRAM_BUSY)) is not None]
    return above(says, max(found), USED) if found else None


def _intense(says: str, both: _Both) -> Check | None:
    return above(says, exact(_intensity(both.prefill, Phase.PREFILL)), INTENSE, "FLOP/byte")


def _lean(says: str, both: _Both) -> Check | None:
    return below(says, exact(_intensity(both.decode, Phase.DECODE)), LEAN, "FLOP/byte")


def _intensity(each: Counted, phase: Phase) -> float:
    """Analytic, of up, activation and down (or of the experts), where the phase began."""
    work = each.stored.trial.work
    assert work is not None
    start, end = each.profile.kv_start, each.profile.kv_end
    asked = Pass(batch=1, new=end - start if phase is Phase.PREFILL else 1, depth=start)
    by_operator = costs(work.task.architecture, work.dtype, asked)
    ffn = Cost(0, 0, 0)
    for operator in (Operator.FFN_UP, Operator.ACT, Operator.FFN_DOWN, Operator.EXPERTS):
        ffn = ffn.plus(by_operator.get(operator, Cost(0, 0, 0)))
    return ffn.intensity


_STALLS = "a stall reason for each of the study's words"
_PARTS = (
    _Part("pipe busy's share of decode's stalls (study: 3 to 4 %)", _STALLS, _pipe_busy),
    _Part(
        "decode, FFN-Up: memory dependency over the next largest reason", _STALLS, _largest(_MEMORY, Operator.FFN_UP)
    ),
    _Part(
        "decode, O-Proj: execution dependency over the largest other reason",
        _STALLS,
        _largest(_EXECUTION, Operator.O_PROJ),
    ),
    _Part(
        "decode, FFN-Down: execution dependency over the largest other reason",
        _STALLS,
        _largest(_EXECUTION, Operator.FFN_DOWN),
    ),
    _Part("norms: synchronisation's share, decode over prefill (study: 27.7 over 11.0)", _STALLS, _norms),
    _Part("attention core: L2 hit rate, decode over prefill", L2_HITS, _l2),
    _Part("decode: DRAM throughput of the busiest operator, of its peak (study: up to 76 %)", DRAM_BUSY, _dram),
    _Part("FFN's analytic intensity in prefill (study: about 95)", "lengths", _intense),
    _Part("FFN's analytic intensity in decode (study: about 8)", "lengths", _lean),
)


def _missing(checks: Sequence[Check], both: _Both) -> list[str]:
    open_ = [part for part, check in zip(_PARTS, checks, strict=True) if check.value is None]
    return [f"{part.says}: {part.needs} ({both.decode.why_not(part.needs)}); {_WANTED}" for part in open_]


def _figure(checks: Sequence[Check]) -> str:
    held = sum(check.verdict is Verdict.HOLDS for check in checks)
    failed = [check.says for check in checks if check.verdict is Verdict.DOES_NOT_HOLD]
    told = f"{held} of {len(checks)} parts hold"
    return told + (f"; not: {'; '.join(failed)}" if failed else "")


def _picture(both: _Both) -> Picture | None:
    """What decode's operators wait for memory for."""
    shown = (Operator.QKV_PROJ, Operator.ATTN_CORE, Operator.O_PROJ, Operator.FFN_UP, Operator.FFN_DOWN, Operator.NORM)
    found: list[tuple[Operator, Bounds]] = []
    for operator in shown:
        mine = both.decode.shares(operator)
        if mine is not None:
            found.append((operator, mine[_MEMORY].times(100)))
    bars = tuple(Bar(operator.value, *share) for operator, share in found)
    return Bars("Memory dependency among decode's stalls", "%", bars) if bars else None
