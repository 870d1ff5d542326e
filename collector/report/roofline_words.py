"""Operators and ceilings as texts, which terminal, Markdown and HTML all show."""

from __future__ import annotations

from collections.abc import Iterator

from collector import numbers
from collector.conditions import printable
from collector.report.sheets import Part, Sheet
from collector.rooflines import Rooflines, TrialRoofline
from phasewatt.ceilings import Peak, Peaks
from phasewatt.roofline_points import PhasePoints, Point, peak_lines

_HEADERS = ("Operator", "Time", "Share", "FLOP", "Bytes", "FLOP/B", "FLOP/s", "B/s", "MFU", "MBU", "Bound")
SHARES = {"attention": "attention", "ffn": "FFN", "rest": "rest", "unattributed": "no operator found"}
_UNITS = {"byte/s": "B/s"}


def part(roofline: TrialRoofline) -> Part:
    """A trial, a table for each phase."""
    return Part(printable(roofline.title), _ceilings(roofline.peaks), tuple(map(_sheet, roofline.phases)))


def _ceilings(peaks: Peaks) -> str:
    """What the trial is held against, and where that comes from."""
    known = [f"{name} {_peak(peak, unit)}" for name, unit, peak in peak_lines(peaks) if peak.value is not None]
    missing = dict.fromkeys(peak.reason for _, _, peak in peak_lines(peaks) if peak.reason)
    if not known:
        return f"No ceilings: {printable('; '.join(str(reason) for reason in missing))}."
    lacking = f" Missing: {printable('; '.join(str(reason) for reason in missing))}." if missing else ""
    return f"Ceilings, {peaks.origin}: {printable('; '.join(known))}.{lacking}"


def _shares(points: PhasePoints) -> str:
    """Groups in one line; what is nothing is left out."""
    return ", ".join(f"{name} {points.shares[key]:.1%}" for key, name in SHARES.items() if points.shares.get(key))


def absent(found: Rooflines) -> list[str]:
    """Trials without a profile, counted, with the reason."""
    return [printable(f"{each.device}: {_trials(len(each.record_ids))}: {each.reason}") for each in found.without]


def operator_name(name: str) -> str:
    """An operator as a person writes it."""
    return printable(_NAMES.get(name, name))


_NAMES = {
    "all": "All",
    "embedding": "Embedding",
    "norm": "Norm",
    "qkv_proj": "QKV-Proj",
    "rotary": "Rotary",
    "attn_core": "AttnCore",
    "o_proj": "O-Proj",
    "ffn_up": "FFN-Up",
    "act": "Act",
    "ffn_down": "FFN-Down",
    "router": "Router",
    "dispatch": "Dispatch",
    "experts": "Experts",
    "lm_head": "LM-Head",
    "sampling": "Sampling",
    "other": "Other",
}


def _sheet(points: PhasePoints) -> Sheet:
    title = f"{points.phase.value}, {points.kv_start} to {points.kv_end} tokens in the cache"
    if points.reason is not None:
        return Sheet(title, _HEADERS, notes=(f"nothing to show: {printable(points.reason)}",))
    every = [points.whole, *points.operators] if points.whole else list(points.operators)
    return Sheet(title, _HEADERS, tuple(map(_row, every)), _summary(points), tuple(_notes(points)))


def _summary(points: PhasePoints) -> str:
    parts = [f"kernels {numbers.quantity(points.busy_s, 's')}", _shares(points)]
    if points.gaps is not None:
        parts.insert(1, f"gaps {points.gaps:.1%} of the {points.gaps_of}")
    return "; ".join(part for part in parts if part)


def _row(point: Point) -> tuple[str, ...]:
    return (
        operator_name(point.operator),
        numbers.quantity(point.device_s, "s"),
        numbers.quantity(point.share, "1"),
        numbers.quantity(point.flops, "FLOP"),
        numbers.quantity(point.moved_bytes, "B"),
        numbers.significant(point.intensity) if point.intensity else numbers.MISSING,
        numbers.quantity(point.flop_per_s or None, "FLOP/s"),
        numbers.quantity(point.byte_per_s, "B/s"),
        _beside(point.mfu, point.sheet_mfu),
        _beside(point.mbu, point.sheet_mbu),
        point.bound.value if point.bound else numbers.MISSING,
    )


def _beside(measured: float | None, sheet: float | None) -> str:
    """Of the measured ceiling, and in brackets of the sheet's."""
    told = numbers.quantity(measured, "1")
    return told if sheet is None else f"{told} ({numbers.quantity(sheet, '1')})"


def _notes(points: PhasePoints) -> Iterator[str]:
    """What the bound of the phase rests on, which attention was counted, and why figures are missing."""
    if points.whole is not None:
        bound = points.whole.bound.value if points.whole.bound else "no bound"
        yield printable(f"{points.phase.value}: {bound}: {points.whole.reason}")
    if points.attention:
        yield printable(f"attention counted: {points.attention}")
    reasons: dict[str, list[str]] = {}
    for point in points.operators:
        if point.bound is None:
            reasons.setdefault(point.reason, []).append(operator_name(point.operator))
    for reason, names in reasons.items():
        whose = "every operator" if len(names) == len(points.operators) > 1 else ", ".join(names)
        yield printable(f"no bound for {whose}: {reason}")
    yield from map(printable, points.remarks)


def _peak(peak: Peak, unit: str) -> str:
    shown = _UNITS.get(unit, unit)
    sheet = "" if peak.sheet is None else f", data sheet {numbers.quantity(peak.sheet, shown)}"
    return f"{numbers.quantity(peak.value, shown)} ({peak.told}{sheet})"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"
