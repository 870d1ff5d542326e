"""What held a host back: a GPU by the bits of NVML's clock-event reasons, a board by the events of its supply."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from phasewatt.conditions import HostState

CLOCK_SOURCE = "nvml.sm_clock"  # the channels that tell the clock, and what sets it
CLOCK_SOURCES: Collection[str] = (CLOCK_SOURCE, "tegrastats.gpu_clock", "devfreq.gpu_clock")  # a Jetson's beside it
EVENTS_SOURCE = "nvml.clock_event_reasons"

# Bits that mean less speed than the work asked for; idling and clocks set by a user are none. Source: nvml.h
THROTTLES: Mapping[int, str] = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}


def reasons(bits: int) -> tuple[str, ...]:
    """The names of those bits that held the GPU back, lowest bit first."""
    return tuple(name for bit, name in THROTTLES.items() if bits & bit)


def over_currents(before: HostState, after: HostState) -> dict[str, int]:
    """Over-current events between two states of one host, by counter; one that began anew meanwhile tells of none."""
    known = before.over_current_events
    return {name: max(0, events - known.get(name, events)) for name, events in after.over_current_events.items()}
