"""A comparison in sentences: what was compared with what, and how each group does beside the baseline. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from collector.comparison import ComparedWork, Fact, Headline, Row, Verdict
from collector.conditions import brief, printable
from collector.numbers import count, significant
from collector.pairing import Across, Pairing, weights_differ
from collector.scopes import scopes_told

_TIMES = {"prefill_latency": "prefill", "decode_step_latency": "decode", "e2e_latency": "the whole request"}
_ENERGY = "request_energy"


class _Beside(NamedTuple):
    """How one group does beside the baseline in one metric of one piece of work."""

    factor: float
    low: float | None
    high: float | None
    verdict: Verdict | None
    settled: bool
    doubted: bool


def heading(pairing: Pairing, across: Across | None) -> str:
    """What is compared, and the difference that was asked for."""
    if not pairing.works:
        return "Nothing to compare"
    counted = f"{count(len(pairing.works), 'piece')} of work, {count(len(pairing.groups), 'group')}"
    if across is None:
        return f"The same work compared: {counted}"
    values = " against ".join(dict.fromkeys(_values(pairing, across)))
    return f"The same task compared across {across.value} ({values}){_more(pairing, across)}: {counted}"


def headline(works: Sequence[ComparedWork], labels: Sequence[str]) -> tuple[Headline, ...]:
    """One for each group but the first, which is the baseline."""
    return tuple(_headline(works, index, labels) for index in range(1, len(labels)))


def _values(pairing: Pairing, across: Across) -> list[str]:
    return [dict(group.key.settings)[across.value] or "not stated" for group in pairing.groups]


def _more(pairing: Pairing, across: Across) -> str:
    """What differs beside what was asked for: such a comparison must not look cleaner than it is."""
    named = [name for name in ("engine", "dtype", "quantization") if name != across.value]
    settings = [dict(group.key.settings) for group in pairing.groups]
    differing = [name for name in named if len({each[name] for each in settings}) > 1]
    if across is not Across.WEIGHTS and _unlike_weights(pairing):
        differing.append("weights")
    return printable(f", {' and '.join(differing)} differing too") if differing else ""


def _unlike_weights(pairing: Pairing) -> bool:
    for work in pairing.works:
        found = [stored.trial.work for members in work.members.values() for stored in members if stored.trial.work]
        if any(weights_differ(a, b) for a, b in itertools.combinations(dict.fromkeys(found), 2)):
            return True
    return False


def _headline(works: Sequence[ComparedWork], index: int, labels: Sequence[str]) -> Headline:
    speeds, energies = list(_speeds(works, index)), list(_energies(works, index))
    remark = None if energies else _why_no_energy(works, index, labels[index])
    told = [f"{fact.subject} {fact.result}" for fact in (*speeds, *energies)] or ["no result in common"]
    sentence = f"{labels[index]} beside {labels[0]}: {'; '.join([*told, *([remark] if remark else [])])}."
    return Headline(group=labels[index], sentence=sentence, facts=(*speeds, *energies), remark=remark)


def _speeds(works: Sequence[ComparedWork], index: int) -> Iterator[Fact]:
    """Times as factors above one: a person compares "6 times as long" more easily than "0.17 times as fast"."""
    for metric, subject in _TIMES.items():
        found = [_beside(row, index) for row in _rows(works, metric) if row.cells[index].ratio]
        if found and all(each.factor > 1 for each in found):
            yield _fact(subject, found, "times as long")
        elif found:
            yield _fact(subject, [_inverse(each) for each in found], "times as fast")


def _energies(works: Sequence[ComparedWork], index: int) -> Iterator[Fact]:
    rows = _rows(works, _ENERGY)
    for scopes in dict.fromkeys((row.scope, row.beside) for row in rows):
        found = [_beside(row, index) for row in rows if (row.scope, row.beside) == scopes and row.cells[index].ratio]
        if found:
            yield _fact(f"energy per request ({scopes_told(*scopes)})", found, "times")


def _rows(works: Sequence[ComparedWork], metric: str) -> list[Row]:
    return [row for work in works for row in work.rows if row.metric == metric]


def _beside(row: Row, index: int) -> _Beside:
    cell, base = row.cells[index], row.cells[0]
    assert cell.ratio is not None
    return _Beside(
        factor=cell.ratio,
        low=cell.ratio_low,
        high=cell.ratio_high,
        verdict=cell.verdict,
        settled=cell.settled and base.settled,
        doubted=bool(cell.doubts or base.doubts),
    )


def _inverse(times: _Beside) -> _Beside:
    """A ratio of times as a ratio of speeds."""
    low, high = (1 / end if end else None for end in (times.high, times.low))
    return times._replace(factor=1 / times.factor, low=low, high=high)


def _fact(subject: str, found: Sequence[_Beside], unit: str) -> Fact:
    """One respect over all works: a factor with its interval, or the range of several."""
    verdicts = {each.verdict for each in found}
    verdict = found[0].verdict if len(verdicts) == 1 else Verdict.UNCLEAR
    return Fact(subject=subject, result=f"{_factor(found, unit)}{_doubt(found)}", verdict=verdict)


def _factor(found: Sequence[_Beside], unit: str) -> str:
    factors = sorted(each.factor for each in found)
    told = " to ".join(dict.fromkeys((significant(factors[0]), significant(factors[-1]))))
    if len(found) > 1:
        return f"{told} {unit} over {len(found)} works"
    low, high = found[0].low, found[0].high
    return f"{told} {unit}" + ("" if low is None or high is None else f" [{significant(low)}, {significant(high)}]")


def _doubt(found: Sequence[_Beside]) -> str:
    doubted = ", with doubts" if any(each.doubted for each in found) else ""
    if not all(each.settled for each in found):
        return f", not at steady state{doubted}"
    if all(each.verdict is Verdict.UNLIKE for each in found):
        return f", unlike scopes, no verdict{doubted}"
    return (", no clear difference" if all(each.verdict is Verdict.UNCLEAR for each in found) else "") + doubted


def _why_no_energy(works: Sequence[ComparedWork], index: int, label: str) -> str | None:
    """Why a group's energy is not set beside the baseline's, in the words of the first work."""
    rows = [*_rows(works[:1], _ENERGY), *_rows(works[:1], "energy")]
    mine, base = [row.cells[index] for row in rows], [row.cells[0] for row in rows]
    for cells, whose in ((mine, ""), (base, "baseline: ")):
        if cells and all(cell.value is None for cell in cells):
            return f"energy not compared: {whose}{brief(cells[0].reason or '')}"
    unlike = next((each.told for work in works for each in work.unlike_scopes if each.group == label), None)
    return f"energy not compared: {unlike or 'no power scope in common'}" if rows else None
