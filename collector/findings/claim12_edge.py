"""Claim 12: whether the split of the phases is the same in a data centre and at the edge, and what moves. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from collector.findings.bounds import Bounds, above
from collector.findings.checks import Check, Verdict, together, unmeasured
from collector.findings.claim01_phase_bounds import SHORTEST, intensity, split_checks
from collector.findings.device_time import Timed, bases, timed
from collector.findings.families import Family, trials_of
from collector.findings.finding import Each, Judged
from collector.findings.pictures import Bar, Bars
from collector.findings.wanted import CEILINGS, from_suite
from collector.numbers import significant
from phasewatt.fields import Phase
from phasewatt.operators import Operator, Pass, costs

NUMBER = 12
SENTENCE = (
    "The phase split holds across data-centre and edge hardware; ceilings move, so a kernel can be compute-bound on "
    "one and memory-bound on the other."
)
EACH = Each.FLEET
RULE = (
    "A data-centre GPU is known by its name, an edge board by its Jetson Linux release; a plain host is neither. On "
    f"every device of both kinds prefill of {SHORTEST:,} tokens or more is compute-bound and decode memory-bound by "
    "the balances of claim 1, and some operator of a pass that was run on both kinds lies above the balance of one "
    "and below that of the other, each with its whole interval."
)
# Source: NVIDIA's data-centre line since Volta
_DATA_CENTRE = re.compile(
    r"\b(V100|A10G?|A30|A40|A100|A800|L4|L40S?|H100|H200|H20|H800|GH200|B100|B200|B300|GB200|GB300)\b"
)
_SPLITS = "data centre and edge: prefill above the balance, decode below it"
_MOVES = "an operator above the balance of one and below that of the other"
_EDGE = from_suite(
    "a Jetson board, with device time and its ceilings", "paper", "on the board; and suite ceilings there"
)
_CENTRE = from_suite(
    "a data-centre GPU, with device time and its ceilings", "paper", "on the server; and suite ceilings there"
)


class _Device(NamedTuple):
    """One family with both phases, on a machine whose ceilings are known."""

    family: Family
    prefills: list[Timed]
    decodes: list[Timed]
    balance: Bounds

    @property
    def splits(self) -> Verdict:
        """Whether its phases lie on both sides of the balance."""
        assert self.family.machine is not None
        checks = split_checks(self.family, self.family.machine, self.prefills, self.decodes)
        return together(check.verdict for check in checks)


def kind(family: Family) -> str | None:
    """Which of the two a device is, "edge" or "data centre"; None: neither, as a plain host is."""
    how = family.trials[0].trial.conditions
    if "l4t" in how.versions or "jetpack" in how.versions:
        return "edge"
    return "data centre" if how.accelerator == "cuda" and _DATA_CENTRE.search(how.processor or "") else None


def judge(families: Sequence[Family]) -> Judged:
    """From all trials of the fleet."""
    centre, edge = (list(_devices(families, wanted)) for wanted in ("data centre", "edge"))
    missing = ([] if centre else [_CENTRE]) + ([] if edge else [_EDGE])
    if any(kind(family) and family.machine is None for family in families):
        missing.append(CEILINGS)
    times = [each for device in centre + edge for each in device.prefills + device.decodes]
    if not centre or not edge:
        return Judged(
            (unmeasured(_SPLITS), unmeasured(_MOVES)), missing=tuple(missing), picture=_picture(centre + edge)
        )
    return Judged(
        checks=(_splits(centre + edge), _moves(centre, edge)),
        figure=_figure(centre + edge),
        missing=(),
        basis=bases(times),
        trials=trials_of(times),
        picture=_picture(centre + edge),
    )


def _devices(families: Sequence[Family], wanted: str) -> Iterator[_Device]:
    for family in families:
        if kind(family) != wanted or family.machine is None:
            continue
        prefills = [each for each in timed(family, Phase.PREFILL) if each.cell.kv_end >= SHORTEST]
        decodes = timed(family, Phase.DECODE)
        if prefills and decodes:
            yield _Device(family, prefills, decodes, family.machine.balance)


def _splits(devices: Sequence[_Device]) -> Check:
    return Check(says=_SPLITS, verdict=together(device.splits for device in devices))


def _moves(centre: Sequence[_Device], edge: Sequence[_Device]) -> Check:
    """By how much an operator clears both balances on opposite sides, the clearest of all."""
    found = [_cleared(one, other) for one in centre for other in edge]
    best = max((each for each in found if each is not None), default=None)
    return unmeasured(_MOVES) if best is None else above(_MOVES, best, 1.0, "×")


def _cleared(one: _Device, other: _Device) -> Bounds | None:
    """The smaller of the two distances to the balances, as factors; below 1: it lies on one side of both."""
    of_one, of_other = _intensities(one), _intensities(other)
    found = []
    for key in of_one.keys() & of_other.keys():
        mine, its = of_one[key], of_other[key]
        for high, low in (((mine, one.balance), (its, other.balance)), ((its, other.balance), (mine, one.balance))):
            over = Bounds(high[0] / high[1].value, high[0] / high[1].high, high[0] / high[1].low)
            under = Bounds(low[1].value / low[0], low[1].low / low[0], low[1].high / low[0])
            found.append(Bounds(*(min(pair) for pair in zip(over, under, strict=True))))
    return max(found, default=None)


def _intensities(device: _Device) -> dict[tuple[str, int, Operator], float]:
    """Of each operator that multiplies, by pass: model, tokens in it, operator."""
    shape, found = device.family.shape, {}
    for each in timed(device.family, Phase.PREFILL):
        asked = Pass(batch=1, new=each.cell.kv_end, depth=0)
        for operator, cost in costs(shape, device.family.dtype, asked).items():
            if cost.flops:
                found[shape.name, each.cell.kv_end, operator] = cost.intensity
    return found


def _figure(devices: Sequence[_Device]) -> str:
    told = []
    for device in devices:
        low = min(intensity(device.family, Phase.PREFILL, each) for each in device.prefills)
        high = max(intensity(device.family, Phase.DECODE, each) for each in device.decodes)
        sides = f"prefill {significant(low)}, decode {significant(high)}"
        told.append(f"{device.family.device}: {sides}, balance {significant(device.balance.value)} FLOP/byte")
    return "; ".join(told)


def _picture(devices: Sequence[_Device]) -> Bars | None:
    named = {device.family.device: device.balance for device in devices}
    bars = tuple(Bar(name, *balance) for name, balance in named.items())
    return Bars("Balance of each machine", "FLOP/byte", bars) if bars else None
