"""A comparison by one condition as tables of texts: a column for each value, and the rows that answer first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from collector import numbers
from collector.bills import Bill, BillCell, Price
from collector.by_condition import ByCondition, Stratum
from collector.comparison import ComparedWork, Row
from collector.report.layout import Line, Section, Shown, WorkTable, table_of
from collector.scopes import NEAREST
from phasewatt.fields import Scope

_SHOWN = (
    *("ttft", "tpot", "e2e_latency", "prefill_rate", "decode_rate", "prefill_power", "decode_power"),
    *("prefill_energy", "decode_token_energy", "request_energy", "energy"),
)


class ByTable(NamedTuple):
    """One work of one stratum."""

    title: str
    columns: tuple[str, ...]
    table: WorkTable


def tables_of(by: ByCondition, stratum: Stratum) -> Iterator[ByTable]:
    """A table for each work of `stratum`."""
    for work, bills in zip(stratum.comparison.works, stratum.bills, strict=True):
        scope = _scope(work)
        rows = tuple(row for row in work.rows if row.metric in _SHOWN and row.scope in (None, scope))
        table = table_of(msgspec.structs.replace(work, rows=rows, not_available=()))
        costs = [line for bill in bills if bill.scope is scope for line in _lines(bill, by.price)]
        sections = (*table.sections, *([Section(_cost_title(by.price), tuple(costs))] if costs else ()))
        yield ByTable(work.title, stratum.values, table._replace(sections=sections))


def result(stratum: Stratum) -> list[str]:
    """The headline of each value in a sentence that names it by its value."""
    names = dict(zip((group.label for group in stratum.comparison.groups), stratum.values, strict=True))
    base = stratum.values[0]
    lines = []
    for each in stratum.comparison.headline:
        facts = "; ".join(f"{fact.subject} {fact.result}" for fact in each.facts)
        remark = f"; {each.remark}" if each.remark else ""
        lines.append(f"{names[each.group]} beside {base}: {facts}{remark}")
    return lines


def differing(stratum: Stratum) -> list[tuple[str, tuple[str, ...]]]:
    """Conditions that differ between the columns, with their values."""
    told = [c for c in stratum.comparison.conditions if c.differs]
    return [(c.name, tuple(value or "not stated" for value in c.values)) for c in told]


def _scope(work: ComparedWork) -> Scope | None:
    """The nearest scope that two groups have energy on; else that any has."""
    rows = [row for row in work.rows if row.metric in _SHOWN and row.scope is not None]
    shared = {row.scope for row in rows if _valued(row) > 1} or {row.scope for row in rows if _valued(row)}
    return next((scope for scope in NEAREST if scope in shared), None)


def _valued(row: Row) -> int:
    return sum(cell.value is not None for cell in row.cells)


def _cost_title(price: Price | None) -> str:
    return "Cost of tokens" if price is None else f"Cost of tokens at {price.per_kwh:g} {price.currency} per kWh"


def _lines(bill: Bill, price: Price | None) -> Iterator[Line]:
    scope = bill.scope.value
    energy = tuple(_shown(cell, _energy(cell), _interval(cell)) for cell in bill.cells)
    yield Line(f"Wh per million {bill.tokens} ({scope})", "lower is better", "J per token / 3600 x 1e6", (), energy)
    if price is not None:
        cost = tuple(_shown(cell, _cost(cell, price), "") for cell in bill.cells)
        yield Line(
            f"{price.currency} per million {bill.tokens} ({scope})", "lower is better", "Wh / 1000 x price", (), cost
        )


def _shown(cell: BillCell, value: str, interval: str) -> Shown:
    ratio = "" if cell.ratio is None else f"{numbers.significant(cell.ratio)}×"
    return Shown(cell.group, value, "", interval, ratio, None, "", ())


def _energy(cell: BillCell) -> str:
    return numbers.MISSING if cell.wh_per_million is None else f"{numbers.significant(cell.wh_per_million)} Wh"


def _interval(cell: BillCell) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f"[{numbers.significant(cell.low)}, {numbers.significant(cell.high)}]"


def _cost(cell: BillCell, price: Price) -> str:
    if cell.cost_per_million is None:
        return numbers.MISSING
    return f"{numbers.significant(cell.cost_per_million)} {price.currency}"


def lines_of(by: ByCondition) -> Sequence[str]:
    """What was left out, a line each."""
    return tuple(f"not compared: {told}" for told in by.left_out)
