"""Medians with intervals: a seeded bootstrap over trials, and within each trial over its repetitions. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from phasewatt.metrics import Readings

DRAWS = 2000
CONFIDENCE = 0.95
_SEED = 20240917
_SIGMAS = 1.96  # a stated half-width is one of 95 %, see phasewatt.estimate

METHOD = (
    "A value is the median over trials of each trial's median. Its interval (95 %) comes from a seeded hierarchical "
    f"bootstrap of {DRAWS} draws: trials are drawn with replacement, then repetitions within each. With one trial it "
    "covers the spread within that run only, and repetitions count as independent; with two to four trials it is "
    "little more than their range and misses more often than one time in twenty. A value without repetitions "
    "(energy) gets its interval from its stated temporal half-width of 95 %, taken as normal; the gain of the sensor "
    "is no part of it and is given apart: it cancels in a ratio of figures of one sensor, and a verdict between two "
    "allows for both."
)


class Ratio(NamedTuple):
    """One value over another, with its interval where both have one."""

    value: float
    low: float | None
    high: float | None


class Summary(NamedTuple):
    """The median of a metric over trials, its interval, and what it rests on."""

    value: float
    low: float | None  # None: a single value of which no uncertainty is known
    high: float | None
    trials: int
    repetitions: int
    quartiles: tuple[float, float]  # of all repetitions together: the spread
    draws: NDArray[numpy.float64]


def summary(trials: Sequence[Readings], stream: str) -> Summary:
    """The summary of `trials`, each with at least one value; the same `stream` gives the same draws again."""
    values = numpy.concatenate([readings.values for readings in trials])
    drawn = _draws(trials, numpy.random.default_rng([_SEED, zlib.crc32(stream.encode())]))
    unsure = len(values) > 1 or trials[0].half_width is not None
    low, high = _interval(drawn) if unsure else (None, None)
    return Summary(
        value=float(numpy.median([numpy.median(readings.values) for readings in trials])),
        low=low,
        high=high,
        trials=len(trials),
        repetitions=len(values),
        quartiles=(float(numpy.percentile(values, 25)), float(numpy.percentile(values, 75))),
        draws=drawn,
    )


def ratio(of: Summary, to: Summary) -> Ratio | None:
    """`of` over `to`; None where `to` is not clearly above zero, for then the ratio says nothing."""
    if to.value <= 0 or (to.low is not None and to.low <= 0):
        return None
    if of.low is None or to.low is None:
        return Ratio(of.value / to.value, None, None)
    return Ratio(of.value / to.value, *_interval(of.draws / to.draws))


def _interval(draws: NDArray[numpy.float64]) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = numpy.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def _draws(trials: Sequence[Readings], random: numpy.random.Generator) -> NDArray[numpy.float64]:
    """Medians of resampled trials, [DRAWS]."""
    chosen = random.integers(0, len(trials), DRAWS * len(trials))
    counts = numpy.bincount(chosen, minlength=len(trials))
    medians = numpy.empty(len(chosen))
    by_trial = numpy.argsort(chosen, kind="stable")
    medians[by_trial] = numpy.concatenate([_within(*each, random) for each in zip(trials, counts, strict=True)])
    resampled: NDArray[numpy.float64] = numpy.median(medians.reshape(DRAWS, len(trials)), axis=1)
    return resampled


def _within(readings: Readings, count: int, random: numpy.random.Generator) -> NDArray[numpy.float64]:
    """Medians of `count` resamples of one trial's repetitions, [count].

    The k-th smallest of n draws lies at the quantile that the k-th smallest of n uniform numbers says, which is
    Beta(k, n - k + 1): no resample need be laid out, however many repetitions there are.
    """
    ordered = numpy.sort(numpy.asarray(readings.values, dtype=numpy.float64))
    size = len(ordered)
    middle = (size + 1) // 2
    quantile = random.beta(middle, size - middle + 1, count)
    medians = ordered[_index(quantile, size)]
    if size % 2 == 0:
        upper = quantile + (1 - quantile) * (1 - random.random(count) ** (1 / (size - middle)))
        medians = (medians + ordered[_index(upper, size)]) / 2
    if readings.half_width is not None:
        medians = medians + random.normal(0.0, abs(readings.half_width) / _SIGMAS, count)
    return medians


def _index(quantile: NDArray[numpy.float64], size: int) -> NDArray[numpy.int64]:
    return numpy.minimum((quantile * size).astype(numpy.int64), size - 1)
