"""Claim 5: how well a straight line foretells the time of a prefill, and of a decode step. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from collector.findings.bounds import Bounds, above, below
from collector.findings.checks import Check, unmeasured
from collector.findings.device_time import Timed, bases, timed, without_device_time
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.pictures import Line, Lines, Picture, Point
from collector.findings.wanted import DECODES, PREFILLS
from collector.fitting import LEAST_LENGTHS, Fit, fit
from collector.fitting import Point as Given
from phasewatt.fields import Phase

NUMBER = 5
SENTENCE = "Prefill latency is linear in input tokens, so predictable; decode varies and is hard to predict."
EACH = Each.MODEL
PREDICTABLE = 0.1  # relative: a scheduler that plans for a tenth more keeps its promise
RULE = (
    f"One sequence, device time, {LEAST_LENGTHS} lengths or more of each phase. A line with a floor (what a "
    "launch-bound device takes) is fitted without one length at a time, and foretells that length. The worst of "
    f"these errors is under {PREDICTABLE:.0%} for prefill over its tokens, and over {PREDICTABLE:.0%} for a decode "
    "step over the tokens in its cache. Each error is as uncertain as the time that was left out. R² is shown and "
    "decides nothing."
)
_LINEAR = "worst error of a line at a prompt that it was not shown"
_HARD = "worst error of a line at a depth that it was not shown"
_Fitted = tuple[list[Timed], Fit | None]


def judge(families: Sequence[Family]) -> Judged:
    """From the trials of one model."""
    (family,) = families
    prefills, decodes = (_fitted(family, phase) for phase in (Phase.PREFILL, Phase.DECODE))
    missing = [] if prefills[1] else [PREFILLS]
    missing += [] if decodes[1] else [DECODES]
    why = without_device_time(family)
    several = prefills[0] + decodes[0]
    return Judged(
        checks=(_linear(*prefills), _hard(*decodes)),
        figure=_figure(prefills, decodes),
        missing=tuple(missing),
        basis=bases(several),
        trials=trials_of(several),
        remarks=tuple(([] if why is None or several else [why]) + _remarks(family, prefills[0])),
        picture=_picture(prefills),
    )


def _fitted(family: Family, phase: Phase) -> _Fitted:
    several = timed(family, phase)
    return several, fit([Given((_length(phase, each),), each.seconds.value, each.cell.kv_end) for each in several])


def _length(phase: Phase, each: Timed) -> float:
    return each.cell.kv_end if phase is Phase.PREFILL else (each.cell.kv_start + each.cell.kv_end - 1) / 2


def worst(several: Sequence[Timed], made: Fit) -> Bounds:
    """The largest error without its sign, as uncertain as the value that was left out."""
    found = []
    for each in several:
        error = round(abs(made.errors[each.cell.kv_end]), 6)  # less is rounding
        wide = max(each.seconds.high - each.seconds.value, each.seconds.value - each.seconds.low) / each.seconds.value
        found.append(Bounds(error, max(0.0, error - wide), error + wide))
    return max(found)


def _linear(several: Sequence[Timed], made: Fit | None) -> Check:
    return unmeasured(_LINEAR) if made is None else below(_LINEAR, worst(several, made), PREDICTABLE)


def _hard(several: Sequence[Timed], made: Fit | None) -> Check:
    return unmeasured(_HARD) if made is None else above(_HARD, worst(several, made), PREDICTABLE)


def _figure(prefills: _Fitted, decodes: _Fitted) -> str | None:
    told = [
        f"{name} off by {made.worst_error:.1%} at worst (R² {made.r2:.4f}, {len(made.errors)} lengths)"
        for name, (_, made) in (("prefill", prefills), ("decode step", decodes))
        if made is not None
    ]
    return "; ".join(told) or None


def _remarks(family: Family, prefills: Sequence[Timed]) -> list[str]:
    bent = fit(
        [Given((float(n), float(n) ** 2), each.seconds.value, n) for each in prefills for n in (each.cell.kv_end,)]
    )
    said = [] if bent is None else [f"with a bend (n²) prefill is foretold within {bent.worst_error:.1%}"]
    spreads = []
    for stored in family.trials:
        run = stored.trial.run_of(Phase.DECODE)
        durations = [span.duration_s for span in run.spans()] if run is not None else []
        if len(durations) > 1:
            spreads.append((max(durations) - min(durations)) / statistics.median(durations))
    if spreads:
        said.append(
            f"decode by the host's clock ({family.mode} mode) varies by up to {max(spreads):.0%} within a trial"
        )
    return said


def _picture(prefills: _Fitted) -> Picture | None:
    several, made = prefills
    if not several:
        return None
    lines = [Line("measured", tuple(Point(each.cell.kv_end, *_ms(each.seconds)) for each in several), joined=False)]
    if made is not None:
        curve = made.curve
        lines.append(
            Line("line", tuple(Point(each.cell.kv_end, 1e3 * curve.at((each.cell.kv_end,))) for each in several))
        )
    return Lines("Time of a prefill", "tokens in the prompt", "ms", tuple(lines))


def _ms(seconds: Bounds) -> Bounds:
    return seconds.times(1e3)
