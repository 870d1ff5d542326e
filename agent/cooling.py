"""The temperature gate: a cell waits until the processor has cooled, for a stated time at most."""

from __future__ import annotations

import time
from collections.abc import Callable

from phasewatt.conditions import Cooling

_LOOK_S = 1.0


def cool(
    limit_c: float,
    patience_s: float,
    read_c: Callable[[], float | None],
    pause: Callable[[float], None],
    progress: Callable[[str], None],
    clock_s: Callable[[], float] = time.monotonic,
) -> Cooling:
    """Wait until `read_c` gives `limit_c` or less, or patience is over. A host without a sensor does not wait.

    Raises:
        Stopped: by `pause`, asked to end.
    """
    began_s = clock_s()
    while (now_c := read_c()) is not None and now_c > limit_c and (waited_s := clock_s() - began_s) < patience_s:
        progress(f"cooling: {now_c:.0f} °C, waiting for {limit_c:.0f} °C")
        pause(min(_LOOK_S, patience_s - waited_s))
    return Cooling(limit_c=limit_c, temperature_c=now_c, waited_s=round(max(0.0, clock_s() - began_s), 3))


def mark(cooling: Cooling) -> str | None:
    """What a reader must know of a gate that did not open."""
    if cooling.temperature_c is None or cooling.temperature_c <= cooling.limit_c:
        return None
    return (
        f"began at {cooling.temperature_c:.0f} °C, above {cooling.limit_c:.0f} °C, "
        f"after {cooling.waited_s:.0f} s of waiting for it to cool"
    )
