"""Where the time of a phase went, operator by operator, and how far each is from what the machine can do. Pure.

Times are those of one repetition, of a profiled pass; FLOPs and bytes are analytic, see `profiled_work`. Shares are of
the time of all kernels, those included that no operator could be found for.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from phasewatt import bounds
from phasewatt.bounds import Bound, Verdict
from phasewatt.ceilings import Peak, Peaks
from phasewatt.fields import Phase, Record
from phasewatt.operators import Group, Operator, group_of, named
from phasewatt.profiled_work import Demand, Demands, demands
from phasewatt.profiles import OperatorProfile, OperatorTime
from phasewatt.records import Trial

UNATTRIBUTED = 0.03  # share of the kernels' time from which on a reader is told
_OFF = 0.05  # share by which kernels may outlast the unprofiled whole before a reader is told
_REPLAYED = frozenset({"graph", "compiled"})


class Point(Record, frozen=True):
    """An operator, or all of them, on the roofline; what is None has its cause in `reason`."""

    operator: str
    group: Group | None  # None: all of them, or one that is not known here
    device_s: float
    share: float
    launches: float
    flops: float | None
    moved_bytes: float | None
    intensity: float | None  # FLOP/byte
    flop_per_s: float | None
    byte_per_s: float | None
    mfu: float | None  # of the measured ceilings ...
    mbu: float | None
    sheet_mfu: float | None  # ... and of the data sheet's
    sheet_mbu: float | None
    bound: Bound | None
    reason: str  # what the bound rests on, or why there is none


class PhasePoints(Record, frozen=True):
    """One profiled phase of one trial."""

    phase: Phase
    tool: str
    processor: str
    repetitions: int
    kv_start: int
    kv_end: int
    attention: str  # which pairs of tokens are counted
    busy_s: float | None  # None: see reason
    gaps: float | None  # share of the time in which no kernel runs ...
    gaps_of: str  # ... and of which time
    unattributed: float | None  # share
    shares: dict[str, float]  # attention, ffn, rest, unattributed
    whole: Point | None
    operators: tuple[Point, ...]
    remarks: tuple[str, ...]
    reason: str | None  # why there is nothing


def points_of(trial: Trial, profile: OperatorProfile, peaks: Peaks) -> PhasePoints:
    """Everything that `profile` of `trial` says, against `peaks`."""
    if not profile.repetitions or not profile.busy_ns:
        return _nothing(profile)
    asked = demands(trial, profile)
    each_s = 1e-9 / profile.repetitions
    kernels_ns = profile.unattributed_ns + sum(each.device_ns for each in profile.operators) or profile.busy_ns
    made = _Maker(asked, peaks, profile, kernels_ns * each_s, _is_replayed(trial, profile))
    gaps, gaps_of = _gaps(trial, profile)
    unattributed = profile.unattributed_ns / kernels_ns
    return PhasePoints(
        phase=profile.phase,
        tool=" ".join(part for part in (profile.tool, profile.tool_version) if part),
        processor=profile.processor,
        repetitions=profile.repetitions,
        kv_start=profile.kv_start,
        kv_end=profile.kv_end,
        attention=asked.attention,
        busy_s=_busy_s(profile),
        gaps=gaps,
        gaps_of=gaps_of,
        unattributed=unattributed,
        shares=_shares(profile, kernels_ns),
        whole=made.whole(gaps),
        operators=tuple(made.operator(each) for each in _longest_first(profile.operators)),
        remarks=tuple(_remarks(trial, profile, unattributed)),
        reason=None,
    )


def _busy_s(profile: OperatorProfile) -> float:
    """Of one repetition."""
    return profile.busy_ns * 1e-9 / profile.repetitions


def _longest_first(timed: Sequence[OperatorTime]) -> list[OperatorTime]:
    """Those that took time; what took none has no rate."""
    return sorted((each for each in timed if each.device_ns), key=lambda each: -each.device_ns)


def _nothing(profile: OperatorProfile) -> PhasePoints:
    return PhasePoints(
        phase=profile.phase,
        tool=profile.tool,
        processor=profile.processor,
        repetitions=profile.repetitions,
        kv_start=profile.kv_start,
        kv_end=profile.kv_end,
        attention="",
        busy_s=None,
        gaps=None,
        gaps_of="",
        unattributed=None,
        shares={},
        whole=None,
        operators=(),
        remarks=(),
        reason=profile.reason or "the profile holds no kernel, and does not say why",
    )


class _Maker:
    """Makes the points of one phase."""

    def __init__(
        self, asked: Demands, peaks: Peaks, profile: OperatorProfile, kernels_s: float, replayed: bool
    ) -> None:
        self._asked, self._peaks, self._profile = asked, peaks, profile
        self._kernels_s, self._replayed = kernels_s, replayed

    def whole(self, gaps: float | None) -> Point:
        """All operators together, over the time in which any kernel ran."""
        busy_s = _busy_s(self._profile)
        launches = sum(each.launches for each in self._profile.operators) / self._profile.repetitions
        demand = self._kept(self._asked.whole)
        verdict = bounds.of_phase(demand, busy_s, gaps, self._peaks)
        return self._point("all", None, busy_s, launches, demand, verdict)

    def operator(self, timed: OperatorTime) -> Point:
        """One operator."""
        known = named(timed.operator)
        device_s = timed.device_ns * 1e-9 / self._profile.repetitions
        launches = timed.launches / self._profile.repetitions
        demand = self._kept(self._demand(known, timed.operator))
        verdict = bounds.of_operator(demand, device_s, launches, self._peaks, self._replayed)
        return self._point(timed.operator, known and group_of(known), device_s, launches, demand, verdict)

    def _demand(self, known: Operator | None, name: str) -> Demand:
        if self._asked.reason is not None:
            return Demand(None, None, self._asked.reason)
        none = Demand(None, None, f"this architecture has no formula for {name}")
        return none if known is None else self._asked.by_operator.get(known, none)

    def _kept(self, demand: Demand) -> Demand:
        """No FLOPs and bytes beside times that lack kernels: their rates would be too high."""
        if not self._profile.is_truncated:
            return demand
        return Demand(None, None, f"the profile lacks kernels: {self._profile.reason}")

    def _point(
        self, name: str, group: Group | None, device_s: float, launches: float, demand: Demand, verdict: Verdict
    ) -> Point:
        flop_per_s = None if demand.flops is None else demand.flops / device_s
        byte_per_s = None if demand.moved_bytes is None else demand.moved_bytes / device_s
        computes = flop_per_s or None  # what multiplies no matrices has no MFU
        return Point(
            operator=name,
            group=group,
            device_s=device_s,
            share=device_s / self._kernels_s,
            launches=launches,
            flops=demand.flops,
            moved_bytes=demand.moved_bytes,
            intensity=_intensity(demand),
            flop_per_s=flop_per_s,
            byte_per_s=byte_per_s,
            mfu=_share(computes, self._peaks.matmul.value),
            mbu=_share(byte_per_s, self._peaks.read.value),
            sheet_mfu=_share(computes, self._peaks.matmul.sheet),
            sheet_mbu=_share(byte_per_s, self._peaks.read.sheet),
            bound=verdict.bound,
            reason=verdict.reason,
        )


def _intensity(demand: Demand) -> float | None:
    return None if demand.flops is None or not demand.moved_bytes else demand.flops / demand.moved_bytes


def _share(rate: float | None, ceiling: float | None) -> float | None:
    return rate / ceiling if rate and ceiling else None


def _shares(profile: OperatorProfile, kernels_ns: int) -> dict[str, float]:
    """Of attention, FFN, the rest that is known, and what could not be attributed."""
    summed: dict[str, float] = {group.value: 0.0 for group in Group}
    for timed in profile.operators:
        known = named(timed.operator)
        summed[(Group.REST if known is None else group_of(known)).value] += timed.device_ns / kernels_ns
    return summed | {"unattributed": profile.unattributed_ns / kernels_ns}


def _gaps(trial: Trial, profile: OperatorProfile) -> tuple[float | None, str]:
    """Against the time without a profiler where the phase was timed: a profiler slows launches."""
    timed_s = _unprofiled_s(trial, profile)
    if timed_s is not None:
        return max(0.0, 1 - _busy_s(profile) / timed_s), "host time without the profiler"
    if profile.elapsed_ns <= 0:
        return None, "neither the phase nor its profile says how long it took"
    return max(0.0, 1 - profile.busy_ns / profile.elapsed_ns), "elapsed time under the profiler, which slows launches"


def _unprofiled_s(trial: Trial, profile: OperatorProfile) -> float | None:
    """Host time of as much as was profiled; of a decode, so many of its steps from the same depth."""
    run = trial.run_of(profile.phase)
    if run is None or run.kv_start != profile.kv_start:
        return None
    share = (profile.kv_end - profile.kv_start) / (run.kv_end - run.kv_start)
    if profile.phase is not Phase.DECODE and share != 1:
        return None
    durations_s = [span.duration_s for span in run.spans()]
    return share * statistics.median(durations_s) if durations_s else None


def _is_replayed(trial: Trial, profile: OperatorProfile) -> bool:
    under = trial.conditions
    return under.mode in _REPLAYED and profile.phase is Phase.DECODE and profile.processor == "cuda"


def _remarks(trial: Trial, profile: OperatorProfile, unattributed: float) -> Iterator[str]:
    if profile.reason is not None:
        yield profile.reason
    if unattributed > UNATTRIBUTED:
        longest = ", ".join(each.name for each in profile.unattributed[:3])
        yield f"{unattributed:.1%} of the kernels' time belongs to no operator" + (f": {longest}" if longest else "")
    timed_s = _unprofiled_s(trial, profile)
    busy_s = _busy_s(profile)
    if timed_s is not None and busy_s > (1 + _OFF) * timed_s:
        yield f"under the profiler kernels take {busy_s / timed_s - 1:.0%} longer than the phase without it"
    if trial.conditions.mode == "compiled":
        yield "a compiler fuses operators here: the bytes counted are those of unfused ones"
    if trial.work is not None and trial.work.quantization is not None:
        yield f"weights are {trial.work.quantization}; products are held against the ceiling of {trial.work.dtype}"
    if profile.processor == "cpu":
        yield "on a CPU operations by their own time stand for kernels"


def peak_lines(peaks: Peaks) -> Iterator[tuple[str, str, Peak]]:
    """Each ceiling with its name and unit."""
    yield "matrix product", "FLOP/s", peaks.matmul
    yield "read", "byte/s", peaks.read
    yield "copy", "byte/s", peaks.copy
    yield "launch", "s", peaks.launch
