"""One trial: settle, phase-pure windows, profile pass, verdicts. Knows nothing of delivery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from agent.attempt import Attempt, Finished, Plan
from agent.bench import Bench
from agent.cards import CardStore
from agent.ceilings import Ceilings
from agent.cells import Cell
from agent.company import Company
from agent.counters.beside import Beside
from agent.estimate import OPERATOR_STEPS
from agent.host import Host
from agent.orders import (
    MeasureMemory,
    Memory,
    OperatorsProfiled,
    Profile,
    Profiled,
    ProfileOperators,
    no_operators,
)
from agent.sampler import Sampler
from agent.served.process import servers_at
from agent.sleeping import asleep_s
from agent.stopping import Stop
from agent.windows import MARGIN_S, Windows, shape_of
from phasewatt.errors import DoesNotFit, EngineAbsent, EngineFailed, MeterUnavailable
from phasewatt.fields import Outcome, Phase
from phasewatt.profiles import OperatorProfile
from phasewatt.records import PhaseRun

_PROFILED = (Phase.PREFILL, Phase.DECODE)


class Metering(NamedTuple):
    """The meters that a trial reads; with none, `reason` says why."""

    meters: tuple[str, ...]
    reason: str | None
    cards: CardStore | None = None
    said: Mapping[str, str] = {}  # by each meter that was tried, these and others


class Runner:
    """Measures cells, one after another."""

    def __init__(
        self,
        host: Host,
        bench: Bench,
        metering: Metering,
        stop: Stop,
        progress: Callable[[str], None],
        slept_s: Callable[[], float | None] = asleep_s,
        beside: Beside | None = None,
    ) -> None:
        self._host = host
        self._stop = stop
        self._bench = bench
        self._metering = metering
        self._progress = progress
        self._slept_s = slept_s
        self._beside = beside or Beside(stop)
        self._servers: tuple[int, ...] = ()  # processes of the server that does this cell's work; the first listens

    def run(self, cell: Cell, plan: Plan) -> Finished:
        """The trial of `cell`: measured, or failed or skipped with its reason.

        Raises:
            Stopped: asked to end; the cell is not finished.
        """
        self._servers = servers_at(cell.endpoint)
        attempt = Attempt(self._host, cell, plan, self._other_gpu_processes(), self._stop, self._slept_s)
        if cell.endpoint and not self._servers:
            attempt.notes.append("the server's process is not shown to this user: its own load counts as others'")
        attempt.said = self._metering.said
        loading_before_s = self._bench.loading_s
        try:
            attempt.placed = self._bench.place(cell)
            attempt.cool(self._progress)
            self._measure(attempt)
        except EngineFailed as error:
            attempt.outcome = Outcome.SKIPPED if isinstance(error, DoesNotFit | EngineAbsent) else Outcome.FAILED
            attempt.reason = str(error)
            attempt.observe()  # before the engine's memory is free again
            self._bench.clear()
        return attempt.finished()._replace(loading_s=self._bench.loading_s - loading_before_s)

    def ceilings(self, cell: Cell, plan: Plan, whole: bool) -> Finished:
        """The trial of what this host does at most, on the engine of `cell`; `whole`: all that is known.

        Raises:
            Stopped: asked to end.
        """
        attempt = Attempt(self._host, cell, plan, self._other_gpu_processes(), self._stop, self._slept_s)
        return Ceilings(self._host, self._bench, self._progress).measure(attempt, whole)

    def _measure(self, attempt: Attempt) -> None:
        """Every phase, metered if there is a meter; then, unmetered, the memory, the profile passes and counters."""
        attempt.observe()
        sampler = self._sampler(attempt)
        windows = Windows(
            self._bench,
            attempt.plan.measure,
            attempt.accelerator,
            sampler,
            self._company(attempt, sampler),
            self._stop,
            self._progress,
        )
        try:
            if sampler is not None:
                attempt.runs.append(windows.idle())
            with attempt.watch() as watch:
                for phase in attempt.cell.measured:
                    attempt.runs.append(windows.phase(phase, shape_of(phase, attempt.cell, attempt.plan.measure)))
                    attempt.observe()
            attempt.course = watch.course
        finally:
            attempt.recording = None if sampler is None else sampler.stop()
        attempt.memory = self._bench.ask(MeasureMemory(), Memory, MARGIN_S).use
        attempt.runs = [self._profiled(run, attempt) for run in attempt.runs]
        if attempt.plan.measure.operators:
            attempt.profiles = [self._operators(run, attempt) for run in attempt.runs if run.phase in _PROFILED]
        if attempt.plan.measure.counters and attempt.placed is not None:
            self._progress("counting by ncu")
            attempt.counters = self._beside.count(attempt.cell, attempt.placed)

    def _sampler(self, attempt: Attempt) -> Sampler | None:
        attempt.energy_reason = self._metering.reason
        if not self._metering.meters:
            return None
        names = attempt.metered(self._metering.meters)
        sampler = Sampler(names, attempt.plan.measure.rate_hz, cards=self._metering.cards)
        try:
            sampler.start()
        except MeterUnavailable as error:
            attempt.energy_reason = str(error)
            return None
        return sampler

    def _company(self, attempt: Attempt, sampler: Sampler | None) -> Company:
        placed = attempt.placed.described if attempt.placed is not None else None
        uuid = None if placed is None else placed.gpu_uuid
        own = (self._bench.pid, None if sampler is None else sampler.pid, *self._servers[:1])
        return Company(own, lambda: self._other_gpu_processes(uuid))

    def _other_gpu_processes(self, uuid: str | None = None) -> int | None:
        gpus = self._host.gpus.of(uuid)
        own = (*self._servers, *self._bench.ranks)
        return gpus.processes(besides=self._bench.pid, is_working=self._bench.is_on_gpu, servers=own)

    def _profiled(self, run: PhaseRun, attempt: Attempt) -> PhaseRun:
        """`run` with its device-busy time, or why there is none."""
        if run.phase not in _PROFILED:
            return run
        self._progress(f"{run.phase.value}: profiling")
        measure, shape = attempt.plan.measure, shape_of(run.phase, attempt.cell, attempt.plan.measure)
        order = Profile(phase=run.phase, repetitions=measure.profile_repetitions, depth=shape.depth, steps=shape.steps)
        try:
            profiled = self._bench.ask(order, Profiled, MARGIN_S)
        except EngineFailed as error:  # the run itself was measured before
            self._bench.clear()
            profiled = Profiled(busy_ns=None, reason=str(error))
        return msgspec.structs.replace(run, device_busy_ns=profiled.busy_ns, device_busy_reason=profiled.reason)

    def _operators(self, run: PhaseRun, attempt: Attempt) -> OperatorProfile:
        """Where the device time of `run`'s phase goes, or why that is not known."""
        self._progress(f"{run.phase.value}: profiling its operators")
        measure, shape = attempt.plan.measure, shape_of(run.phase, attempt.cell, attempt.plan.measure)
        steps = min(shape.steps, OPERATOR_STEPS)
        before = (shape.steps - steps) // 2
        order = ProfileOperators(
            phase=run.phase,
            repetitions=measure.profile_repetitions,
            kv_start=run.kv_start + before,
            kv_end=run.kv_start + before + steps if steps else run.kv_end,
            depth=shape.depth + before if steps else 0,
            steps=steps,
        )
        try:
            return self._bench.ask(order, OperatorsProfiled, MARGIN_S).profile
        except EngineFailed as error:  # as above
            self._bench.clear()
            return no_operators(order, str(error)).profile
