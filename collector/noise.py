"""How far measurements of one length or batch lie apart: a smaller error says little of a fit. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from collector.measured_points import Sample


def spreads(samples: Sequence[Sample], keys: Sequence[int]) -> dict[int, float]:
    """By key, the largest relative spread within it; a key of which nothing tells it is left out.

    Of one trial what its sample says; of trials of the same length and batch the largest value less the smallest over
    their median.
    """
    alike: defaultdict[tuple[int, int, int], list[Sample]] = defaultdict(list)
    for key, sample in zip(keys, samples, strict=True):
        alike[key, sample.point.length, sample.batch].append(sample)
    found: defaultdict[int, list[float]] = defaultdict(list)
    for (key, *_), several in sorted(alike.items()):
        found[key] += _each(several)
    return {key: max(several) for key, several in found.items() if several}


def remark(worst: float, spread: Mapping[int, float], unit: str) -> str | None:
    """That measurements lie as far apart as the worst prediction is off; None: they are steadier."""
    most = max(spread, key=lambda key: spread[key], default=None)
    if most is None or spread[most] < worst:
        return None
    return (
        f"measurements of one {unit} lie up to {spread[most]:.1%} apart ({unit} {most}), no less than the worst error, "
        "which may be their noise and does not tell how good the fit is"
    )


def unsettled(samples: Sequence[Sample]) -> str | None:
    """How many windows never settled; None: all did, or the samples are from no windows."""
    windows = [sample.settled for sample in samples if sample.settled is not None]
    count = windows.count(False)
    return f"{count} of {len(windows)} windows never settled" if count else None


def _each(several: Sequence[Sample]) -> list[float]:
    own = [sample.spread for sample in several if sample.spread is not None]
    values = [sample.point.value for sample in several]
    return [*own, (max(values) - min(values)) / median(values)] if len(values) > 1 else own
