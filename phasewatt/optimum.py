"""The optimum of a sweep: at which value throughput, latency and energy per token are best. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phasewatt.metrics import METRICS, Better
from phasewatt.records import Record

SWEPT = ("decode_rate", "tpot", "decode_step_latency", "decode_token_energy", "request_token_energy")
_ENOUGH = 0.9  # of the best throughput: beyond it, more only takes longer


class Optimum(Record, frozen=True):
    """Where one metric of a sweep is best."""

    metric: str
    value: int  # of what was swept
    figure: float
    unit: str
    at_edge: bool  # the best is the first or last value: the optimum may lie beyond the sweep


def optima(points: Mapping[int, Mapping[str, float | None]]) -> tuple[Optimum, ...]:
    """The optimum of each swept metric over `points`, by the value that was swept; none with fewer than two figures."""
    found = (_best(name, points) for name in SWEPT)
    return tuple(best for best in found if best is not None)


def enough(points: Mapping[int, Mapping[str, float | None]]) -> int | None:
    """The least value that reaches 90 % of the best throughput, where more brings little; None: no throughput."""
    rates = _known("decode_rate", points)
    if len(rates) < 2:
        return None
    return next(value for value, rate in sorted(rates) if rate >= _ENOUGH * max(rate for _, rate in rates))


def in_words(points: Mapping[int, Mapping[str, float | None]], swept: str = "batch") -> tuple[str, ...]:
    """The optima of a sweep, a line each."""
    lines = [
        f"{best.metric} is best at {swept} {best.value}: {best.figure:.4g} {best.unit}"
        + (" (at the end of the sweep: it may lie beyond)" if best.at_edge else "")
        for best in optima(points)
    ]
    if (least := enough(points)) is not None:
        lines.append(f"{100 * _ENOUGH:.0f} % of the best throughput is reached at {swept} {least}")
    return tuple(lines)


def _best(name: str, points: Mapping[int, Mapping[str, float | None]]) -> Optimum | None:
    known = _known(name, points)
    if len(known) < 2:
        return None
    metric = METRICS[name]
    sign = -1 if metric.better is Better.HIGHER else 1
    value, figure = min(known, key=lambda pair: (sign * pair[1], pair[0]))
    ends = {min(known)[0], max(known)[0]}
    return Optimum(metric=name, value=value, figure=figure, unit=metric.unit, at_edge=value in ends)


def _known(name: str, points: Mapping[int, Mapping[str, float | None]]) -> Sequence[tuple[int, float]]:
    return [(value, figure) for value, figures in points.items() if (figure := figures.get(name)) is not None]
