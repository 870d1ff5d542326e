"""What a client gets of requests: time per token, rates, and goodput under stated limits. Pure.

Goodput counts the requests whose TTFT and TPOT are both within their limits. Source: DistServe, arXiv 2401.09670.
"""

from __future__ import annotations

from phasewatt.conditions import Conditions
from phasewatt.records import PhaseRun

_TICK_S = 1e-9  # of the clock: what is equal to a limit is within it, however it was rounded


def sequences(run: PhaseRun, batch: int) -> int:
    """Sequences that one repetition of a request has: the whole batch, or one where repetitions overlap."""
    return batch if run.in_flight == 1 else 1


def tpot_s(run: PhaseRun, output_tokens: int) -> list[float]:
    """Seconds a token after the first, a value for each steady repetition whose tokens were timed.

    Where several tokens came to a chunk, the stretch from the first chunk to the last is shared by all of them.
    """
    steps = output_tokens - 1
    return [sum(gaps) * 1e-9 / (steps if run.gaps_of_chunks else len(gaps)) for gaps in run.gaps_ns or () if gaps]


def requests_per_s(run: PhaseRun, batch: int) -> float | None:
    """Requests finished a second of the window, one a sequence; None: the window has no length."""
    window = run.window
    if window is None or window.duration_s <= 0:
        return None
    return (len(run.starts_ns) - run.warmup) * sequences(run, batch) / window.duration_s


def good_share(run: PhaseRun, output_tokens: int, conditions: Conditions) -> float | None:
    """Share of the steady requests within the limits that are set; None: none is set, or tokens were not timed."""
    ttft, tpot = conditions.ttft_limit_s, conditions.tpot_limit_s
    firsts_s = [first * 1e-9 for first in (run.first_token_ns or ())[run.warmup :]]
    each_s = tpot_s(run, output_tokens)
    if (ttft is None and tpot is None) or not firsts_s or (tpot is not None and len(each_s) != len(firsts_s)):
        return None
    rows = zip(firsts_s, each_s or [0.0] * len(firsts_s), strict=True)
    good = sum(
        (ttft is None or first <= ttft + _TICK_S) and (tpot is None or each <= tpot + _TICK_S) for first, each in rows
    )
    return good / len(firsts_s)
