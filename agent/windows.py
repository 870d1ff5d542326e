"""The window of one phase: warmed up, alone or said so, and long enough for its energy to be sure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from agent import steady
from agent.bench import Bench
from agent.cells import Cell, Measure
from agent.company import Company, Moment
from agent.orders import Repeat, Repeated
from agent.sampler import Sampler
from agent.sampling import ATTENTION_S, FLUSH_S
from agent.stopping import Stop
from phasewatt import energy
from phasewatt.fields import Phase, Reading
from phasewatt.records import PhaseEnergy, PhaseRun
from phasewatt.scopes import own_scope
from phasewatt.traces import Channel

MARGIN_S = 300.0  # beyond a phase's own limit: one repetition may be long
BRACKET_S = 0.5  # of sampling before the first window and after each one
_LONGER_HELPS = ("too_few_updates", "averaged_source", "gap")
_LEAST_GROWTH, _MOST_GROWTH = 1.3, 4.0
_MOST_WINDOWS = 4
_CUT_SHORT = 0.9  # of the time asked for: a window below it was ended by its limit or by its number of repetitions
_MOST_LATE_S = 10.0  # a sensor that shows its updates later still is not waited for


class Shape(NamedTuple):
    """Tokens and cache depths of one repetition of a phase."""

    depth: int
    steps: int
    tokens: int
    kv_start: int
    kv_end: int


def shape_of(phase: Phase, cell: Cell, measure: Measure) -> Shape:
    """Tokens and depths of a repetition. Decode stands in the middle of the request's own range of depths."""
    prompt, output = cell.prompt_tokens, cell.output_tokens
    if phase is Phase.PREFILL:
        return Shape(0, 0, cell.batch * prompt, 0, prompt)
    if phase is Phase.REQUEST:
        return Shape(0, output, cell.batch * (prompt + output), 0, prompt + output - 1)
    steps = min(measure.decode_steps, output - 1)
    depth = prompt + (output - 1 - steps) // 2
    return Shape(depth, steps, cell.batch * steps, depth, depth + steps)


class Windows:
    """Measures the phases of one trial on one bench, beside `sampler` where there is power to meter."""

    def __init__(
        self,
        bench: Bench,
        measure: Measure,
        accelerator: str,
        sampler: Sampler | None,
        company: Company,
        stop: Stop,
        progress: Callable[[str], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._bench = bench
        self._measure = measure
        self._accelerator = accelerator
        self._sampler = sampler
        self._company = company
        self._stop = stop
        self._progress = progress
        self._clock_ns = clock_ns
        self._shown_s = _shown_s(sampler.channels) if sampler is not None else 0.0

    def idle(self) -> PhaseRun:
        """The baseline: model loaded, nothing asked."""
        self._progress("idle baseline")
        self._stop.pause(BRACKET_S)
        before, start_ns, idle_s = self._company.now(), self._clock_ns(), self._measure.idle_s
        run = self._idling(start_ns, idle_s, before)
        while (longer_s := self._longer_s(run, idle_s)) is not None:
            run = self._idling(start_ns, longer_s, before, f"lengthened from {idle_s:.1f} s for its energy")
        return run

    def phase(self, phase: Phase, shape: Shape) -> PhaseRun:
        """`phase` warmed up and measured; a window whose energy is not sure enough is done again, longer."""
        measure = self._measure
        rule = steady.Rule(repetitions=measure.repetitions)
        self._progress(f"{phase.value}: warming up")
        earlier = self._warm_up(phase, shape, rule)
        self._progress(f"{phase.value}: measuring")
        window_s = measure.unmetered_window_s if self._sampler is None else measure.window_s
        first_s, windows = window_s, 1
        run = self._window(phase, shape, window_s, earlier, None)
        while windows < _MOST_WINDOWS and (longer_s := self._longer_s(run, window_s)) is not None:
            self._progress(f"{phase.value}: measuring {longer_s:.0f} s for its energy")
            why = f"lengthened from {first_s:.1f} s for its energy"
            run = self._window(phase, shape, longer_s, earlier, why)
            window_s, windows = longer_s, windows + 1
        return run

    def _window(
        self, phase: Phase, shape: Shape, window_s: float, earlier: list[Repeated], why: str | None
    ) -> PhaseRun:
        """A window after `earlier` rounds, to which it is added for the next one."""
        before, gpu_processes = self._company.now(), self._company.gpu_processes()
        if self._sampler is not None:
            self._sampler.attend()
        window = self._repeat(phase, shape, self._measure.repetitions, window_s, self._measure.limit_s)
        cores = self._company.cores_since(before)
        self._look_at_the_end()
        seen = [n for n in (gpu_processes, self._company.gpu_processes()) if n is not None]
        verdict = steady.judge(window.durations_ns, steady.Rule(max(self._measure.repetitions, len(window.starts_ns))))
        rounds = [*earlier, window]
        is_request = phase is Phase.REQUEST
        run = PhaseRun(
            phase=phase,
            starts_ns=tuple(start for r in rounds for start in r.starts_ns),
            durations_ns=tuple(duration for r in rounds for duration in r.durations_ns),
            warmup=sum(len(r.starts_ns) for r in earlier),
            tokens=shape.tokens // window.in_flight,
            kv_start=shape.kv_start + window.kv_ahead,
            kv_end=shape.kv_end + window.kv_ahead,
            steady=verdict.steady,
            steady_reason=verdict.reason,
            first_token_ns=tuple(first for r in rounds for first in r.first_token_ns) if is_request else None,
            gaps_ns=window.gaps_ns if is_request else None,
            window_reason=why,
            other_cpu_cores=cores,
            other_gpu_processes=max(seen, default=None),
            in_flight=window.in_flight,
            gaps_of_chunks=window.several_to_a_chunk,
            kv_advance=window.kv_advance,
        )
        earlier.append(window)
        return run

    def _look_at_the_end(self) -> None:
        """Read closely after a window, until its last sensor update has shown."""
        if self._sampler is not None:
            self._sampler.attend()
            self._stop.pause(self._shown_s)

    def _idling(self, start_ns: int, until_s: float, before: Moment, why: str | None = None) -> PhaseRun:
        """One stretch from `start_ns`, at least `until_s` long; what was idled of it before counts."""
        if self._sampler is not None:
            self._sampler.attend()
        self._stop.pause(max(0.0, until_s - (self._clock_ns() - start_ns) * 1e-9))
        end_ns, cores = self._clock_ns(), self._company.cores_since(before)
        self._look_at_the_end()
        return PhaseRun(
            phase=Phase.IDLE,
            starts_ns=(start_ns,),
            durations_ns=(end_ns - start_ns,),
            warmup=0,
            tokens=0,
            kv_start=0,
            kv_end=0,
            steady=True,
            steady_reason="baseline: one stretch",
            window_reason=why,
            other_cpu_cores=cores,
            other_gpu_processes=self._company.gpu_processes(),
        )

    def _longer_s(self, run: PhaseRun, asked_s: float) -> float | None:
        """A window in which the energy should be sure enough; None: it is, or no longer one may be had."""
        measure = self._measure
        found = self._energy(run)
        took_s = 0.0 if run.window is None else run.window.duration_s
        if found is None or took_s >= measure.longest_window_s or took_s < _CUT_SHORT * asked_s:
            return None
        if found.energy_j is None:
            code = (found.reason or "").partition(":")[0]
            growth = 2.0 if code in _LONGER_HELPS else 0.0
        else:
            share = (found.temporal_uncertainty_j or 0.0) / abs(found.energy_j) if found.energy_j else 0.0
            lack = min(_MOST_GROWTH, share / measure.energy_target)
            power = 1 if found.reading is Reading.COUNTER else 2  # a counter is unsure of its ends alone
            growth = lack**power if lack > 1 else 0.0
        if not growth:
            return None
        return min(measure.longest_window_s, took_s * min(_MOST_GROWTH, max(_LEAST_GROWTH, 1.2 * growth)))

    def _energy(self, run: PhaseRun) -> PhaseEnergy | None:
        """The energy of the run's window on the scope around the processor, by what was sampled so far."""
        window = run.window
        if self._sampler is None or window is None:
            return None
        margin_ns = 10**9 + round(self._shown_s * 1e9)
        recording = self._sampler.so_far().between(window.start_ns - margin_ns, window.end_ns + margin_ns)
        verdicts = energy.phase_energies(recording.traces("device", "boot"), [run])
        found = {verdict.scope: verdict for verdict in verdicts}
        scope = own_scope(self._accelerator, found)
        return None if scope is None else found[scope]

    def _warm_up(self, phase: Phase, shape: Shape, rule: steady.Rule) -> list[Repeated]:
        """Repetitions until they are steady, or until the time for that is over."""
        rounds: list[Repeated] = []
        deadline_ns = self._clock_ns() + round(self._measure.warmup_limit_s * 1e9)
        while (left_s := (deadline_ns - self._clock_ns()) * 1e-9) > 0:
            rounds.append(self._repeat(phase, shape, self._measure.repetitions, 0.0, left_s))
            durations_ns = [duration for r in rounds for duration in r.durations_ns]
            if steady.judge(durations_ns, rule).steady:
                break
        return rounds

    def _repeat(self, phase: Phase, shape: Shape, repetitions: int, seconds: float, limit_s: float) -> Repeated:
        order = Repeat(
            phase=phase,
            repetitions=repetitions,
            seconds=seconds,
            limit_s=limit_s,
            depth=shape.depth,
            steps=shape.steps,
        )
        return self._bench.ask(order, Repeated, limit_s + MARGIN_S)


def _shown_s(channels: Iterable[Channel]) -> float:
    """How long after a window its last update is among the samples, by the sensor cards."""
    cards = [channel.card for channel in channels if channel.card is not None and channel.scope is not None]
    late_s = max(((card.lag_s or 0.0) + (card.update_period_s or 0.0) for card in cards), default=0.0)
    return BRACKET_S if late_s <= ATTENTION_S else min(late_s, _MOST_LATE_S) + FLUSH_S + BRACKET_S
