"""Claim 3: feed-forward against attention in prefill, over prompts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from collector.findings.bounds import above, below
from collector.findings.checks import Check, unmeasured
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.operator_times import Split, splits
from collector.findings.pictures import Line, Lines, Picture, Point
from collector.findings.wanted import from_suite
from phasewatt.fields import Phase
from phasewatt.operators import Group

NUMBER = 3
SENTENCE = "Prefill operators: FFN dominates at common context lengths (1K to 8K), attention at very long ones (>16K)."
EACH = Each.MODEL
COMMON = (1024, 8192)  # tokens, as the study has them
VERY_LONG = 16384  # tokens: longer than this
_SPANNED = 4.0  # longest over shortest common length, so that the claim is not decided at one point of its range
RULE = (
    "One sequence, device time by operator. Attention is its projections, rotary embedding and core; FFN is up, "
    f"activation and down. At every measured length from {COMMON[0]:,} to {COMMON[1]:,} tokens (two or more, a factor "
    f"of {_SPANNED:g} apart) FFN takes longer than attention; at every one above {VERY_LONG:,} attention takes longer "
    "than FFN. Kernels that no operator was found for may belong to either."
)
_FFN_LEADS = f"least FFN / attention from {COMMON[0]:,} to {COMMON[1]:,} tokens"
_ATTENTION_LEADS = f"greatest FFN / attention above {VERY_LONG:,} tokens"
_WANTED = "profiles of prefill by operator"


def judge(families: Sequence[Family]) -> Judged:
    """From the profiles of one model."""
    (family,) = families
    found = splits(family, Phase.PREFILL)
    common = [each for each in found if COMMON[0] <= each.kv_end <= COMMON[1]]
    spanned = bool(common) and common[-1].kv_end >= _SPANNED * common[0].kv_end
    very_long = [each for each in found if each.kv_end > VERY_LONG]
    missing = (
        []
        if spanned
        else [from_suite(f"{_WANTED}, common lengths", "paper", "prompt_tokens 1024 to 8192, phases prefill")]
    )
    missing += (
        [] if very_long else [from_suite(f"{_WANTED}, above 16K", "paper", "prompt_tokens 32700, phases prefill")]
    )
    return Judged(
        checks=(_least(common) if spanned else unmeasured(_FFN_LEADS), _greatest(very_long)),
        figure=figure_of(found),
        missing=tuple(missing),
        basis="device time by operator" if found else None,
        trials=trials_of(found),
        picture=picture_of(found, "Prefill by operator", "tokens in the prompt"),
    )


def _least(common: Sequence[Split]) -> Check:
    return above(_FFN_LEADS, min(each.group(Group.FFN).over(each.group(Group.ATTENTION)) for each in common), 1.0, "×")


def _greatest(very_long: Sequence[Split]) -> Check:
    if not very_long:
        return unmeasured(_ATTENTION_LEADS)
    ratios = [each.group(Group.FFN).over(each.group(Group.ATTENTION)) for each in very_long]
    return below(_ATTENTION_LEADS, max(ratios), 1.0, "×")


def figure_of(found: Sequence[Split]) -> str | None:
    """FFN over attention at each length."""
    ratios = [
        f"{each.group(Group.FFN).value / attention:.3g} at {each.kv_end:,}"
        for each in found
        if (attention := each.group(Group.ATTENTION).value)
    ]
    return f"FFN / attention: {', '.join(ratios)}" if ratios else None


def picture_of(found: Sequence[Split], title: str, along: str) -> Picture | None:
    """Time of each group over length."""
    if not found:
        return None
    lines = [
        Line(group.value, tuple(Point(each.kv_end, 1e3 * each.group(group).value) for each in found)) for group in Group
    ]
    return Lines(title, along, "ms", tuple(lines))
