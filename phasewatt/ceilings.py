"""What a machine can do at most: out of what it measured, the one figure of each kind of work. Pure.

A square product's rate is taken where it is highest; reading and copying where the matrix is largest, because a small
one stays in a cache; a launch where the row of launches is longest. Each is the median of its repetitions.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from phasewatt.conditions import Conditions
from phasewatt.fields import Record
from phasewatt.profiles import Ceiling

TF32 = "tf32"  # dtype of a product of float32 matrices in that arithmetic
MATMUL, READ, COPY, LAUNCH = "matmul", "read", "copy", "launch"


class Peak(Record, frozen=True):
    """One ceiling, or the reason for none; beside it the data sheet's figure."""

    value: float | None
    reason: str | None = None
    sheet: float | None = None
    sheet_reason: str | None = None  # why there is none, or where it comes from
    told: str = ""  # "bfloat16, 8192 x 8192 x 8192, median of 5"


class Peaks(Record, frozen=True):
    """What a trial is held against."""

    matmul: Peak  # FLOP/s
    read: Peak  # byte/s
    copy: Peak  # byte/s
    launch: Peak  # s
    origin: str  # which trial measured them, and how near it is; or why there are none


def no_peaks(reason: str) -> Peaks:
    """Nothing to be held against."""
    none = Peak(value=None, reason=reason, sheet_reason=reason)
    return Peaks(matmul=none, read=none, copy=none, launch=none, origin=reason)


def peaks_of(measured: Sequence[Ceiling], dtype: str, under: Conditions, origin: str) -> Peaks:
    """The ceilings of work in `dtype` as `under` has it: its processor, threads and arithmetic."""
    found = {work: _peak(work, measured, dtype, under) for work in (MATMUL, READ, COPY, LAUNCH)}
    return Peaks(**found, origin=origin)


def fitting(measured: Sequence[Ceiling], work: str, dtype: str, under: Conditions) -> tuple[list[Ceiling], str | None]:
    """Ceilings of one kind of work in `dtype` as `under` has it, with a value or without; or why there are none."""
    known = [each for each in measured if each.work == work and each.processor == under.accelerator]
    if not known:
        return [], f"the ceilings hold no {work} on {under.accelerator}"
    known, reason = _of_threads(known, under)
    if reason is not None:
        return [], reason
    arithmetic = TF32 if under.tf32 and dtype == "float32" and under.accelerator == "cuda" else dtype
    return _of_dtype(work, known, arithmetic, dtype)


def highest(work: str, known: Sequence[Ceiling]) -> Ceiling | None:
    """The one of several shapes that counts; None: none has a value."""
    return max((each for each in known if each.values), key=_RANKS.get(work, _size), default=None)


def _peak(work: str, measured: Sequence[Ceiling], dtype: str, under: Conditions) -> Peak:
    known, reason = fitting(measured, work, dtype, under)
    if reason is not None:
        return _none(reason)
    found = highest(work, known)
    if found is None:
        return _none(f"{work}: {known[0].reason or 'no value, and no reason was recorded'}")
    return _told(found)


def _of_threads(known: list[Ceiling], under: Conditions) -> tuple[list[Ceiling], str | None]:
    """Those of as many threads: a CPU's other figures say nothing of this one."""
    if under.accelerator != "cpu":
        return known, None
    alike = [each for each in known if each.threads in (None, under.threads)]
    if alike or under.threads is None:
        return alike or known, None
    others = ", ".join(str(threads) for threads in sorted({each.threads or 0 for each in known}))
    return [], f"the ceilings were measured with {others} threads, this ran with {under.threads}"


def _of_dtype(work: str, known: list[Ceiling], arithmetic: str, dtype: str) -> tuple[list[Ceiling], str | None]:
    """Those of this dtype; of what computes nothing, those of any dtype where this one was not measured."""
    wanted = arithmetic if work == MATMUL else dtype
    alike = [each for each in known if each.dtype == wanted]
    if work != MATMUL:
        return [each for each in alike if each.values] or known, None
    if not alike:
        had = ", ".join(sorted({each.dtype or "no dtype" for each in known}))
        return [], f"the ceilings hold no matmul in {wanted}, only in {had}"
    return alike, None


def _told(ceiling: Ceiling) -> Peak:
    shape = " x ".join(map(str, ceiling.shape))
    parts = (ceiling.dtype, shape, f"median of {len(ceiling.values)}")
    unknown = None if ceiling.sheet is not None else "no data sheet figure is known for this board"
    return Peak(
        value=statistics.median(ceiling.values),
        sheet=ceiling.sheet,
        sheet_reason=ceiling.sheet_source or unknown,
        told=", ".join(part for part in parts if part),
    )


def _none(reason: str) -> Peak:
    return Peak(value=None, reason=reason, sheet_reason=reason)


def _size(ceiling: Ceiling) -> float:
    product = 1.0
    for length in ceiling.shape:
        product *= length
    return product


_RANKS: Mapping[str, Callable[[Ceiling], float]] = {MATMUL: lambda ceiling: statistics.median(ceiling.values)}
