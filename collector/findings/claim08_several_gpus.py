"""Claim 8: what several GPUs give each phase. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from collector.findings.bounds import Bounds, above, below
from collector.findings.checks import unmeasured
from collector.findings.device_time import Timed, bases, timed
from collector.findings.families import SINGLE, Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.pictures import Bar, Bars
from collector.findings.wanted import from_suite
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
    "than prefill does, at the deepest common context. Mode graph before eager, and the fewest GPUs that were run; "
    "what more of them do stands beside it."
)
_GAINS = "prefill: time on one GPU over time on several"
_LESS = "gain of decode over gain of prefill"
_WANTED = from_suite(
    "the same model on one GPU and on several of one host",
    "several-gpus",
    "tensor_parallel 1 and 2, phases prefill and decode",
)


class _Pair(NamedTuple):
    """One length on one GPU and on several."""

    alone: Timed
    several: Timed

    @property
    def gain(self) -> Bounds:
        """How much less time several take."""
        return self.alone.seconds.over(self.several.seconds)


class _Both(NamedTuple):
    """The two phases of one model, on so many GPUs, by length."""

    parallelism: str
    mode: str
    prefills: tuple[_Pair, ...]
    decodes: tuple[_Pair, ...]

    @property
    def prefill(self) -> _Pair:
        """The longest."""
        return self.prefills[-1]

    @property
    def decode(self) -> _Pair:
        """The deepest."""
        return self.decodes[-1]

    @property
    def order(self) -> tuple[bool, int, str]:
        """By which they are told."""
        return self.mode != "graph", len(self.parallelism), self.parallelism

    @property
    def words(self) -> str:
        """What they gain, longest and deepest last."""
        prefills = ", ".join(f"{pair.gain.value:.2f}× at {pair.alone.cell.kv_end:,}" for pair in self.prefills)
        decodes = ", ".join(f"{pair.gain.value:.2f}× at {pair.alone.cell.kv_start:,}" for pair in self.decodes)
        return f"{self.parallelism}, of one GPU's speed: prefill {prefills} tokens; decode {decodes}"


def judge(families: Sequence[Family]) -> Judged:
    """From all trials of one device."""
    found = sorted(_every(families), key=lambda both: both.order)
    if not found:
        return Judged((unmeasured(_GAINS), unmeasured(_LESS)), missing=(_WANTED,))
    first = found[0]
    prefill, decode = first.prefill, first.decode
    times = [*prefill, *decode]
    bars = tuple(
        Bar(f"{name}, {both.parallelism}", *pair.gain)
        for both in found
        if both.mode == first.mode
        for name, pair in (("prefill", both.prefill), ("decode step", both.decode))
    )
    return Judged(
        checks=(above(_GAINS, prefill.gain, 1.0, "×"), below(_LESS, decode.gain.over(prefill.gain), 1.0, "×")),
        figure=first.words,
        basis=bases(times),
        trials=trials_of(times),
        remarks=tuple(f"{both.mode} mode, {both.words}" for both in found[1:]),
        picture=Bars("One GPU's time over that of several", "×", bars, level=("no gain", 1.0)),
    )


def _every(families: Sequence[Family]) -> Iterator[_Both]:
    for alone in families:
        for several in families:
            if _counterparts(alone, several):
                prefills, decodes = (_pairs(alone, several, phase) for phase in (Phase.PREFILL, Phase.DECODE))
                if prefills and decodes:
                    yield _Both(several.parallelism, several.mode, prefills, decodes)


def _counterparts(alone: Family, several: Family) -> bool:
    """Whether two families of GPUs differ in their parallelism alone, the first having none."""
    mine, others = ([s for s in family.way.settings if s[0] != "parallelism"] for family in (alone, several))
    same = (alone.shape, mine) == (several.shape, others)
    return same and alone.accelerator == "cuda" and alone.parallelism == SINGLE != several.parallelism


def _pairs(alone: Family, several: Family, phase: Phase) -> tuple[_Pair, ...]:
    """The lengths that both were run at."""
    mine, others = ({each.cell: each for each in timed(family, phase)} for family in (alone, several))
    return tuple(_Pair(mine[cell], others[cell]) for cell in sorted(mine.keys() & others.keys()))
