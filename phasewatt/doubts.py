"""What a reader of an energy figure must know beside it: codes with words, phase by phase. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from phasewatt.estimate import stood_s
from phasewatt.records import PhaseRun, Span
from phasewatt.throttling import CLOCK_SOURCES, EVENTS_SOURCE, reasons
from phasewatt.traces import Trace
from phasewatt.updates import Sample, samples_of
from phasewatt.window_energy import WIDE_SHARE

ALONE_CORES = 0.5  # kept busy by others: more is company, before a trial and during a phase
MOVED_SHARE = 0.05  # of the clock's mean


def of_window(traces: Sequence[Trace], run: PhaseRun) -> tuple[str, ...]:
    """What happened in the window of `run` that its energy does not show."""
    return (*_company(run), *_held_back(traces, run), *_clocks(traces, run))


def of_width(energy_j: float, half_width_j: float) -> tuple[str, ...]:
    """Whether the figure is less sure than it should be."""
    if half_width_j > 0 and energy_j <= 0:
        return (f"wide: {energy_j:.3g} +-{half_width_j:.3g} J by when the sensor looked",)
    share = half_width_j / energy_j if energy_j else 0.0
    return (f"wide: +-{share:.1%} by when the sensor looked",) if share > WIDE_SHARE else ()


def _company(run: PhaseRun) -> Iterator[str]:
    if (run.other_cpu_cores or 0.0) > ALONE_CORES:
        yield f"not_alone: others kept {run.other_cpu_cores:.1f} cores busy"
    if run.other_gpu_processes:
        yield f"not_alone: {run.other_gpu_processes} other processes on the GPUs"


def _held_back(traces: Sequence[Trace], run: PhaseRun) -> Iterator[str]:
    for window, samples in _of_sources(traces, run, (EVENTS_SOURCE,)):
        stood = stood_s([(sample.time_ns - window.start_ns) * 1e-9 for sample in samples], window.duration_s)
        seen = [(reasons(round(sample.value)), time_s) for sample, time_s in zip(samples, stood, strict=True)]
        names = {name for held, _ in seen for name in held}
        if names:
            share = sum(time_s for held, time_s in seen if held) / window.duration_s
            yield f"throttled: {', '.join(sorted(names))} in {share:.0%} of the window"


def _clocks(traces: Sequence[Trace], run: PhaseRun) -> Iterator[str]:
    for _, samples in _of_sources(traces, run, CLOCK_SOURCES):
        clocks_hz = [sample.value for sample in samples]
        mean_hz = sum(clocks_hz) / len(clocks_hz)
        lowest_hz, highest_hz = min(clocks_hz), max(clocks_hz)
        if highest_hz - lowest_hz > MOVED_SHARE * mean_hz:
            yield f"clocks_moved: {lowest_hz / 1e6:.0f} to {highest_hz / 1e6:.0f} MHz"


def _of_sources(
    traces: Sequence[Trace], run: PhaseRun, sources: Collection[str]
) -> Iterator[tuple[Span, list[Sample]]]:
    """The window, and the samples within it of each channel of those sources, where there are any."""
    window = run.window
    if window is None or not traces:
        return
    for index, channel in enumerate(traces[0].channels):
        if channel.source in sources and channel.parts_of_total:
            samples = samples_of(traces, index)
            if inside := [s for s in samples if window.start_ns <= s.time_ns <= window.end_ns]:
                yield window, inside
