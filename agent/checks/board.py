"""What may hold a board's work back: power mode, clocks, throttling, heat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.checks import Finding, Subject
from agent.host_state import celsius
from agent.jetson import modes
from agent.kernel_files import matching, number, text

_WATTS = re.compile(r"([0-9]+)W", re.IGNORECASE)
_HOLDING = frozenset({"passive", "hot", "critical"})  # kinds of trip point; "active" ones only turn fans on
_CLOSE_C = 5.0


def power_mode(subject: Subject) -> Iterator[Finding]:
    """The mode of a Jetson by name and id, and whether it is the one that lets the clocks go highest."""
    if subject.host.jetson is None:
        return
    mode, names = modes.power_mode(subject.root), modes.names(subject.root)
    if mode.id is None:
        remedy = "sudo nvpmodel -q tells it; without it runs in unlike modes are told apart by clocks alone"
        yield Finding("power mode", None, mode.reason or "not known", remedy)
        return
    verdict = f"{mode.name or 'without a name'} (id {mode.id})"
    best = _highest(names)
    if best is None or mode.id == best:
        yield Finding("power mode", True, verdict)
        return
    remedy = f"keep it if it is what you measure; else sudo nvpmodel -m {best}"
    yield Finding("power mode", None, f"{verdict}, not the module's highest, {names[best]} (id {best})", remedy)


def clocks(subject: Subject) -> Iterator[Finding]:
    """Whether the clocks of a Jetson are locked, as `jetson_clocks` does."""
    if subject.host.jetson is None:
        return
    known = [clock for clock in subject.host.state_files.read().clocks if clock.locked is not None]
    locked = [clock.name for clock in known if clock.locked]
    free = [clock.name for clock in known if not clock.locked]
    if not known:
        yield Finding("clocks", None, "the kernel tells no limits of them", "see /sys/class/devfreq")
    elif free:
        also = f"; locked: {', '.join(locked)}" if locked else ""
        verdict = f"free to move: {', '.join(free)}{also}; they are recorded with each trial"
        yield Finding("clocks", True, verdict, "sudo jetson_clocks locks them, for runs that are alike")
    else:
        yield Finding("clocks", True, f"locked: {', '.join(locked)}")


def throttling(subject: Subject) -> Iterator[Finding]:
    """What holds the host back now, and what did since boot."""
    state, gpus = subject.host.state_files.read(), subject.host.gpus.throttled()
    alerts = [name for name, level in state.throttle_alerts.items() if level]
    events = {name: count for name, count in state.over_current_events.items() if count}
    now = [*alerts, *sorted(gpus or ())]
    if now:
        yield Finding(
            "throttling", None, f"held back now: {', '.join(now)}", "cool it, or raise the limit; then measure"
        )
    elif state.throttle_alerts or gpus is not None:
        yield Finding("throttling", True, "nothing holds it back now")
    if events:
        counts = ", ".join(f"{name} {count} times" for name, count in events.items())
        remedy = "a stronger supply, or a lower power mode; each trial says whether it happened meanwhile"
        yield Finding("over-current", None, f"since boot: {counts}", remedy)
    elif state.over_current_events:
        yield Finding("over-current", True, "none since boot")


def heat(subject: Subject) -> Iterator[Finding]:
    """How far the nearest thermal zone is from where the kernel holds it back."""
    left_c = headrooms_c(subject.root)
    if not left_c:
        return
    nearest = min(left_c, key=lambda zone: left_c[zone])
    verdict = f"{left_c[nearest]:.0f} degC below the first limit ({nearest})"
    if left_c[nearest] > _CLOSE_C:
        yield Finding("heat", True, verdict)
    else:
        yield Finding("heat", None, verdict, "let it cool before measuring, or turn the fan up")


def headrooms_c(root: Path) -> Mapping[str, float]:
    """By type of thermal zone, the degrees that it is below its lowest limit; only zones that tell both."""
    left_c = {}
    for zone in matching(root / "sys/class/thermal", "thermal_zone[0-9]*"):
        now_c, limit_c = celsius(zone / "temp"), _limit_c(zone)
        if now_c is not None and limit_c is not None:
            left_c[text(zone / "type") or zone.name] = limit_c - now_c
    return left_c


def _limit_c(zone: Path) -> float | None:
    """The lowest trip point that is set and slows or stops something."""
    limits = []
    for file in matching(zone, "trip_point_[0-9]*_type"):
        limit = number(file.with_name(file.name.replace("_type", "_temp")))
        if text(file) in _HOLDING and limit is not None and limit > 0:
            limits.append(limit / 1000)
    return min(limits, default=None)


def _highest(names: Mapping[int, str]) -> int | None:
    """Id of the mode without caps, else of the most watts; None where the names do not tell."""
    without = [number for number, name in names.items() if "MAXN" in name.upper()]
    if without:
        return next((number for number in without if "SUPER" in names[number].upper()), without[0])
    watts = {number: int(said[1]) for number, name in names.items() if (said := _WATTS.search(name))}
    return max(watts, key=lambda number: watts[number]) if watts else None
