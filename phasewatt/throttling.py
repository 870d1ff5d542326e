"""What held a GPU's clocks back, from the bits that NVML gives as clock-event reasons."""

from __future__ import annotations

from collections.abc import Mapping

CLOCK_SOURCE = "nvml.sm_clock"  # the channels that tell the clock, and what sets it
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
