"""Claim 4: feed-forward against attention in decode, over depths and sizes of models. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from collector.findings.bounds import Bounds, above, below, within
from collector.findings.checks import Check, unmeasured
from collector.findings.claim03_prefill_operators import figure_of, picture_of
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.operator_times import Split, splits
from collector.findings.wanted import from_suite
from phasewatt.fields import Phase
from phasewatt.operators import Group

NUMBER = 4
SENTENCE = (
    "Decode operators: FFN cost per step is constant, attention grows with context; large models (32B) are "
    "FFN-dominated, small ones attention-dominated; at very long context attention wins in both. FFN + attention are "
    "94 to 96 % of time."
)
EACH = Each.WAY
SHORT_CONTEXT = 8192  # tokens: below it the study's lengths are common ...
VERY_LONG = 16384  # ... and above it very long
SPANNED = 4.0  # deepest over shallowest: less context would not show a growth
CONSTANT = 0.1  # relative: a tenth, which the study's bars would not show
NEARLY_ALL = 0.94  # the study's lower figure
LARGE, SMALL = 30e9, 10e9  # parameters: the study's 32B from below, its 7B and 8B from above
RULE = (
    "One sequence, device time of a step by operator, groups as in claim 3. From the shallowest to the deepest "
    f"context (a factor of {SPANNED:g} or more apart) FFN's time stays within {CONSTANT:.0%} and attention's grows by "
    f"more than that. Up to {SHORT_CONTEXT:,} tokens every model of {LARGE / 1e9:g}B parameters or more spends longer "
    f"in FFN, every one of {SMALL / 1e9:g}B or less longer in attention; above {VERY_LONG:,} tokens all of them "
    f"longer in attention. FFN and attention together are at least {NEARLY_ALL:.0%} of the time of the layers' "
    "operators (the study lists no embedding and no head). Kernels that no operator was found for may belong to any."
)
_FLAT = "FFN's time a step, deepest over shallowest context"
_GROWS = "attention's time a step, deepest over shallowest context"
_LARGE = f"least FFN / attention of models of {LARGE / 1e9:g}B or more, up to {SHORT_CONTEXT:,} tokens"
_SMALL = f"greatest FFN / attention of models of {SMALL / 1e9:g}B or less, up to {SHORT_CONTEXT:,} tokens"
_LONG = f"greatest FFN / attention above {VERY_LONG:,} tokens"
_SHARE = "share of FFN and attention in the layers"
_PROFILES = "profiles of decode by operator"
_Profiled = list[tuple[Family, list[Split]]]


def judge(families: Sequence[Family]) -> Judged:
    """From the profiles of all models that one device ran in one way; the first of them is looked at over depths."""
    dense = [family for family in families if family.shape.experts is None]  # a mixture is neither large nor small
    every = [(family, found) for family in dense if (found := splits(family, Phase.DECODE))]
    several = max((found for _, found in every), key=_span, default=[])
    checks = (*_over_depths(several), *_over_models(every))
    return Judged(
        checks=checks,
        figure=_figure(several),
        missing=tuple(_missing(several, every)),
        basis="device time by operator" if every else None,
        trials=trials_of(split for _, found in every for split in found),
        picture=picture_of(several, "A decode step by operator", "tokens in the cache"),
    )


def _span(found: Sequence[Split]) -> float:
    return found[-1].kv_end / max(1, found[0].kv_end)


def _ratio(split: Split) -> Bounds:
    return split.group(Group.FFN).over(split.group(Group.ATTENTION))


def _over_depths(found: Sequence[Split]) -> tuple[Check, ...]:
    if not found:
        return unmeasured(_FLAT), unmeasured(_GROWS), unmeasured(_SHARE)
    nearly_all = above(_SHARE, _layers_share(found), NEARLY_ALL)
    if _span(found) < SPANNED:
        return unmeasured(_FLAT), unmeasured(_GROWS), nearly_all
    first, last = found[0], found[-1]
    flat = last.group(Group.FFN).over(first.group(Group.FFN))
    grown = last.group(Group.ATTENTION).over(first.group(Group.ATTENTION))
    return (
        within(_FLAT, flat, 1 - CONSTANT, 1 + CONSTANT, "×"),
        above(_GROWS, grown, 1 + CONSTANT, "×"),
        nearly_all,
    )


def _layers_share(found: Sequence[Split]) -> Bounds:
    """Of all depths together; what was not attributed may belong to the two or not."""
    mine = sum(each.group(group).value for each in found for group in (Group.FFN, Group.ATTENTION))
    unattributed = sum(each.unattributed_s for each in found)
    whole = sum(each.layers for each in found)
    return Bounds(mine / whole, mine / whole, (mine + unattributed) / whole)


def _over_models(every: _Profiled) -> tuple[Check, ...]:
    shallow = [(family, split) for family, found in every for split in found if split.kv_end <= SHORT_CONTEXT]
    large = [_ratio(split) for family, split in shallow if family.parameters >= LARGE]
    small = [_ratio(split) for family, split in shallow if family.parameters <= SMALL]
    deep = [_ratio(split) for _, found in every for split in found if split.kv_end > VERY_LONG]
    return (
        above(_LARGE, min(large), 1.0, "×") if large else unmeasured(_LARGE),
        below(_SMALL, max(small), 1.0, "×") if small else unmeasured(_SMALL),
        below(_LONG, max(deep), 1.0, "×") if deep else unmeasured(_LONG),
    )


def _figure(found: Sequence[Split]) -> str | None:
    ratios = figure_of(found)
    if ratios is None:
        return None
    mine = sum(each.group(group).value for each in found for group in (Group.FFN, Group.ATTENTION))
    of_all = mine / sum(each.whole for each in found)
    return (
        f"{ratios}; FFN and attention: {_layers_share(found).value:.1%} of the layers, {of_all:.1%} of the whole step"
    )


def _missing(several: Sequence[Split], every: _Profiled) -> list[str]:
    cells = "prompt_tokens 512 to 32700, phases decode"
    missing = []
    if not several or _span(several) < SPANNED:
        missing.append(from_suite(f"{_PROFILES}, over depths", "paper", cells))
    sizes = [(family.parameters, found) for family, found in every]
    for name, model, mine in (
        ("30B parameters or more", "qwen2.5-32b", [found for size, found in sizes if size >= LARGE]),
        ("10B parameters or less", "qwen3-8b", [found for size, found in sizes if size <= SMALL]),
    ):
        if not any(split.kv_end <= SHORT_CONTEXT for found in mine for split in found):
            missing.append(from_suite(f"{_PROFILES}, a model of {name}", f"paper --model {model}", cells))
    if not any(split.kv_end > VERY_LONG for _, found in every for split in found):
        missing.append(from_suite(f"{_PROFILES}, above 16K", "paper", "prompt_tokens 32700, phases decode"))
    return missing
