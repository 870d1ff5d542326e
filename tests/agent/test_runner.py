"""One trial, with real processes: the fake engine's worker and a replayed meter's sampler."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import cells
from agent.attempt import Plan
from agent.bench import Bench
from agent.cells import Cell, Measure
from agent.host import Host, Observation
from agent.orders import ProfileOperators, Refused
from agent.runner import Metering, Runner
from agent.stopping import Stop
from agent.worker_process import WorkerProcess
from phasewatt import codec, energy, identity, quantization
from phasewatt.errors import EngineFailed, Stopped
from phasewatt.fields import Kind, Outcome, Phase, Scope
from phasewatt.metrics import METRICS, Context
from tests.fixtures.sensors import recording

MEASURE = Measure(
    repetitions=3, window_s=0.6, unmetered_window_s=0.05, limit_s=5, warmup_limit_s=0.2, idle_s=0.5, rate_hz=50
)
CELL = Cell(prompt_tokens=64, output_tokens=8, model="stories15m", engine="fake")
UNMETERED = Metering((), "no power sensor (none in this test)")


class Setup:
    """A runner with what it needs, ended after the test."""

    def __init__(self) -> None:
        self.stop = Stop()
        self.stages: list[str] = []
        self.at_stage: tuple[str, Callable[[], None]] = ("", lambda: None)  # done once, when that stage begins
        self.bench = Bench(self.stop, self._stage)

    def run(self, cell: Cell = CELL, metering: Metering = UNMETERED, measure: Measure = MEASURE) -> Any:
        runner = Runner(Host("board"), self.bench, metering, self.stop, self._stage)
        return runner.run(cell, Plan("campaign", "suite", measure))

    def _stage(self, text: str) -> None:
        self.stages.append(text)
        if text == self.at_stage[0]:
            self.at_stage[1]()
            self.at_stage = ("", lambda: None)


@pytest.fixture
def setup() -> Iterator[Setup]:
    """A fresh one."""
    made = Setup()
    yield made
    made.bench.clear()


def test_operators_are_profiled_where_the_suite_asks_and_what_fails_of_it_costs_no_trial(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile a phase, of the middle of the decode steps; a pass that dies gives its reason, and the trial is OK."""
    asking = msgspec.structs.replace(MEASURE, operators=True)
    assert setup.run().trial.profiles == ()
    long = msgspec.structs.replace(CELL, output_tokens=33)
    prefill, decode = setup.run(long, measure=asking).trial.profiles
    assert (prefill.phase, prefill.kv_start, prefill.kv_end) == (Phase.PREFILL, 0, 64)
    assert (decode.phase, decode.kv_start, decode.kv_end) == (Phase.DECODE, 76, 84)
    asked = setup.bench.ask

    def ask(question: Any, answer: Any, limit_s: float) -> Any:
        if isinstance(question, ProfileOperators):
            raise EngineFailed("the engine's process ended with code -11")
        return asked(question, answer, limit_s)

    monkeypatch.setattr(setup.bench, "ask", ask)
    trial = setup.run(measure=asking).trial
    assert trial.outcome is Outcome.OK
    assert {profile.reason for profile in trial.profiles} == {"the engine's process ended with code -11"}
    assert {profile.repetitions for profile in trial.profiles} == {0}


def test_a_trial_holds_every_phase_raw(setup: Setup) -> None:
    """Starts, durations and warm-up of prefill, decode and request, in order, with tokens and depths."""
    trial = setup.run().trial
    assert trial.outcome is Outcome.OK
    assert [run.phase for run in trial.runs] == [Phase.PREFILL, Phase.DECODE, Phase.REQUEST]
    for run in trial.runs:
        assert len(run.starts_ns) == len(run.durations_ns)
        assert len(run.durations_ns) - run.warmup >= MEASURE.repetitions
        assert run.steady_reason
    prefill, decode, request = trial.runs
    assert (prefill.tokens, prefill.kv_start, prefill.kv_end) == (64, 0, 64)
    assert (decode.tokens, decode.kv_start, decode.kv_end) == (7, 64, 71)
    assert request.gaps_ns is not None
    assert {len(gaps) for gaps in request.gaps_ns} == {7}
    assert len(request.first_token_ns or ()) == len(request.durations_ns)


def test_phases_do_not_overlap(setup: Setup) -> None:
    """Windows are phase-pure: each ends before the next begins."""
    windows = [run.window for run in setup.run().trial.runs]
    assert all(before.end_ns <= after.start_ns for before, after in itertools.pairwise(windows))


def test_decode_stands_in_the_middle_of_the_requests_depths(setup: Setup) -> None:
    """A short decode window of a long answer is at its mean depth."""
    measure = Measure(**{**_fields(MEASURE), "decode_steps": 4})
    decode = setup.run(Cell(**{**_fields(CELL), "output_tokens": 41}), measure=measure).trial.run_of(Phase.DECODE)
    assert (decode.kv_start, decode.kv_end) == (64 + 18, 64 + 22)


def test_without_a_meter_energy_is_missing_with_the_reason(setup: Setup) -> None:
    """No number, no zero, no idle phase."""
    trial = setup.run().trial
    assert trial.energy == ()
    assert trial.traces == ()
    reading = METRICS["decode_token_energy"].of(trial, Context(scope=Scope.MODULE))
    assert reading.values == ()
    assert reading.reason == UNMETERED.reason


def test_with_a_meter_every_phase_has_a_verdict(setup: Setup, tmp_path: Path) -> None:
    """Power of the recording, joules of the window, the idle baseline, and traces that give the same again."""
    meter = f"replay:{recording(tmp_path / 'r', [20.0, 21.0] * 40, period_s=0.023)}"
    # Repetitions of tens of milliseconds: between shorter ones a busy host leaves gaps that are no small part of them.
    cell = Cell(prompt_tokens=64, output_tokens=8, batch=8, model="qwen2.5-0.5b", dtype="bfloat16", engine="fake")
    for _ in range(5):
        finished = setup.run(cell, metering=Metering((meter,), None))
        trial = finished.trial
        if not any((found.reason or "").startswith("not_contiguous") for found in trial.energy):
            break
    assert [e.phase for e in trial.energy] == [Phase.IDLE, Phase.PREFILL, Phase.DECODE, Phase.REQUEST]
    for found in trial.energy:
        assert found.reason is None, found
        assert found.mean_power_w == pytest.approx(20.5, rel=0.05)
    assert trial.conditions.simulated
    assert list(trial.traces) == [identity.record_id(Kind.TRACE, codec.encode(t)) for t in finished.traces]
    assert energy.phase_energies(finished.traces, trial.runs) == trial.energy


def test_a_meter_that_does_not_open_costs_the_energy_and_not_the_trial(setup: Setup, tmp_path: Path) -> None:
    """Time is measured all the same, and the reason is kept."""
    trial = setup.run(metering=Metering((f"replay:{tmp_path / 'absent'}",), None)).trial
    assert trial.outcome is Outcome.OK
    assert "absent" in (trial.energy_reason or "")


def test_the_same_work_has_the_same_id_under_other_settings(setup: Setup) -> None:
    """Threads are a condition, the prompt is the work."""
    one = setup.run(Cell(**{**_fields(CELL), "threads": 1})).trial
    two = setup.run(Cell(**{**_fields(CELL), "threads": 2})).trial
    other = setup.run(Cell(**{**_fields(CELL), "prompt_seed": 9})).trial
    assert identity.work_id(one.work) == identity.work_id(two.work) != identity.work_id(other.work)
    assert (one.conditions.threads, two.conditions.threads) == (1, 2)


def test_quantized_work_is_another_work_of_the_same_task(setup: Setup) -> None:
    """In the trial's own words, from the cell through the engine."""
    whole = setup.run().trial
    eight = setup.run(Cell(**{**_fields(CELL), "quantization": "int8"})).trial
    assert whole.work.quantization is None
    assert eight.work.quantization == quantization.SCHEMES["int8"].words
    assert eight.cell.startswith("stories15m random:7 float32 int8 batch=1")
    assert identity.task_id(whole.work.task) == identity.task_id(eight.work.task)
    assert identity.work_id(whole.work) != identity.work_id(eight.work)


def test_an_absent_engine_is_skipped_and_the_next_cell_runs(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in suite `engines` on a host without one of them."""
    refused = Refused(message="engine onnxruntime needs onnxruntime: pip install it", absent=True)
    monkeypatch.setattr(WorkerProcess, "_exchange", lambda process, order, deadline: msgspec.json.encode(refused))
    absent = setup.run(Cell(**{**_fields(CELL), "engine": "onnxruntime"})).trial
    monkeypatch.undo()
    assert (absent.outcome, absent.reason) == (Outcome.SKIPPED, refused.message)
    assert setup.run().trial.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        ({"model": "qwen2.5-32b", "batch": 64}, Outcome.SKIPPED, ("GB, ", "GB are free")),
        ({"prompt_tokens": 2000, "output_tokens": 100}, Outcome.SKIPPED, ("2100 tokens", "2048 positions")),
        ({"model": "gpt-9"}, Outcome.FAILED, ("no preset 'gpt-9'",)),
        ({"engine": "vllm"}, Outcome.FAILED, ("no engine 'vllm'",)),
        ({"weights": "hub:owner/name"}, Outcome.FAILED, ("expected random:SEED",)),
    ],
)
def test_what_cannot_be_measured_is_a_trial_with_its_reason(
    setup: Setup, change: dict[str, Any], outcome: Outcome, words: tuple[str, ...]
) -> None:
    """Failed or skipped, never an exception; too large a model is refused before loading, with both figures."""
    trial = setup.run(Cell(**{**_fields(CELL), **change})).trial
    assert trial.outcome is outcome
    assert all(word in (trial.reason or "") for word in words), trial.reason
    assert not any(stage.startswith("loading") for stage in setup.stages)
    assert METRICS["ttft"].of(trial).values == ()


def test_the_next_cell_runs_after_a_worker_died(setup: Setup) -> None:
    """A killed engine process is a skipped trial that says so, and the next trial gets a new process."""
    setup.at_stage = ("decode: measuring", lambda: os.kill(_pid(setup), signal.SIGKILL))
    died = setup.run().trial
    assert died.outcome is Outcome.SKIPPED
    assert "killed" in (died.reason or "")
    assert setup.run().trial.outcome is Outcome.OK


def test_only_the_phases_of_a_cell_are_measured(setup: Setup) -> None:
    """What was not asked for is not run, and its metrics say so."""
    trial = setup.run(Cell(**{**_fields(CELL), "phases": "decode"})).trial
    assert [run.phase for run in trial.runs] == [Phase.DECODE]
    assert METRICS["ttft"].of(trial).reason == "request was not run"


def test_a_host_that_slept_marks_the_trial_and_the_phase(setup: Setup) -> None:
    """Suspended for 7 s in prefill and for a minute in request: the clock that counts sleep ran ahead."""
    offsets = iter([100.0, 100.0, 107.0, 107.01, 167.01])
    runner = Runner(Host("board"), setup.bench, UNMETERED, setup.stop, setup._stage, lambda: next(offsets))
    trial = runner.run(CELL, Plan("campaign", "suite", MEASURE)).trial
    assert trial.outcome is Outcome.OK
    slept = [mark for mark in trial.conditions.marks if "slept" in mark]
    assert slept == ["the host slept for 7.0 s in prefill", "the host slept for 60.0 s in request"]
    assert trial.conditions.slept_s == pytest.approx(67.01)


def test_a_host_that_does_not_tell_of_sleep_has_no_figure(setup: Setup) -> None:
    runner = Runner(Host("board"), setup.bench, UNMETERED, setup.stop, setup._stage, lambda: None)
    trial = runner.run(CELL, Plan("campaign", "suite", MEASURE)).trial
    assert trial.conditions.slept_s is None
    assert not any("slept" in mark for mark in trial.conditions.marks)


def test_this_host_did_not_sleep(setup: Setup) -> None:
    """By its own two clocks, read for a whole trial."""
    trial = setup.run().trial
    assert trial.conditions.slept_s is not None
    assert trial.conditions.slept_s < 0.05


class Hot(Host):
    """Reads 71 degrees, and is held back from the second look on."""

    looks = 0

    def observe(self, accelerator: str, gpu_uuid: str | None = None) -> Observation:
        self.looks += 1
        return Observation(1_000_000_000, 71.0, frozenset({"thermal"}) if self.looks > 3 else frozenset())


def test_a_hot_and_throttling_host_is_marked_and_its_course_kept(setup: Setup) -> None:
    """The gate gives up at its limit; what held the host back, and the course, are in the trial."""
    measure = Measure(**{**_fields(MEASURE), "cool_to_c": 60.0, "cool_limit_s": 0.2, "course_s": 0.01})
    runner = Runner(Hot("board"), setup.bench, UNMETERED, setup.stop, setup._stage)
    trial = runner.run(CELL, Plan("campaign", "suite", measure, repeat=2, place=7, seed=3)).trial
    assert trial.outcome is Outcome.OK
    assert any(mark.startswith("began at 71 °C, above 60 °C") for mark in trial.conditions.marks)
    assert "held back: thermal" in trial.conditions.marks
    assert trial.conditions.cooling is not None
    assert trial.conditions.cooling.temperature_c == 71.0
    assert trial.course is not None
    assert set(trial.course.temperature_c) == {71.0}
    assert True in trial.course.throttled
    assert (trial.repeat, trial.place, trial.order_seed) == (2, 7, 3)
    assert codec.decode_record(Kind.TRIAL, codec.SCHEMA, codec.encode(trial)) == trial


def test_stopping_ends_a_phase_at_once(setup: Setup) -> None:
    """Within a second, whatever the window; the cell is not finished."""
    stopped_s: list[float] = []

    def stop_soon() -> None:
        threading.Timer(0.2, lambda: (stopped_s.append(time.monotonic()), setup.stop.set())).start()

    setup.at_stage = ("prefill: measuring", stop_soon)
    slow = Measure(**{**_fields(MEASURE), "unmetered_window_s": 60.0, "limit_s": 60})
    with pytest.raises(Stopped):
        setup.run(measure=slow)
    assert time.monotonic() - stopped_s[0] < 5


def test_a_model_is_loaded_once_for_cells_that_share_it(setup: Setup) -> None:
    """Two cells of one model start one engine."""
    setup.run()
    setup.run(Cell(**{**_fields(CELL), "prompt_tokens": 32}))
    assert setup.stages.count("starting engine fake") == 1
    setup.run(Cell(**{**_fields(CELL), "dtype": "bfloat16"}))
    assert setup.stages.count("starting engine fake") == 2


def test_the_smoke_suite_fits_a_message(setup: Setup) -> None:
    """A trial with many repetitions stays within the payload limit."""
    suite = cells.load("smoke", {"engine": "fake", "model": "stories15m"})
    trial = setup.run(suite.cells[0], measure=suite.measure).trial
    assert len(codec.encode(trial)) < codec.MAX_PAYLOAD_BYTES


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _pid(setup: Setup) -> int:
    assert setup.bench.pid is not None, "the engine had not started yet"
    return setup.bench.pid
