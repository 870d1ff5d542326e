"""Which scope has the processor in it that does the work."""

from __future__ import annotations

import pytest

from phasewatt.fields import Scope
from phasewatt.scopes import own_scope

AROUND = [Scope.WALL, Scope.BOARD_INPUT, Scope.MODULE]


@pytest.mark.parametrize(
    ("accelerator", "metered", "own"),
    [
        ("cuda", [*AROUND, Scope.CPU_PACKAGE, Scope.GPU_BOARD], Scope.GPU_BOARD),
        ("cpu", [*AROUND, Scope.GPU_BOARD, Scope.CPU_PACKAGE], Scope.CPU_PACKAGE),
        ("cuda", [*AROUND, Scope.CPU_PACKAGE, Scope.COMPUTE], Scope.MODULE),
        ("cpu", [Scope.WALL, Scope.BOARD_INPUT, Scope.GPU_BOARD], Scope.BOARD_INPUT),
        ("cuda", [Scope.WALL, Scope.CPU_PACKAGE, Scope.DRAM], Scope.WALL),
        ("fake", [Scope.MODULE, Scope.CPU_PACKAGE], Scope.CPU_PACKAGE),
        ("cuda", [Scope.CPU_PACKAGE, Scope.DRAM, Scope.UNKNOWN], None),
        ("cpu", [Scope.GPU_BOARD], None),
        ("cuda", [], None),
    ],
)
def test_the_narrowest_scope_around_the_processor(accelerator: str, metered: list[Scope], own: Scope | None) -> None:
    """The processor's own, else module, board input, wall; never one beside it, and never one that is not known."""
    assert own_scope(accelerator, metered) is own
