"""Which of a host's power scopes has the processor in it that does the work."""

from __future__ import annotations

from collections.abc import Collection

from phasewatt.fields import Scope

_AROUND = (Scope.MODULE, Scope.BOARD_INPUT, Scope.WALL)


def own_scope(accelerator: str, metered: Collection[Scope]) -> Scope | None:
    """The narrowest scope in `metered` around the processor; None if there is none."""
    own = Scope.GPU_BOARD if accelerator == "cuda" else Scope.CPU_PACKAGE
    return next((scope for scope in (own, *_AROUND) if scope in metered), None)
