"""Claim 9: whether a mixture of experts is as fast as its active or its total parameters say, and its routing. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collector.findings.bounds import Bounds, above, below
from collector.findings.checks import Check, unmeasured
from collector.findings.device_time import Timed, bases, timed
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.operator_times import Split, splits
from collector.findings.pictures import Bar, Bars, Picture
from collector.findings.wanted import from_suite
from phasewatt import roofline
from phasewatt.fields import Phase
from phasewatt.operators import Operator

NUMBER = 9
SENTENCE = "MoE: speed follows active, not total parameters; decode pays for routing and dispatch."
EACH = Each.FLEET
TOLD_APART = 2.0  # total over active parameters: with less the two foretell nearly the same
PAYS = 0.05  # of a decode step: a twentieth, below which its cost is lost among the rest
_NEAR = 1.5  # between the depths of the two decode steps
RULE = (
    "One sequence, device time, each mixture beside a dense model that ran in the same way on the same device, at "
    f"the nearest depths (within a factor of {_NEAR:g}). The dense model's time a parameter foretells the mixture's "
    f"decode step from its active and from its total parameters (at least a factor of {TOLD_APART:g} apart); the step "
    "is nearer to the first, so below the geometric mean of the two, on every device. Router and dispatch take at "
    f"least {PAYS:.0%} of the device time of its decode step."
)
_FOLLOWS = "greatest decode step of a mixture over the mean of both forecasts"
_ROUTING = "least share of router and dispatch in a mixture's decode step"
_WANTED = (
    from_suite("a mixture of experts", "paper --model qwen3-30b-a3b", "phases decode, with its profiles"),
    from_suite("a dense model, run in the same way", "paper", "phases decode"),
)


class _Pair(NamedTuple):
    mixture: Family
    step: Timed
    beside: Timed
    by_active: Bounds
    by_total: Bounds

    @property
    def ratio(self) -> Bounds:
        """To the geometric mean of both forecasts."""
        means = (math.sqrt(a * b) for a, b in zip(self.by_active, self.by_total, strict=True))
        return self.step.seconds.over(Bounds(*means))


def judge(families: Sequence[Family]) -> Judged:
    """From all trials of the fleet."""
    mixtures = [family for family in families if family.shape.experts is not None]
    pairs = [pair for mixture in mixtures if (pair := _pair(mixture, families)) is not None]
    routing = [split for mixture in mixtures for split in splits(mixture, Phase.DECODE)]
    times = [each for pair in pairs for each in (pair.step, pair.beside)]
    return Judged(
        checks=(_follows(pairs), _pays(routing)),
        figure=_figure(pairs, routing),
        missing=_WANTED[0 if not mixtures or not routing else 1 :] if not pairs or not routing else (),
        basis=bases(times),
        trials=trials_of(times),
        picture=_picture(pairs),
    )


def _follows(pairs: Sequence[_Pair]) -> Check:
    return below(_FOLLOWS, max(pair.ratio for pair in pairs), 1.0, "×") if pairs else unmeasured(_FOLLOWS)


def _pays(found: Sequence[Split]) -> Check:
    return above(_ROUTING, min(map(_routing, found)), PAYS) if found else unmeasured(_ROUTING)


def _routing(split: Split) -> Bounds:
    return split.of(Operator.ROUTER, Operator.DISPATCH).times(1 / split.whole)


def _pair(mixture: Family, families: Iterable[Family]) -> _Pair | None:
    """The mixture beside the dense model of the same way whose parameters are nearest to its active ones."""
    active = roofline.active_parameter_count(mixture.shape)
    if mixture.parameters / active < TOLD_APART:
        return None
    dense = [f for f in families if f.way == mixture.way and f.shape.experts is None]
    for other in sorted(dense, key=lambda family: abs(math.log(family.parameters / active))):
        steps = _nearest(timed(mixture, Phase.DECODE), timed(other, Phase.DECODE))
        if steps is not None:
            step, beside = steps
            each = beside.seconds.times(1 / other.parameters)
            return _Pair(mixture, step, beside, each.times(active), each.times(mixture.parameters))
    return None


def _nearest(mine: Sequence[Timed], others: Sequence[Timed]) -> tuple[Timed, Timed] | None:
    """The two decode steps whose depths are nearest to each other, the deepest of these."""
    pairs = [(abs(math.log(a.cell.kv_end / b.cell.kv_end)), -a.cell.kv_end, a, b) for a in mine for b in others]
    if not pairs:
        return None
    apart, _, one, other = min(pairs, key=lambda pair: pair[:2])
    return (one, other) if apart <= math.log(_NEAR) else None


def _figure(pairs: Sequence[_Pair], routing: Sequence[Split]) -> str | None:
    told = [
        f"{pair.mixture.device}, {pair.mixture.shape.name}: {1e3 * pair.step.seconds.value:.3g} ms a step, foretold "
        f"{1e3 * pair.by_active.value:.3g} by active and {1e3 * pair.by_total.value:.3g} by total parameters"
        for pair in pairs
    ]
    if routing:
        shares = [_routing(split).value for split in routing]
        told.append(f"router and dispatch at least {min(shares):.1%} of a step")
    return "; ".join(told) or None


def _picture(pairs: Sequence[_Pair]) -> Picture | None:
    if not pairs:
        return None
    pair = pairs[0]
    named = (
        ("measured", pair.step.seconds),
        ("by active parameters", pair.by_active),
        ("by total parameters", pair.by_total),
    )
    return Bars(f"A decode step of {pair.mixture.shape.name}", "ms", tuple(Bar(n, *b.times(1e3)) for n, b in named))
