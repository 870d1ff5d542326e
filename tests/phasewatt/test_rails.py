"""Totals by module: which rails are summed, which are only shown, and what is never summed."""

from __future__ import annotations

import pytest

from phasewatt.fields import Scope
from phasewatt.rails import TOTALS, Rail, rails, total_w, totals

NANO = {"POM_5V_IN": 2.8, "POM_5V_GPU": 0.1, "POM_5V_CPU": 1.2}
TX2 = {
    "VDD_SYS_GPU": 0.2,
    "VDD_SYS_SOC": 0.5,
    "VDD_4V0_WIFI": 0.0,
    "VDD_IN": 3.5,
    "VDD_SYS_CPU": 1.1,
    "VDD_SYS_DDR": 0.9,
}
AGX_XAVIER = {"GPU": 0.5, "CPU": 0.3, "SOC": 0.9, "CV": 0.0, "VDDRQ": 0.6, "SYS5V": 1.5}
ORIN_NX = {"VDD_IN": 5.3, "VDD_CPU_GPU_CV": 0.8, "VDD_SOC": 1.4}
AGX_ORIN = {"VDD_GPU_SOC": 2.8, "VDD_CPU_CV": 0.8, "VIN_SYS_5V0": 3.2, "VDDQ_VDD2_1V8AO": 0.6}
THOR = {"VDD_GPU": 3.5, "VDD_CPU_SOC_MSS": 7.9, "VIN_SYS_5V0": 7.6, "VIN": 26.7}


@pytest.mark.parametrize(
    ("powers_w", "by_scope_w"),
    [
        (NANO, {Scope.MODULE: 2.8}),
        (TX2, {Scope.MODULE: 3.5}),
        (AGX_XAVIER, {Scope.MODULE: 3.8}),
        (ORIN_NX, {Scope.MODULE: 5.3}),
        (AGX_ORIN, {Scope.MODULE: 6.8}),
        (THOR, {Scope.MODULE: 19.0, Scope.BOARD_INPUT: 26.7}),
    ],
    ids=["Nano", "TX2", "AGX Xavier", "Orin NX", "AGX Orin", "Thor"],
)
def test_the_total_is_by_the_modules_own_rule(powers_w, by_scope_w):
    """What is fed by another rail is not counted twice."""
    found = totals(powers_w)
    assert {scope: total_w(powers_w, total) for scope, total in found.items()} == pytest.approx(by_scope_w)


def test_a_rail_inside_another_is_of_its_scope_and_does_not_count():
    """Shown beside the total, in the module's scope."""
    assert rails(list(AGX_ORIN)) == (
        Rail("VDD_GPU_SOC", Scope.MODULE, True),
        Rail("VDD_CPU_CV", Scope.MODULE, True),
        Rail("VIN_SYS_5V0", Scope.MODULE, True),
        Rail("VDDQ_VDD2_1V8AO", Scope.MODULE, False),
    )


def test_an_unknown_rail_is_shown_and_never_summed():
    """It may be inside another rail, or of the carrier."""
    names = [*ORIN_NX, "VDD_MUX"]
    assert rails(names)[-1] == Rail("VDD_MUX", Scope.UNKNOWN, False)
    assert totals(names)[Scope.MODULE].rule == "VDD_IN"


@pytest.mark.parametrize("lacking", ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"])
def test_a_part_that_is_not_there_makes_no_total(lacking):
    """Two of three rails are not the module."""
    names = [name for name in AGX_ORIN if name != lacking]
    assert totals(names) == {}
    assert {rail.scope for rail in rails(names)} == {Scope.UNKNOWN}


def test_a_board_input_without_its_modules_rails_is_unknown():
    """`VIN` alone may be anything's input."""
    assert totals(["VIN"]) == {}


def test_a_total_with_a_missing_reading_is_missing():
    """None, not the sum of the rest; a rail that reads 0 or below it does count."""
    total = totals(AGX_ORIN)[Scope.MODULE]
    assert total_w(AGX_ORIN | {"VDD_CPU_CV": None}, total) is None
    assert total_w({"VDD_GPU_SOC": 2.0, "VDD_CPU_CV": -0.398, "VIN_SYS_5V0": 0.0}, total) == pytest.approx(1.602)


def test_no_rail_is_counted_and_inside_at_once():
    """A table that contradicts itself would count twice."""
    for total in TOTALS:
        assert not set(total.rails) & set(total.inside)
