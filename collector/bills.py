"""What energy costs: joules a token as Wh per million tokens, and in money at a stated price. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from collector.comparison import Cell, ComparedWork, Row
from phasewatt.fields import Record, Scope
from phasewatt.work import Task

MILLION = 1_000_000
_JOULES_A_WH = 3600.0
_WH_A_KWH = 1000.0


class Price(Record, frozen=True):
    """What a kilowatt-hour costs where the boards are."""

    per_kwh: float
    currency: str  # a label: nothing is converted


class BillCell(Record, frozen=True):
    """One group's energy for tokens; without a figure all is None, and `reason` says why."""

    group: str
    joules_per_token: float | None
    wh_per_million: float | None
    low: float | None  # interval of `wh_per_million`, without the gain of the sensor
    high: float | None
    cost_per_million: float | None  # None: no figure, or no price was stated
    ratio: float | None  # to the baseline
    reason: str | None


class Bill(Record, frozen=True):
    """The energy of one kind of token on one scope, with a cell for each group in order."""

    tokens: str  # "output tokens of whole requests"
    metric: str  # that it is made of
    scope: Scope
    cells: tuple[BillCell, ...]


class _Kind(NamedTuple):
    tokens: str
    per: Callable[[Task], int]  # tokens that one value of the metric is for


_KINDS: Mapping[str, _Kind] = {
    "request_token_energy": _Kind("output tokens, prefill included", lambda task: 1),
    "decode_token_energy": _Kind("decoded tokens", lambda task: 1),
    "prefill_energy": _Kind("prompt tokens", lambda task: task.batch * task.prompt_tokens),
}


def bills_of(work: ComparedWork, price: Price | None) -> tuple[Bill, ...]:
    """A bill for each kind of token and scope that `work` has energy of."""
    return tuple(_bills(work, price))


def _bills(work: ComparedWork, price: Price | None) -> Iterator[Bill]:
    for name, kind in _KINDS.items():
        for row in work.rows:
            if row.metric == name and row.scope is not None and row.beside is None:
                yield _bill(row, row.scope, kind, kind.per(work.work.task), price)


def _bill(row: Row, scope: Scope, kind: _Kind, tokens: int, price: Price | None) -> Bill:
    cells = tuple(_cell(cell, tokens, price) for cell in row.cells)
    return Bill(tokens=kind.tokens, metric=row.metric, scope=scope, cells=cells)


def _cell(cell: Cell, tokens: int, price: Price | None) -> BillCell:
    scale = MILLION / (_JOULES_A_WH * tokens)
    wh = _times(cell.value, scale)
    return BillCell(
        group=cell.group,
        joules_per_token=_times(cell.value, 1 / tokens),
        wh_per_million=wh,
        low=_times(cell.low, scale),
        high=_times(cell.high, scale),
        cost_per_million=None if price is None else _times(wh, price.per_kwh / _WH_A_KWH),
        ratio=cell.ratio,
        reason=cell.reason,
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
