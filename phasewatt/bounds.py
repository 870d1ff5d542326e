"""What holds an operator or a phase back, by stated rules. Pure.

The roofline says which ceiling is nearer: that of matrix products, or that of reading memory. What reaches less than
`NEAR` of either is held back by neither. An operator whose kernels take less than `LAUNCHES` launches each is then held
back by launching, unless its launches are replayed from a graph. A phase is launch-bound where for more than `GAPS`
of its time no kernel runs, whatever its kernels reach while they run.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from phasewatt.ceilings import Peaks
from phasewatt.profiled_work import Demand

NEAR = 0.4  # share of a ceiling, from which on it is what bounds
LAUNCHES = 2.0  # launches that a kernel's mean time must be worth
GAPS = 0.5  # share of a phase's time
_ABOVE = 1.05  # share of a ceiling beyond which something must explain it


class Bound(enum.Enum):
    """What would have to be faster for the work to be faster."""

    COMPUTE = "compute-bound"
    MEMORY = "memory-bound"
    LAUNCH = "launch-bound"
    NEITHER = "neither"  # far below both ceilings, and not for its launches


class Verdict(NamedTuple):
    """A bound with the figures that it rests on; None: the reason alone."""

    bound: Bound | None
    reason: str


def of_operator(demand: Demand, device_s: float, launches: float, peaks: Peaks, replayed: bool) -> Verdict:
    """What bounds kernels that took `device_s` in `launches` launches; `replayed`: from a graph."""
    roof = _by_roof(demand, device_s, peaks)
    if roof.bound is not Bound.NEITHER:
        return roof
    kernel_s = device_s / launches
    if replayed:
        return Verdict(Bound.NEITHER, f"{roof.reason}; its launches are replayed from a graph")
    if peaks.launch.value is None:
        return Verdict(None, f"{roof.reason}, and whether launches hold it back is not known: {peaks.launch.reason}")
    told = f"a kernel takes {kernel_s * 1e6:.3g} µs, a launch {peaks.launch.value * 1e6:.3g} µs"
    bound = Bound.LAUNCH if kernel_s < LAUNCHES * peaks.launch.value else Bound.NEITHER
    return Verdict(bound, f"{told}; {roof.reason}")


def of_phase(demand: Demand, busy_s: float, gaps: float | None, peaks: Peaks) -> Verdict:
    """What bounds a phase whose kernels run for `busy_s`, and none runs for the share `gaps` of its time."""
    if gaps is not None and gaps > GAPS:
        return Verdict(Bound.LAUNCH, f"no kernel runs for {gaps:.0%} of its time, more than {GAPS:.0%}")
    return _by_roof(demand, busy_s, peaks)


def _by_roof(demand: Demand, device_s: float, peaks: Peaks) -> Verdict:
    if demand.flops is None or demand.moved_bytes is None:
        return Verdict(None, demand.reason or "its FLOPs and bytes are not known")
    missing = [peak.reason for peak in (peaks.read, *([peaks.matmul] if demand.flops else [])) if not peak.value]
    if missing:
        return Verdict(None, missing[0] or "no ceiling")
    compute = demand.flops / device_s / peaks.matmul.value if demand.flops and peaks.matmul.value else 0.0
    memory = demand.moved_bytes / device_s / peaks.read.value if peaks.read.value else 0.0
    share, bound = max((compute, Bound.COMPUTE), (memory, Bound.MEMORY), key=lambda each: each[0])
    ceiling = "matrix-product" if bound is Bound.COMPUTE else "read"
    told = f"{share:.0%} of the {ceiling} ceiling, the nearer one"
    if share < NEAR:
        return Verdict(Bound.NEITHER, f"{told}, less than {NEAR:.0%}")
    if share > _ABOVE:
        told += "; above it: a cache holds part of the bytes, kernels are fused, or the ceiling is of a busier moment"
    return Verdict(bound, told)
