"""Claim 8: what several GPUs give each phase. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from collector.findings.bounds import Bounds, above, below
from collector.findings.checks import unmeasured
from collector.findings.device_time import Timed, bases, timed
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.pictures import Bar, Bars
from collector.findings.wanted import from_none
from phasewatt.fields import Phase

NUMBER = 8
SENTENCE = (
    "Several GPUs: prefill gains (tensor parallel); decode may lose to communication; single GPU or light pipeline "
    "can win."
)
EACH = Each.DEVICE
RULE = (
    "One sequence, device time, the same model and lengths on one GPU and on several of the same device, all other "
    "conditions being equal. At the longest common prompt prefill is faster on several; a decode step gains less "
    "than prefill does, at the deepest common context."
)
_GAINS = "prefill: time on one GPU over time on several"
_LESS = "gain of decode over gain of prefill"
_SINGLE = "single"
_WANTED = from_none("the same model on one GPU and on several of one host")


class _Pair(NamedTuple):
    """One length on one GPU and on several."""

    alone: Timed
    several: Timed

    @property
    def gain(self) -> Bounds:
        """How much less time several take."""
        return self.alone.seconds.over(self.several.seconds)


def judge(families: Sequence[Family]) -> Judged:
    """From all trials of one device."""
    for alone in families:
        for several in families:
            if _counterparts(alone, several):
                prefill, decode = (_pair(alone, several, phase) for phase in (Phase.PREFILL, Phase.DECODE))
                if prefill is not None and decode is not None:
                    return _judged(prefill, decode)
    return Judged((unmeasured(_GAINS), unmeasured(_LESS)), missing=(_WANTED,))


def _judged(prefill: _Pair, decode: _Pair) -> Judged:
    times = [*prefill, *decode]
    bars = tuple(Bar(name, *pair.gain) for name, pair in (("prefill", prefill), ("decode step", decode)))
    return Judged(
        checks=(above(_GAINS, prefill.gain, 1.0, "×"), below(_LESS, decode.gain.over(prefill.gain), 1.0, "×")),
        figure=f"several GPUs: prefill {prefill.gain.value:.3g} times as fast, decode {decode.gain.value:.3g} times",
        basis=bases(times),
        trials=trials_of(times),
        picture=Bars("One GPU's time over that of several", "×", bars, level=("no gain", 1.0)),
    )


def _parallelism(family: Family) -> str:
    return family.trials[0].trial.conditions.parallelism


def _counterparts(alone: Family, several: Family) -> bool:
    """Whether two families differ in their parallelism alone, the first having none."""
    mine, others = ([s for s in family.way.settings if s[0] != "parallelism"] for family in (alone, several))
    same = (alone.shape, mine) == (several.shape, others)
    return same and _parallelism(alone) == _SINGLE != _parallelism(several)


def _pair(alone: Family, several: Family, phase: Phase) -> _Pair | None:
    """The longest that both were run at."""
    mine, others = ({each.cell: each for each in timed(family, phase)} for family in (alone, several))
    common = sorted(mine.keys() & others.keys())
    return _Pair(mine[common[-1]], others[common[-1]]) if common else None
