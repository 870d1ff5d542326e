"""How often the stated interval of an energy holds the true one, on simulated sensors and works whose joules are known.

    python -m benchmarks.energy_coverage [--cases 1000] [--first 0] [--only SENSOR] [--markdown]

One row a sensor or board, work and window; of a board the rails that make its module's power are read, each rounded
by itself. "holds" is the share of cases whose truth lies in the stated interval (goal 93 to 98 %), "+-" the median
half-width (goal: at most 2 % from 30 updates on), "wide" the share of figures that are marked so, "refused" the share
without a figure. The errors are the 95th percentile of |error|: ours, and those of the rules that other tools use on
readings of the same sensor. "-" is a channel that the sensor does not have.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from typing import NamedTuple

from benchmarks.other_rules import RULES
from phasewatt import doubts
from tests.fixtures.simulated_power import BOARDS, SENSORS, WORKS, case

WINDOWS_S = (0.5, 3.0, 10.0)


class Row(NamedTuple):
    """What came of all cases of one sensor, work and window; shares are of 1."""

    sensor: str
    work: str
    window_s: float
    figures: int
    refused: Counter[str]
    holds: float | None
    half_width: float | None
    updates: float | None
    wide: float | None
    error: float | None
    others: dict[str, float | None]


def row(sensor: str, work: str, window_s: float, cases: int, first: int = 0) -> Row:
    """All cases of one sensor, work and window, from number `first` on."""
    errors: list[float] = []
    widths: list[float] = []
    updates: list[int] = []
    refused: Counter[str] = Counter()
    wide = 0
    others: dict[str, list[float]] = {name: [] for name in RULES}
    for seed in range(first, first + cases):
        looked = case(sensor, work, window_s, seed)
        truth_j = looked.work.energy_j
        for name, rule in RULES.items():
            told_j = rule(looked.plain, looked.work.span)
            others[name] += [] if told_j is None else [abs(told_j / truth_j - 1)]
        estimate = looked.estimate
        if estimate.energy_j is None or estimate.temporal_uncertainty_j is None:
            refused[(estimate.reason or "").partition(":")[0]] += 1
            continue
        errors.append(abs(estimate.energy_j - truth_j) / truth_j)
        widths.append(estimate.temporal_uncertainty_j / truth_j)
        updates.append(estimate.distinct_updates)
        wide += bool(doubts.of_width(estimate.energy_j, estimate.temporal_uncertainty_j))
    count = len(errors)
    return Row(
        sensor=sensor,
        work=work,
        window_s=window_s,
        figures=count,
        refused=refused,
        holds=sum(error <= width for error, width in zip(errors, widths, strict=True)) / count if count else None,
        half_width=statistics.median(widths) if count else None,
        updates=statistics.median(updates) if count else None,
        wide=wide / count if count else None,
        error=_most(errors),
        others={name: _most(found) for name, found in others.items()},
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--only", action="append", choices=[*SENSORS, *BOARDS], help="a sensor or board, repeatable")
    parser.add_argument("--first", type=int, default=0, help="number of the first case: others than the published")
    args = parser.parse_args()
    heads = ("sensor", "work", "window", "updates", "holds", "+-", "wide", "refused", "error", *RULES)
    _print(heads, args.markdown)
    if args.markdown:
        _print(("---",) * len(heads), markdown=True)
    for sensor in args.only or [*SENSORS, *BOARDS]:
        for work in WORKS:
            for window_s in WINDOWS_S:
                _print(_cells(row(sensor, work, window_s, args.cases, args.first), args.cases), args.markdown)


def _cells(found: Row, cases: int) -> tuple[str, ...]:
    why = ", ".join(found.refused)
    return (
        found.sensor,
        found.work,
        f"{found.window_s:g} s",
        "-" if found.updates is None else f"{found.updates:.0f}",
        _percent(found.holds, 1),
        _percent(found.half_width, 2),
        _percent(found.wide, 0),
        f"{_percent(sum(found.refused.values()) / cases, 1)} {why}".strip(),
        _percent(found.error, 2),
        *(_percent(found.others[name], 1) for name in RULES),
    )


def _percent(share: float | None, digits: int) -> str:
    return "-" if share is None else f"{share:.{digits}%}"


def _most(errors: list[float]) -> float | None:
    """The 95th percentile."""
    return statistics.quantiles(errors, n=20)[-1] if len(errors) > 1 else None


def _print(cells: tuple[str, ...], markdown: bool) -> None:
    widths = (15, 9, 6, 7, 6, 6, 5, 22, 6, 15, 12, 10, 8)
    print(f"| {' | '.join(cells)} |" if markdown else "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)))


if __name__ == "__main__":
    main()
