"""Which rails of a Jetson make its total, which are inside another one, and what each total covers. Pure.

A rail that no rule knows is shown and never summed: it may be inside another, or not of the module at all.
Source: NVIDIA's Jetson Linux Developer Guides (power monitor channels of each module) and thermal design guides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from phasewatt.fields import Scope


class Total(NamedTuple):
    """The rails that together are a module's power, or a board's input."""

    modules: str  # which modules have them
    scope: Scope
    rails: tuple[str, ...]
    inside: tuple[str, ...] = ()  # known rails that one of `rails` feeds

    @property
    def rule(self) -> str:
        """The sum in words, such as "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"."""
        return " + ".join(self.rails)


# The first of a scope whose rails are all there holds; a board input counts only beside its own module's rails.
TOTALS: tuple[Total, ...] = (
    Total(
        "AGX Orin",
        Scope.MODULE,
        ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        inside=("VDDQ_VDD2_1V8AO",),  # fed from VIN_SYS_5V0
    ),
    Total("Thor", Scope.MODULE, ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")),
    Total("AGX Xavier", Scope.MODULE, ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")),
    Total("Nano", Scope.MODULE, ("POM_5V_IN",), inside=("POM_5V_GPU", "POM_5V_CPU")),
    Total(
        "TX1, TX2, Xavier NX, Orin NX, Orin Nano",
        Scope.MODULE,
        ("VDD_IN",),
        inside=(
            *("VDD_CPU_GPU_CV", "VDD_SOC", "VDD_CPU", "VDD_GPU", "VDD_DDR", "VDD_WIFI"),
            *("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_SYS_CPU", "VDD_SYS_DDR", "VDD_4V0_WIFI"),
        ),
    ),
    Total("Thor", Scope.BOARD_INPUT, ("VIN",)),
)


class Rail(NamedTuple):
    """What one rail is: `counts` if it is a part of its scope's total."""

    name: str
    scope: Scope
    counts: bool


def totals(names: Collection[str]) -> dict[Scope, Total]:
    """The total of each scope that rails of these names make; empty where none is known, or a part is missing."""
    found: dict[Scope, Total] = {}
    for total in TOTALS:
        whole = total.scope not in found and all(rail in names for rail in total.rails)
        if whole and (total.scope is Scope.MODULE or Scope.MODULE in found):
            found[total.scope] = total
    return found


def rails(names: Collection[str]) -> tuple[Rail, ...]:
    """What each of these rails is, in their order; one that no total knows is of scope `unknown` and does not count."""
    found = totals(names)
    return tuple(_rail(name, found) for name in names)


def total_w(powers_w: Mapping[str, float | None], total: Total) -> float | None:
    """Power of a total in watts; None while one of its rails is missing."""
    parts_w = [powers_w.get(rail) for rail in total.rails]
    known_w = [part_w for part_w in parts_w if part_w is not None]
    return sum(known_w) if len(known_w) == len(parts_w) else None


def _rail(name: str, found: Mapping[Scope, Total]) -> Rail:
    for scope, total in found.items():
        if name in total.rails:
            return Rail(name, scope, counts=True)
        if name in total.inside:
            return Rail(name, scope, counts=False)
    return Rail(name, Scope.UNKNOWN, counts=False)
