"""What energies rest on, as texts: sensor, updates, uncertainties, cross-check, doubts or the refusal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from collector import numbers
from collector.comparison import Metering
from phasewatt.fields import Reading

HEADERS = ("Group", "Phase and scope", "Source", "Seen", "Uncertainty", "Cross-check", "Doubts")
_READINGS: Mapping[Reading, str] = {
    Reading.INSTANT: "integrated",
    Reading.AVERAGE: "averaged",
    Reading.COUNTER: "counter",
}


def line(entry: Metering) -> tuple[str, ...]:
    """One entry as a line of texts under `HEADERS`; of several trials the worst."""
    return (
        entry.group,
        f"{entry.phase.value}, {entry.scope.value}",
        f"{', '.join(entry.sources)}: {', '.join(entry.rails)}",
        _seen(entry),
        _uncertainty(entry),
        _check(entry),
        "; ".join(_remarks(entry)) or "none",
    )


def _seen(entry: Metering) -> str:
    """How much the sensor saw of the window; a counter misses nothing between its updates."""
    window = f"{entry.fewest_updates} updates in {numbers.quantity(entry.shortest_window_s, 's')}"
    gap_s = entry.longest_gap_s
    return window if gap_s is None else f"{window}, longest gap {numbers.quantity(gap_s, 's')}"


def _uncertainty(entry: Metering) -> str:
    """Both kinds apart, and whether the sensor's timing is known."""
    temporal, gain = _share(entry.temporal_uncertainty), _share(entry.gain_uncertainty)
    return f"temporal {temporal}, gain {gain}, {'calibrated' if entry.calibrated else 'not calibrated'}"


def _share(share: float | None) -> str:
    return "not known" if share is None else f"±{100 * share:.2g} %"


def _check(entry: Metering) -> str:
    """How the other reading of the same scope compares, such as "counter / integrated = 0.997"."""
    if entry.check_reading is None:
        return "no other reading"
    if entry.check_ratio is None:
        return "; ".join(entry.check_reasons) or numbers.MISSING
    ratios = " to ".join(dict.fromkeys(f"{ratio:.3f}" for ratio in entry.check_ratio))
    return f"{_READINGS[entry.check_reading]} / {_READINGS[entry.reading]} = {ratios}"


def _remarks(entry: Metering) -> Iterator[str]:
    """Why there is no energy, what is doubted of it, and why the window is as long as it is."""
    yield from (f"no energy: {reason}" for reason in entry.reasons)
    yield from entry.doubts
    yield from (f"window: {reason}" for reason in entry.window_reasons)
