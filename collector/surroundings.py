"""The state of hosts while trials ran, in words: clocks and their limits, heat, fans, supply, memory. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from phasewatt.conditions import ClockState, Conditions, HostState
from phasewatt.throttling import over_currents


def surroundings(conditions: Sequence[Conditions]) -> dict[str, str]:
    """What was told of the state before and after, over all trials; what no host told is left out."""
    states = [state for c in conditions for state in c.state if state is not None]
    told = {name: tell(states) for name, tell in _TOLD.items()} | {"over-current events": _over_current(conditions)}
    return _clocks(states) | {name: text for name, text in told.items() if text is not None}


def locked_clocks(conditions: Conditions) -> str | None:
    """The clocks that could not move when a trial began, and where they stood; None where none is known to be so."""
    state = conditions.state[0]
    held: dict[str, list[str]] = {}
    for clock in () if state is None else state.clocks:
        if clock.locked and clock.most_hz is not None:
            held.setdefault(f"{clock.most_hz * 1e-9:.2f} GHz", []).append(clock.name)
    return ", ".join(sorted(f"{' and '.join(sorted(names))} at {where}" for where, names in held.items())) or None


def span(values: Iterable[float | None], unit: str, form: str) -> str | None:
    """A range such as "1.98 to 2.10 GHz", or one figure where both ends read the same; None: nothing was read."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    ends = list(dict.fromkeys((format(min(known), form), format(max(known), form))))
    return f"{' to '.join(ends)} {unit}"


def _clocks(states: Iterable[HostState]) -> dict[str, str]:
    """What each clock was allowed to do, the CPUs' together."""
    told: dict[str, set[str]] = {}
    for clock in (clock for state in states for clock in state.clocks):
        kind = "cpu" if clock.name.startswith("cpu") else clock.name
        told.setdefault(f"{kind} clock limits", set()).add(_limits(clock))
    return {name: "; ".join(sorted(limits)) for name, limits in told.items()}


def _limits(clock: ClockState) -> str:
    if clock.least_hz is None or clock.most_hz is None:
        return "not told"
    ends = span([clock.least_hz * 1e-9, clock.most_hz * 1e-9], "GHz", ".2f")
    return ("locked at " if clock.locked else "") + f"{ends}" + (f", {clock.governor}" if clock.governor else "")


def _hottest(states: Iterable[HostState]) -> str | None:
    known = [(c, name) for state in states for name, c in state.temperatures_c.items() if c is not None]
    return f"{max(known)[1]}, {max(known)[0]:.0f} °C" if known else None


def _fans(states: Iterable[HostState]) -> str | None:
    return span([100 * share for state in states for share in state.fans.values()], "% of full speed", ".0f")


def _alerts(states: Iterable[HostState]) -> str | None:
    alerts = [alert for state in states for alert in state.throttle_alerts.items()]
    return (", ".join(sorted({name for name, level in alerts if level})) or "none") if alerts else None


def _over_current(conditions: Iterable[Conditions]) -> str | None:
    """Events between before and after, of all trials together."""
    pairs = [(before, after) for before, after in (c.state for c in conditions) if before and after]
    risen: dict[str, int] = {}
    for before, after in pairs:
        for name, events in over_currents(before, after).items():
            risen[name] = risen.get(name, 0) + events
    return (", ".join(f"{events} of {name}" for name, events in risen.items() if events) or "none") if risen else None


def _available(states: Iterable[HostState]) -> str | None:
    return span((_giga(state.memory_available_bytes) for state in states), "GB", ".1f")


def _swapped(states: Iterable[HostState]) -> str | None:
    return span((_giga(state.swap_used_bytes) for state in states), "GB", ".1f")


def _giga(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes * 1e-9


_TOLD: Mapping[str, Callable[[Sequence[HostState]], str | None]] = {
    "hottest zone": _hottest,
    "fan": _fans,
    "throttle alerts": _alerts,
    "memory available": _available,
    "swap used": _swapped,
}
