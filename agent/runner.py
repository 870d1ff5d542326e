"""One trial: settle, phase-pure windows, profile pass, verdicts. Knows nothing of delivery."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

import phasewatt
from agent import steady
from agent.bench import Bench, Placed
from agent.cells import Cell, Measure
from agent.host import Host, Observation, busy_cores
from agent.orders import MeasureMemory, Memory, Profile, Profiled, Repeat, Repeated
from agent.sampler import Recording, Sampler
from agent.stopping import Stop
from phasewatt import codec, energy, identity
from phasewatt.errors import DoesNotFit, EngineFailed, MeterUnavailable
from phasewatt.records import Conditions, Kind, MemoryUse, Outcome, Phase, PhaseRun, Trace, Trial, Work

_MARGIN_S = 300.0  # beyond a phase's own limit: one repetition may be long
_ALONE_CORES = 0.5
_LOOK_S = 0.5
_BRACKET_S = 0.5  # of sampling before the first window and after the last one
_PHASES = (Phase.PREFILL, Phase.DECODE, Phase.REQUEST)


class Plan(NamedTuple):
    """What a trial carries beside its cell."""

    campaign: str
    suite: str
    measure: Measure


class Metering(NamedTuple):
    """The meters that a trial reads; with none, `reason` says why."""

    meters: tuple[str, ...]
    reason: str | None


class Finished(NamedTuple):
    """A trial and the traces that it refers to."""

    trial: Trial
    traces: tuple[Trace, ...]


class _Shape(NamedTuple):
    """Tokens and cache depths of one repetition of a phase."""

    depth: int
    steps: int
    tokens: int
    kv_start: int
    kv_end: int


class Runner:
    """Measures cells, one after another."""

    def __init__(
        self, host: Host, bench: Bench, metering: Metering, stop: Stop, progress: Callable[[str], None]
    ) -> None:
        self._host = host
        self._stop = stop
        self._bench = bench
        self._metering = metering
        self._progress = progress

    def run(self, cell: Cell, plan: Plan) -> Finished:
        """The trial of `cell`: measured, or failed or skipped with its reason.

        Raises:
            Stopped: asked to end; the cell is not finished.
        """
        attempt = _Attempt(self._host, cell, plan, self._bench.pid, self._stop)
        try:
            attempt.placed = self._bench.place(cell)
            self._measure(attempt)
        except EngineFailed as error:
            attempt.outcome = Outcome.SKIPPED if isinstance(error, DoesNotFit) else Outcome.FAILED
            attempt.reason = str(error)
            self._bench.clear()
        return attempt.finished()

    def _measure(self, attempt: _Attempt) -> None:
        """Every phase, metered if there is a meter; then, unmetered, the profile pass and the memory."""
        attempt.observe()
        sampler = self._sampler(attempt)
        try:
            if sampler is not None:
                attempt.runs.append(self._idle(attempt.plan.measure))
            for phase in _PHASES:
                attempt.runs.append(self._phase(phase, attempt, metered=sampler is not None))
                attempt.observe()
            if sampler is not None:
                self._stop.pause(_BRACKET_S)
        finally:
            attempt.recording = None if sampler is None else sampler.stop()
        attempt.memory = self._bench.ask(MeasureMemory(), Memory, _MARGIN_S).use
        attempt.runs = [self._profiled(run, attempt) for run in attempt.runs]

    def _sampler(self, attempt: _Attempt) -> Sampler | None:
        attempt.energy_reason = self._metering.reason
        if not self._metering.meters:
            return None
        sampler = Sampler(attempt.metered(self._metering.meters), attempt.plan.measure.rate_hz)
        try:
            sampler.start()
        except MeterUnavailable as error:
            attempt.energy_reason = str(error)
            return None
        return sampler

    def _idle(self, measure: Measure) -> PhaseRun:
        """The baseline: model loaded, nothing asked."""
        self._progress("idle baseline")
        self._stop.pause(_BRACKET_S)
        start_ns = time.monotonic_ns()
        self._stop.pause(measure.idle_s)
        return PhaseRun(
            phase=Phase.IDLE,
            starts_ns=(start_ns,),
            durations_ns=(time.monotonic_ns() - start_ns,),
            warmup=0,
            tokens=0,
            kv_start=0,
            kv_end=0,
            steady=True,
            steady_reason="baseline: one stretch",
        )

    def _phase(self, phase: Phase, attempt: _Attempt, metered: bool) -> PhaseRun:
        measure, shape = attempt.plan.measure, _shape(phase, attempt.cell, attempt.plan.measure)
        rule = steady.Rule(repetitions=measure.repetitions)
        self._progress(f"{phase.value}: warming up")
        warmups = self._warm_up(phase, shape, measure, rule)
        self._progress(f"{phase.value}: measuring")
        window_s = measure.window_s if metered else measure.unmetered_window_s
        window = self._repeat(phase, shape, measure.repetitions, window_s, measure.limit_s)
        verdict = steady.judge(
            window.durations_ns, rule._replace(repetitions=max(rule.repetitions, len(window.durations_ns)))
        )
        rounds = [*warmups, window]
        is_request = phase is Phase.REQUEST
        return PhaseRun(
            phase=phase,
            starts_ns=tuple(start for r in rounds for start in r.starts_ns),
            durations_ns=tuple(duration for r in rounds for duration in r.durations_ns),
            warmup=sum(len(r.starts_ns) for r in warmups),
            tokens=shape.tokens,
            kv_start=shape.kv_start,
            kv_end=shape.kv_end,
            steady=verdict.steady,
            steady_reason=verdict.reason,
            first_token_ns=tuple(first for r in rounds for first in r.first_token_ns) if is_request else None,
            gaps_ns=window.gaps_ns if is_request else None,
        )

    def _warm_up(self, phase: Phase, shape: _Shape, measure: Measure, rule: steady.Rule) -> list[Repeated]:
        """Repetitions until they are steady, or until the time for that is over."""
        rounds: list[Repeated] = []
        deadline = time.monotonic() + measure.warmup_limit_s
        while (left_s := deadline - time.monotonic()) > 0:
            rounds.append(self._repeat(phase, shape, measure.repetitions, 0.0, left_s))
            durations_ns = [duration for r in rounds for duration in r.durations_ns]
            if steady.judge(durations_ns, rule).steady:
                break
        return rounds

    def _repeat(self, phase: Phase, shape: _Shape, repetitions: int, seconds: float, limit_s: float) -> Repeated:
        order = Repeat(
            phase=phase,
            repetitions=repetitions,
            seconds=seconds,
            limit_s=limit_s,
            depth=shape.depth,
            steps=shape.steps,
        )
        return self._bench.ask(order, Repeated, limit_s + _MARGIN_S)

    def _profiled(self, run: PhaseRun, attempt: _Attempt) -> PhaseRun:
        """`run` with its device-busy time, or why there is none."""
        if run.phase not in (Phase.PREFILL, Phase.DECODE):
            return run
        self._progress(f"{run.phase.value}: profiling")
        measure, shape = attempt.plan.measure, _shape(run.phase, attempt.cell, attempt.plan.measure)
        order = Profile(phase=run.phase, repetitions=measure.profile_repetitions, depth=shape.depth, steps=shape.steps)
        try:
            profiled = self._bench.ask(order, Profiled, _MARGIN_S)
        except EngineFailed as error:  # the run itself was measured before
            self._bench.clear()
            profiled = Profiled(busy_ns=None, reason=str(error))
        return msgspec.structs.replace(run, device_busy_ns=profiled.busy_ns, device_busy_reason=profiled.reason)


class _Attempt:
    """What is known of a trial while it is being made."""

    def __init__(self, host: Host, cell: Cell, plan: Plan, engine_pid: int | None, stop: Stop) -> None:
        self.cell = cell
        self.plan = plan
        self.placed: Placed | None = None
        self.outcome = Outcome.OK
        self.reason: str | None = None
        self.runs: list[PhaseRun] = []
        self.memory: MemoryUse | None = None
        self.recording: Recording | None = None
        self.energy_reason: str | None = None
        self._host = host
        self._seen: list[Observation] = []
        self._started_unix_s = time.time()
        self._started_ns = time.monotonic_ns()
        self._other_load = _settled_load(plan.measure.gate_s, stop)
        self._other_processes = host.gpus.processes(besides=engine_pid)

    def metered(self, meters: Sequence[str]) -> tuple[str, ...]:
        """`meters`, NVML told which GPU does the work: the others on the host are not this trial's."""
        uuid = self.placed.described.gpu_uuid if self.placed is not None else None
        return tuple(f"nvml:{uuid}" if name == "nvml" and uuid else name for name in meters)

    def observe(self) -> None:
        """Note the state of the host."""
        if self.placed is not None:
            self._seen.append(self._host.observe(self.placed.described.accelerator))

    def finished(self) -> Finished:
        """The trial as it stands."""
        traces = () if self.recording is None else self.recording.traces(self._host.device, self._host.boot_id)
        trial = Trial(
            device=self._host.device,
            campaign=self.plan.campaign,
            suite=self.plan.suite,
            cell=self.cell.label,
            agent_version=phasewatt.__version__,
            boot_id=self._host.boot_id,
            started_unix_s=self._started_unix_s,
            started_ns=self._started_ns,
            outcome=self.outcome,
            reason=self.reason,
            work=self._work(),
            conditions=self._conditions(),
            runs=tuple(self.runs),
            memory=self.memory,
            energy=energy.phase_energies(traces, self.runs),
            energy_reason=self._energy_reason(traces),
            traces=tuple(identity.record_id(Kind.TRACE, codec.encode(trace)) for trace in traces),
        )
        return Finished(trial, traces)

    def _energy_reason(self, traces: Sequence[Trace]) -> str | None:
        if self.recording is not None and not traces:
            return self.recording.fault or "the sampler saw nothing"
        return self.energy_reason

    def _work(self) -> Work | None:
        return None if self.placed is None else self.placed.work

    def _conditions(self) -> Conditions:
        described = None if self.placed is None else self.placed.described
        gpus = self._host.gpus
        on_gpu = described is not None and described.accelerator == "cuda"
        driver = gpus.driver() if on_gpu else None
        first, last = (self._seen[0], self._seen[-1]) if self._seen else (Observation(None, None, None),) * 2
        return Conditions(
            engine=self.cell.engine,
            mode=self.cell.mode,
            accelerator=described.accelerator if described else self.cell.accelerator,
            processor=described.processor if described else None,
            attention=self.cell.attention,
            tf32=self.placed.tf32 if self.placed else None,
            threads=self.placed.threads if self.placed else self.cell.threads,
            power_limit_w=gpus.power_limit_w() if on_gpu else None,
            governor=self._host.governor,
            versions=(described.versions if described else {}) | ({"driver": driver} if driver else {}),
            simulated=self._simulated(),
            clock_hz=(first.clock_hz, last.clock_hz),
            temperature_c=(first.temperature_c, last.temperature_c),
            other_cpu_load=self._other_load,
            other_gpu_processes=self._other_processes,
            throttled=_united(self._seen),
            marks=tuple(self._marks()),
        )

    def _simulated(self) -> bool:
        engine = self.placed is not None and self.placed.described.simulated
        return engine or (self.recording is not None and self.recording.simulated)

    def _marks(self) -> list[str]:
        marks = []
        if self._other_load > _ALONE_CORES:
            marks.append(f"not alone: others kept {self._other_load:.1f} cores busy just before")
        if self._other_processes:
            marks.append(f"not alone: {self._other_processes} other processes on the GPUs just before")
        if throttled := _united(self._seen):
            marks.append(f"held back: {', '.join(throttled)}")
        if self.recording is not None and self.recording.fault is not None:
            marks.append(self.recording.fault)
        return marks


def _shape(phase: Phase, cell: Cell, measure: Measure) -> _Shape:
    """Tokens and depths of a repetition. Decode stands in the middle of the request's own range of depths."""
    prompt, output = cell.prompt_tokens, cell.output_tokens
    if phase is Phase.PREFILL:
        return _Shape(0, 0, cell.batch * prompt, 0, prompt)
    if phase is Phase.REQUEST:
        return _Shape(0, output, cell.batch * (prompt + output), 0, prompt + output - 1)
    steps = min(measure.decode_steps, output - 1)
    depth = prompt + (output - 1 - steps) // 2
    return _Shape(depth, steps, cell.batch * steps, depth, depth + steps)


def _settled_load(patience_s: float, stop: Stop) -> float:
    """Cores that others keep busy, once few are or patience is over."""
    deadline = time.monotonic() + patience_s
    while (busy := busy_cores(_LOOK_S, stop.pause)) > _ALONE_CORES and time.monotonic() < deadline:
        pass
    return busy


def _united(seen: Sequence[Observation]) -> tuple[str, ...] | None:
    known = [observation.throttled for observation in seen if observation.throttled is not None]
    return tuple(sorted(frozenset().union(*known))) if known else None
