"""Claim 7: what a larger batch gives and costs, and where it stops being worth it. Pure."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from collector.findings.bounds import Bounds, above, below
from collector.findings.checks import Check, Verdict, opened, unmeasured
from collector.findings.device_time import Timed, bases, timed, without_device_time
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.pictures import Line, Lines, Picture, Point
from collector.findings.wanted import from_suite
from phasewatt import optimum
from phasewatt.fields import Phase

NUMBER = 7
SENTENCE = "Batch: throughput rises, latency rises with it, with diminishing returns past an optimum."
EACH = Each.MODEL
LEAST_BATCHES = 4  # two doublings to compare, and one between them
WORTH = math.sqrt(2)  # gain of a doubling at which throughput grows by as much as the time of a batch does
RULE = (
    f"One task at {LEAST_BATCHES} batch sizes or more, device time: a batch takes one prefill and a decode step for "
    "each further token (decode alone where prefill was not run). From the least to the largest batch throughput "
    "rises, and so does the time of a batch; the last doubling of the batch gains less throughput than the first; "
    f"and it gains less than a factor of {WORTH:.2f}: past that, a doubling costs more time than it brings "
    "throughput, and the optimum lies before it. While the last doubling still gains more, the sweep ended too early "
    "and that part is open."
)
_RISES = "throughput, largest over least batch"
_LATER = "time of a batch, largest over least batch"
_LESS = "gain of the last doubling over gain of the first"
_OPTIMUM = "throughput after the last doubling over that before it"
_WANTED = from_suite(
    "a sweep over batch sizes, with device-busy time", "paper", "batch 1 to 64, phases prefill and decode"
)


class _Batch(NamedTuple):
    """One size of a sweep."""

    size: int
    seconds: Bounds  # of the whole batch
    rate: Bounds  # output tokens a second


class _Sweep(NamedTuple):
    prompt: int
    output: int
    batches: list[_Batch]
    times: list[Timed]


def judge(families: Sequence[Family]) -> Judged:
    """From the trials of one model; of several sweeps, that with most batch sizes."""
    (family,) = families
    sweeps = [sweep for sweep in _sweeps(family) if len(sweep.batches) >= LEAST_BATCHES]
    if not sweeps:
        why = without_device_time(family)
        unknown = tuple(map(unmeasured, (_RISES, _LATER, _LESS, _OPTIMUM)))
        return Judged(unknown, missing=(_WANTED,), remarks=() if why is None else (why,))
    sweep = max(sweeps, key=lambda each: (len(each.batches), each.prompt))
    checks = _checks(sweep.batches)
    open_ = any(check.verdict is Verdict.NOT_ENOUGH_DATA for check in checks)
    largest = sweep.batches[-1].size
    return Judged(
        checks=checks,
        figure=_figure(sweep),
        missing=(f"{_WANTED}; or batches beyond {largest}, which no suite provides",) if open_ else (),
        basis=bases(sweep.times),
        trials=trials_of(sweep.times),
        remarks=tuple(_remarks(sweep)),
        picture=_picture(sweep),
    )


def _sweeps(family: Family) -> list[_Sweep]:
    """The tasks that were run at two batch sizes or more."""
    found: defaultdict[tuple[int, int], dict[Phase, dict[int, Timed]]] = defaultdict(lambda: defaultdict(dict))
    for phase in (Phase.PREFILL, Phase.DECODE):
        for each in timed(family, phase, batch=None):
            for stored in each.trials:
                assert stored.trial.work is not None
                task = stored.trial.work.task
                found[task.prompt_tokens, task.output_tokens][phase][task.batch] = each
    swept = [_sweep(task, by_phase) for task, by_phase in sorted(found.items())]
    return [sweep for sweep in swept if len(sweep.batches) > 1]


def _sweep(task: tuple[int, int], by_phase: Mapping[Phase, Mapping[int, Timed]]) -> _Sweep:
    prompt, output = task
    prefills, decodes = by_phase.get(Phase.PREFILL, {}), by_phase.get(Phase.DECODE, {})
    whole = {size for size in decodes if size in prefills}
    sizes = whole if len(whole) > 1 else set(decodes)
    batches = []
    for size in sorted(sizes):
        seconds = decodes[size].seconds.times(max(1, output - 1))
        if whole == sizes:
            seconds = seconds.plus(prefills[size].seconds)
        tokens = size * output
        batches.append(
            _Batch(size, seconds, Bounds(tokens / seconds.value, tokens / seconds.high, tokens / seconds.low))
        )
    times = [several[size] for several in (prefills, decodes) for size in sorted(sizes) if size in several]
    return _Sweep(prompt, output, batches, times)


def _checks(batches: Sequence[_Batch]) -> tuple[Check, ...]:
    first, last = batches[0], batches[-1]
    gains = [_gain(one, other) for one, other in itertools.pairwise(batches)]
    found = below(_OPTIMUM, gains[-1], WORTH, "×")
    if found.verdict is Verdict.DOES_NOT_HOLD:
        found = opened(found)
    return (
        above(_RISES, last.rate.over(first.rate), 1.0, "×"),
        above(_LATER, last.seconds.over(first.seconds), 1.0, "×"),
        below(_LESS, gains[-1].over(gains[0]), 1.0, "×"),
        found,
    )


def _gain(one: _Batch, other: _Batch) -> Bounds:
    """The factor of throughput that a doubling of the batch brings between two sizes."""
    power = 1 / math.log2(other.size / one.size)
    return Bounds(*(ratio**power for ratio in other.rate.over(one.rate)))


def _figure(sweep: _Sweep) -> str:
    rates = ", ".join(f"{batch.size}: {batch.rate.value:,.0f}" for batch in sweep.batches)
    worth = [other.size for one, other in itertools.pairwise(sweep.batches) if _gain(one, other).value >= WORTH]
    best = max(worth, default=sweep.batches[0].size)
    return f"output tokens/s by batch, {sweep.prompt}/{sweep.output}: {rates}; optimum at batch {best}"


def _remarks(sweep: _Sweep) -> list[str]:
    """What `sweeps` says, by the host's clock, energy among it."""
    found = optimum.sweeps(stored.trial for stored in trials_of(sweep.times))
    return [f"by the host's clock: {line}" for each in found[:1] for line in optimum.in_words(each)]


def _picture(sweep: _Sweep) -> Picture:
    points = tuple(Point(batch.size, *batch.rate) for batch in sweep.batches)
    return Lines("Throughput by batch", "sequences at a time", "output token/s", (Line("throughput", points),))
