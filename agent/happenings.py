"""What happened to a host while a trial ran that a reader of it must know, from what was seen of its state. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agent.host import Observation
from agent.jetson.modes import PowerMode
from phasewatt.conditions import HostState
from phasewatt.throttling import over_currents

NEARLY_FULL_SHARE = 0.05
NEARLY_FULL_BYTES = (0.5e9, 2e9)  # whatever the share: less is nearly full, more is not
# Source: Jetson Linux Developer Guide, "Over-Current Event Counters" of Orin and Thor
_CAUSES: Mapping[str, str] = {
    "oc1": "under-voltage",
    "oc2": "average over-current",
    "oc3": "instantaneous over-current",
}


def happenings(seen: Sequence[Observation], memory_bytes: int) -> Iterator[str]:
    """Marks in plain words, of observations in order of time."""
    states = [observation.state for observation in seen if observation.state is not None]
    yield from _power_mode([observation.power_mode for observation in seen if observation.power_mode is not None])
    if states:
        yield from _over_current(states[0], states[-1])
        yield from _memory(states, memory_bytes)


def _power_mode(modes: Sequence[PowerMode]) -> Iterator[str]:
    names = [mode.name or f"mode {mode.id}" for mode in modes if mode.id is not None]
    changed = [name for name, before in zip(names[1:], names, strict=False) if name != before]
    if changed:
        yield f"the power mode changed meanwhile: {' -> '.join([names[0], *changed])}"


def _over_current(before: HostState, after: HostState) -> Iterator[str]:
    for name, events in over_currents(before, after).items():
        if events:
            times = "once" if events == 1 else f"{events} times"
            yield f"the supply held it back {times}: {_CAUSES.get(name, 'over-current')} ({name})"


def _memory(states: Sequence[HostState], memory_bytes: int) -> Iterator[str]:
    known = [state.memory_available_bytes for state in states if state.memory_available_bytes is not None]
    least_bytes, most_bytes = NEARLY_FULL_BYTES
    if known and min(known) < min(max(NEARLY_FULL_SHARE * memory_bytes, least_bytes), most_bytes):
        yield f"memory nearly full: {min(known) / 1e6:.0f} of {memory_bytes / 1e6:.0f} MB available"
