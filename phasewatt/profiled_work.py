"""What the phase of a profile asked of the hardware, operator by operator, as its kernels really did it. Pure.

Attention is where implementations differ. `eager` computes every pair of a prompt's tokens and masks half of them;
`sdpa`, `grouped` and flash kernels leave out what a causal mask hides, unless they are given one, as `sdpa` is in later
chunks of a prompt. A cache of fixed size is worked on to its end, filled or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from phasewatt import roofline
from phasewatt.conditions import Conditions
from phasewatt.fields import Phase
from phasewatt.operators import Cost, Operator, Pass, passes, total
from phasewatt.profiles import OperatorProfile
from phasewatt.records import Trial
from phasewatt.work import Work

FAMILIES = frozenset({"llama", "qwen2", "qwen3", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"})
_CAUSAL = frozenset({"sdpa", "grouped", "flash_attention_2", "flash_attention_3"})
_MASKED_LATER = frozenset({"sdpa", "grouped"})  # given a mask in chunks that do not begin a prompt
_MATRICES = frozenset(
    {
        *(Operator.QKV_PROJ, Operator.O_PROJ, Operator.FFN_UP, Operator.FFN_DOWN, Operator.ROUTER),
        *(Operator.EXPERTS, Operator.LM_HEAD),
    }
)


class Demand(NamedTuple):
    """FLOPs and bytes of one repetition; None: see reason."""

    flops: float | None
    moved_bytes: float | None
    reason: str | None = None


class Demands(NamedTuple):
    """Of every operator that the architecture has, and which attention was counted; none at all: see reason."""

    by_operator: Mapping[Operator, Demand]
    attention: str  # in words
    reason: str | None = None

    @property
    def whole(self) -> Demand:
        """All operators together; None where one of them is not known."""
        several = self.by_operator.values()
        flops = [each.flops for each in several if each.flops is not None]
        moved = [each.moved_bytes for each in several if each.moved_bytes is not None]
        reasons = dict.fromkeys(each.reason for each in several if each.reason)
        return Demand(
            sum(flops) if several and len(flops) == len(several) else None,
            sum(moved) if several and len(moved) == len(several) else None,
            self.reason or "; ".join(reasons) or None,
        )


def demands(trial: Trial, profile: OperatorProfile) -> Demands:
    """What one repetition of the profiled phase asked for."""
    if trial.work is None:
        return _unknown("the trial does not say what was computed")
    shape, under = trial.work.task.architecture, trial.conditions
    if shape.family not in FAMILIES:
        return _unknown(f"there is no formula for the family {shape.family!r} of {shape.name}")
    if trial.work.dtype not in roofline.BYTES_PER_ELEMENT:
        return _unknown(f"the size of an element of {trial.work.dtype!r} is not known here")
    if profile.phase not in (Phase.PREFILL, Phase.DECODE):
        return _unknown(f"{profile.phase.value} is a mixture of passes: profile its phases")
    if profile.kv_end <= profile.kv_start:
        return _unknown("the profile does not say how many tokens it processed")
    counted = _Attention(under, profile.phase)
    several = list(counted.passes(trial.work.task.batch, profile))
    found = total(shape, trial.work.dtype, several)
    width = roofline.weight_element_bytes(trial.work.dtype, trial.work.quantization)
    return Demands(
        {operator: _demand(operator, cost, trial.work, width, counted) for operator, cost in found.items()},
        counted.words,
    )


def _demand(operator: Operator, cost: Cost, work: Work, width: float | None, counted: _Attention) -> Demand:
    if operator is Operator.ATTN_CORE and not counted.known:
        return Demand(None, cost.moved_bytes, counted.words)
    if work.quantization is None or operator not in _MATRICES:
        return Demand(cost.flops, cost.moved_bytes)
    if width is None:
        return Demand(cost.flops, None, f"the bytes of weights in {work.quantization!r} are not known here")
    scale = width / roofline.element_bytes(work.dtype)
    return Demand(cost.flops, cost.weight_bytes * scale + cost.activation_bytes + cost.cache_bytes)


class _Attention:
    """Which pairs of tokens the kernels of these conditions work on."""

    def __init__(self, under: Conditions, phase: Phase) -> None:
        self._room = under.cache_tokens if phase is Phase.DECODE else None
        self._chunk = under.prefill_chunk if phase is Phase.PREFILL else 1
        self._masked_later = under.attention in _MASKED_LATER
        ours = under.engine == "transformers"
        self._causal = ours and under.attention in _CAUSAL
        self.known = phase is Phase.DECODE or (ours and (self._causal or under.attention == "eager"))
        self.words = self._told(under, phase)

    def _told(self, under: Conditions, phase: Phase) -> str:
        if phase is Phase.DECODE:
            return f"all {self._room} slots of a cache of fixed size" if self._room else "one token on all before it"
        if not self.known:
            return f"which pairs {under.engine}'s attention {under.attention!r} computes is not known here"
        if not self._causal:
            return "full: every pair of the prompt's tokens"
        later = "; later chunks in full, under a mask" if self._chunk and self._masked_later else ""
        return f"causal: each token on those before it{later}"

    def passes(self, batch: int, profile: OperatorProfile) -> Iterator[Pass]:
        """The passes of one repetition."""
        whole = profile.kv_end - profile.kv_start
        for one in passes(batch, profile.kv_start, profile.kv_end, self._chunk or whole):
            if self._room is not None:
                yield one._replace(depth=max(one.depth, self._room - one.new))
            elif profile.phase is Phase.PREFILL:
                yield one._replace(causal=self._causal and not (one.depth and self._masked_later))
            else:
                yield one


def _unknown(reason: str) -> Demands:
    return Demands({}, "", reason)
