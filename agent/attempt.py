"""What is known of a trial while it is being made, and the trial that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import phasewatt
from agent import cooling, sleeping
from agent.bench import Placed
from agent.cells import Cell, Measure
from agent.course import Watch
from agent.happenings import happenings
from agent.host import Host, Observation, busy_cores
from agent.sampler import Recording
from agent.stopping import Stop
from phasewatt import codec, energy, identity
from phasewatt.conditions import Conditions, Cooling, Course
from phasewatt.doubts import ALONE_CORES
from phasewatt.fields import Kind, Outcome
from phasewatt.phase_readings import phase_readings
from phasewatt.profiles import CounterProfile, OperatorProfile
from phasewatt.records import MemoryUse, PhaseRun, Trial
from phasewatt.traces import Trace
from phasewatt.work import Work

_LOOK_S = 0.5
_MOST_NOTES = 8  # of the meters, in a trial's marks
_LONGEST_MARK = 256


class Plan(NamedTuple):
    """What a trial carries beside its cell."""

    campaign: str
    suite: str
    measure: Measure
    repeat: int = 1
    place: int | None = None  # in the campaign's order
    seed: int | None = None  # of that order


class Finished(NamedTuple):
    """A trial and the traces that it refers to."""

    trial: Trial
    traces: tuple[Trace, ...]
    loading_s: float = 0.0  # of its time, spent on bringing the model into memory


class Attempt:
    """What is known of a trial while it is being made."""

    def __init__(
        self,
        host: Host,
        cell: Cell,
        plan: Plan,
        other_gpu_processes: int | None,
        stop: Stop,
        asleep_s: Callable[[], float | None] = sleeping.asleep_s,
    ) -> None:
        self.cell = cell
        self.plan = plan
        self.placed: Placed | None = None
        self.outcome = Outcome.OK
        self.reason: str | None = None
        self.runs: list[PhaseRun] = []
        self.memory: MemoryUse | None = None
        self.profiles: list[OperatorProfile] = []
        self.counters: tuple[CounterProfile, ...] = ()
        self.recording: Recording | None = None
        self.energy_reason: str | None = None
        self.said: Mapping[str, str] = {}  # by the meters, when those to read were chosen
        self.course: Course | None = None
        self._cooling: Cooling | None = None
        self.notes: list[str] = []  # of the runner: more marks
        self._host = host
        self._stop = stop
        self._asleep_s = asleep_s
        self._asleep = [("before its phases", asleep_s())]
        self._seen: list[Observation] = []
        self._started_unix_s = time.time()
        self._started_ns = time.monotonic_ns()
        self._other_load = _settled_load(plan.measure.gate_s, stop)
        self._other_processes = other_gpu_processes

    def metered(self, meters: Sequence[str]) -> tuple[str, ...]:
        """`meters`, NVML told which GPUs do the work: the others on the host are not this trial's."""
        uuids = "+".join(self._gpus)
        return tuple(f"nvml:{uuids}" if name == "nvml" and uuids else name for name in meters)

    @property
    def _gpus(self) -> tuple[str, ...]:
        """Those that do the work, as NVML writes them."""
        described = self.placed.described if self.placed is not None else None
        return (described.gpu_uuid, *described.other_gpus) if described is not None and described.gpu_uuid else ()

    @property
    def accelerator(self) -> str:
        """What does the work: "cpu" or "cuda"."""
        return self.placed.described.accelerator if self.placed is not None else self.cell.accelerator

    def observe(self) -> None:
        """Note the state of the host, and whether it slept."""
        self._asleep.append((f"in {self.runs[-1].phase.value}" if self.runs else self._asleep[0][0], self._asleep_s()))
        if self.placed is not None:
            self._look()

    def cool(self, progress: Callable[[str], None]) -> None:
        """Wait for the temperature that the suite asks for."""
        measure = self.plan.measure
        if measure.cool_to_c is not None and self.placed is not None:
            accelerator = self.placed.described.accelerator

            def now_c() -> float | None:
                seen = [self._host.observe(accelerator, uuid).temperature_c for uuid in self._gpus or (None,)]
                return max((each for each in seen if each is not None), default=None)

            limit_c, patience_s = measure.cool_to_c, measure.cool_limit_s
            self._cooling = cooling.cool(limit_c, patience_s, now_c, self._stop.pause, progress)

    def watch(self) -> Watch:
        """What looks at the host while phases run, as often as the suite asks for."""
        return Watch(self._look, self.plan.measure.course_s)

    def _look(self) -> Observation:
        assert self.placed is not None  # the host is watched once it is known what does the work
        accelerator = self.placed.described.accelerator
        seen, *others = [self._host.observe(accelerator, uuid) for uuid in self._gpus or (None,)]
        held_back = _united([seen, *others])  # all wait for the one that is
        seen = seen._replace(throttled=None if held_back is None else frozenset(held_back))
        self._seen.append(seen)
        return seen

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
            readings=phase_readings(traces, self.runs),
            traces=tuple(identity.record_id(Kind.TRACE, codec.encode(trace)) for trace in traces),
            meters=dict(self.said),
            repeat=self.plan.repeat,
            place=self.plan.place,
            order_seed=self.plan.seed,
            course=self.course,
            profiles=tuple(self.profiles),
            counters=self.counters,
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
        gpus = self._host.gpus.of(None if described is None else described.gpu_uuid)
        on_gpu = described is not None and described.accelerator == "cuda"
        driver = gpus.driver() if on_gpu else None
        first, last = (self._seen[0], self._seen[-1]) if self._seen else (Observation(),) * 2
        mode = first.power_mode
        own_mode = described.mode if described else None
        return Conditions(
            engine=self.cell.engine,
            mode=own_mode or self.cell.mode,
            accelerator=described.accelerator if described else self.cell.accelerator,
            processor=described.processor if described else None,
            attention=None if own_mode else self.cell.attention,
            tf32=self.placed.tf32 if self.placed else None,
            prefill_chunk=self.cell.prefill_chunk,
            parallelism=_parallelism(self.cell),
            fused_weights=self.cell.fused_weights if self.cell.engine == "transformers" else None,
            cache_tokens=self.placed.cache_tokens if self.placed else None,
            experts_by=self.placed.experts if self.placed else None,
            threads=self.placed.threads if self.placed else self.cell.threads,
            power_mode=mode.name if mode else None,
            power_mode_id=mode.id if mode else None,
            power_limit_w=gpus.power_limit_w() if on_gpu else None,
            governor=self._host.governor,
            versions=self._versions(driver),
            simulated=self._simulated(),
            ecc=gpus.ecc() if on_gpu else None,
            persistence=gpus.persistence() if on_gpu else None,
            mig=gpus.mig() if on_gpu else None,
            clock_hz=(first.clock_hz, last.clock_hz),
            temperature_c=(first.temperature_c, last.temperature_c),
            other_cpu_load=self._other_load,
            other_gpu_processes=self._other_processes,
            throttled=_united(self._seen),
            marks=tuple(self._marks()),
            state=(first.state, last.state),
            cooling=self._cooling,
            slept_s=self._slept_s(),
            ttft_limit_s=self.plan.measure.ttft_limit_s,
            tpot_limit_s=self.plan.measure.tpot_limit_s,
        )

    def _versions(self, driver: str | None) -> dict[str, str]:
        engine = self.placed.described.versions if self.placed else {}
        return engine | ({"driver": driver} if driver else {}) | self._host.releases

    def _simulated(self) -> bool:
        engine = self.placed is not None and self.placed.described.simulated
        return self._host.simulated or engine or (self.recording is not None and self.recording.simulated)

    def _slept_s(self) -> float | None:
        first, last = self._asleep[0][1], self._asleep[-1][1]
        return None if first is None or last is None else round(max(0.0, last - first), 3)

    def _sleeps(self) -> list[str]:
        """A mark for each stretch in which the host was suspended."""
        pairs = zip(self._asleep, self._asleep[1:], strict=False)
        gone = [(where, after - before) for (_, before), (where, after) in pairs if before is not None and after]
        return [f"the host slept for {s:.1f} s {where}" for where, s in gone if s > sleeping.NOTICED_S]

    def _marks(self) -> list[str]:
        marks = [*self.notes, *self._sleeps()]
        if self._cooling is not None and (hot := cooling.mark(self._cooling)) is not None:
            marks.append(hot)
        if self._other_load > ALONE_CORES:
            marks.append(f"not alone: others kept {self._other_load:.1f} cores busy just before")
        if self._other_processes:
            marks.append(f"not alone: {self._other_processes} other processes on the GPUs just before")
        if throttled := _united(self._seen):
            marks.append(f"held back: {', '.join(throttled)}"[:_LONGEST_MARK])
        marks += (mark[:_LONGEST_MARK] for mark in happenings(self._seen, self._host.memory_bytes))
        if self.recording is not None and self.recording.fault is not None:
            marks.append(self.recording.fault)
        notes = () if self.recording is None else tuple(dict.fromkeys(self.recording.notes))
        marks += [note[:_LONGEST_MARK] for note in notes[:_MOST_NOTES]]
        if len(notes) > _MOST_NOTES:
            marks.append(f"{len(notes) - _MOST_NOTES} more things happened to the meters")
        return marks


def _parallelism(cell: Cell) -> str:
    return "single" if cell.tensor_parallel == 1 else f"tensor {cell.tensor_parallel}"


def _settled_load(patience_s: float, stop: Stop) -> float:
    """Cores that others keep busy, once few are or patience is over."""
    deadline = time.monotonic() + patience_s
    while (busy := busy_cores(_LOOK_S, stop.pause)) > ALONE_CORES and time.monotonic() < deadline:
        pass
    return busy


def _united(seen: Sequence[Observation]) -> tuple[str, ...] | None:
    known = [observation.throttled for observation in seen if observation.throttled is not None]
    return tuple(sorted(frozenset().union(*known))) if known else None
