"""Claim 2: which phase takes longer, over prompts and answers, and from which prompt on it is prefill. Pure."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from collector.conditions import natural
from collector.findings.bounds import Bounds, above, below, between
from collector.findings.checks import Check, Verdict, opened, unmeasured
from collector.findings.device_time import Timed, bases, timed, without_device_time
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.pictures import Line, Lines, Picture, Point
from collector.findings.wanted import DECODES, PREFILLS
from collector.stored import StoredTrial
from phasewatt.fields import Phase

NUMBER = 2
SENTENCE = (
    "Which phase dominates latency depends on the workload: long output, decode; very long input, prefill takes over "
    "(there is a crossover input length)."
)
EACH = Each.MODEL
LONG, SHORT = 512, 64  # tokens out, as in suite `phases`: the study's Chat and Summary
VERY_LONG = 16384  # tokens. Source: the study's "very long" is above 16K
_CHAT = 512  # tokens in at most
RULE = (
    "One sequence, device time: a request is one prefill and a decode step for each further token, at the depth it "
    f"has. With a prompt of at most {_CHAT} tokens and {LONG} tokens out decode takes more than half of the time; "
    f"with the longest prompt that was measured and {SHORT} tokens out it takes less. Where decode still takes more "
    f"there, the claim fails if that prompt is longer than {VERY_LONG:,} tokens and is open if it is not. The "
    f"crossover is where the shares are equal at {SHORT} tokens out."
)
_DECODE_LEADS = f"decode's share of the time, short prompt, {LONG} tokens out"
_PREFILL_LEADS = f"decode's share of the time, longest prompt, {SHORT} tokens out"


class _Times(NamedTuple):
    """Of one model, by length."""

    prefills: list[tuple[float, Bounds]]
    steps: list[tuple[float, Bounds]]

    def decode_share(self, prompt: float, output: int) -> Bounds:
        """Of the time of a request whose prompt was measured or lies between those that were."""
        step = between(self.steps, prompt + (output - 1) / 2)  # steps are linear in depth: the middle one is the mean
        return step.times(output - 1).share(between(self.prefills, prompt))


def judge(families: Sequence[Family]) -> Judged:
    """From the trials of one model."""
    (family,) = families
    prefills, decodes = timed(family, Phase.PREFILL), timed(family, Phase.DECODE)
    missing = ([] if prefills else [PREFILLS]) + ([] if decodes else [DECODES])
    why = without_device_time(family)
    if missing:
        unknown = (unmeasured(_DECODE_LEADS), unmeasured(_PREFILL_LEADS))
        return Judged(unknown, missing=tuple(missing), remarks=() if why is None else (why,))
    times = _Times(_by_length(prefills, Phase.PREFILL), _by_length(decodes, Phase.DECODE))
    checks = (_long_output(times), _long_input(times))
    wanted = [PREFILLS] if any(check.verdict is Verdict.NOT_ENOUGH_DATA for check in checks) else []
    return Judged(
        checks=checks,
        figure=_figure(times, checks),
        missing=tuple(wanted),
        basis=bases(prefills + decodes),
        trials=trials_of(prefills + decodes),
        remarks=tuple(_remarks(times, family)),
        picture=_picture(times),
    )


def _by_length(several: Sequence[Timed], phase: Phase) -> list[tuple[float, Bounds]]:
    """One value a length; of several that begin at one depth, the widest."""
    found: dict[float, Bounds] = {}
    for each in several:
        cell = each.cell
        length = cell.kv_end if phase is Phase.PREFILL else (cell.kv_start + cell.kv_end - 1) / 2
        before = found.get(length, each.seconds)
        found[length] = Bounds(
            each.seconds.value, min(before.low, each.seconds.low), max(before.high, each.seconds.high)
        )
    return sorted(found.items())


def _long_output(times: _Times) -> Check:
    shortest = times.prefills[0][0]
    if shortest > _CHAT:
        return unmeasured(_DECODE_LEADS)
    return above(_DECODE_LEADS, times.decode_share(shortest, LONG), 0.5)


def _long_input(times: _Times) -> Check:
    longest = times.prefills[-1][0]
    found = below(_PREFILL_LEADS, times.decode_share(longest, SHORT), 0.5)
    if found.verdict is Verdict.DOES_NOT_HOLD and longest <= VERY_LONG:
        return opened(found)
    return found


def crossover(times: _Times) -> tuple[float | None, float | None, float | None]:
    """The prompt at which shares are equal, and those around it at which one phase surely leads; None: not measured."""
    shares = [(length, times.decode_share(length, SHORT)) for length, _ in times.prefills]
    low = max((length for length, share in shares if share.low > 0.5), default=None)
    high = min((length for length, share in shares if share.high < 0.5), default=None)
    for (left, a), (right, b) in itertools.pairwise(shares):
        if a.value >= 0.5 > b.value:
            part = (a.value - 0.5) / (a.value - b.value)
            return math.exp(math.log(left) + part * math.log(right / left)), low, high
    return None, low, high


def _figure(times: _Times, checks: Sequence[Check]) -> str:
    at, low, high = crossover(times)
    shares = ", ".join(f"{check.says}: {check.value:.1%}" for check in checks if check.value is not None)
    if at is None:
        longest = times.prefills[-1][0]
        where = "below the shortest prompt" if low is None else f"not up to {longest:,.0f} tokens"
        return f"crossover at {SHORT} tokens out {where}; {shares}"
    around = f" (between {low:,.0f} and {high:,.0f})" if low is not None and high is not None else ""
    return f"crossover at {SHORT} tokens out: {at:,.0f} tokens in{around}; {shares}"


def _remarks(times: _Times, family: Family) -> list[str]:
    said = []
    deepest, longest = times.steps[-1][0], times.prefills[-1][0]
    if longest > deepest * 1.1:
        said.append(
            f"decode was measured to a depth of {deepest:,.0f}; a step at {longest:,.0f} is taken to be no shorter"
        )
    shares = sorted(filter(None, map(_as_seen, family.trials)), key=natural)
    if shares:
        said.append(f"decode's share as a client of this host sees it ({family.mode} mode): {', '.join(shares)}")
    return said


def _as_seen(stored: StoredTrial) -> str | None:
    """Decode's share of a measured request by the host's clock, after its shape."""
    run, work = stored.trial.run_of(Phase.REQUEST), stored.trial.work
    if run is None or work is None or work.task.batch != 1 or not run.first_token_ns or run.in_flight != 1:
        return None
    pairs = list(zip(run.first_token_ns, run.durations_ns, strict=False))[run.warmup :]
    if not pairs:
        return None
    share = statistics.median(1 - first / whole for first, whole in pairs)
    return f"{work.task.prompt_tokens}/{work.task.output_tokens}: {share:.0%}"


def _picture(times: _Times) -> Picture:
    lines = []
    for output in (SHORT, LONG):
        shares = [(length, times.decode_share(length, output)) for length, _ in times.prefills]
        points = tuple(Point(length, 100 * s.value, 100 * s.low, 100 * s.high) for length, s in shares)
        lines.append(Line(f"{output} tokens out", points))
    at, _, _ = crossover(times)
    return Lines(
        "Decode's share of a request's time",
        "tokens in",
        "%",
        tuple(lines),
        log_y=False,
        level=("half", 50.0),
        mark=None if at is None else ("crossover", at),
    )
