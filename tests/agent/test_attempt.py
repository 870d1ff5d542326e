"""A trial while it is being made: which meters it reads, and what a reader of it must know."""

from __future__ import annotations

from typing import Any

import pytest

from agent.attempt import Attempt, Plan
from agent.bench import Placed
from agent.cells import Cell, Measure
from agent.host import Host
from agent.orders import Described
from agent.sampler import Recording
from agent.stopping import Stop
from phasewatt.records import Channel, Reading, Scope, Trial
from tests.fixtures.records import architecture, work

CELL = Cell(prompt_tokens=8, output_tokens=4, engine="fake", accelerator="auto")
CHANNEL = Channel(name="c", source="s", reading=Reading.INSTANT, unit="W", scope=Scope.MODULE)


class Impatient(Stop):
    """Pauses for nobody, so that no CPU time passes."""

    def pause(self, seconds: float) -> None:
        pass


def _attempt(other_gpu_processes: int | None = None) -> Attempt:
    plan = Plan("campaign", "suite", Measure(gate_s=0))
    return Attempt(Host("board"), CELL, plan, other_gpu_processes, Impatient())


def _placed(**fields: Any) -> Placed:
    described = Described(
        architecture=architecture(),
        accelerator=fields.get("accelerator", "cuda"),
        processor=None,
        gpu_uuid=fields.get("gpu_uuid"),
        memory_free_bytes=None,
        versions={},
        simulated=False,
    )
    return Placed(described, work(), threads=None, tf32=None)


def _recording(rows: Any = (), **fields: Any) -> Recording:
    plain = {"meter": "m", "simulated": False, "channels": (CHANNEL,), "rows": rows, "fault": None}
    return Recording(**{**plain, **fields})


def _marks(trial: Trial) -> tuple[str, ...]:
    """All but those of the CPU's load, which is this host's own at that moment."""
    return tuple(mark for mark in trial.conditions.marks if "cores busy" not in mark)


@pytest.mark.parametrize(
    ("gpu_uuid", "names"),
    [("GPU-7", ("nvml:GPU-7", "rapl", "external:csv:f")), (None, ("nvml", "rapl", "external:csv:f"))],
)
def test_nvml_is_told_which_gpu_does_the_work(gpu_uuid: str | None, names: tuple[str, ...]) -> None:
    """The others are not this trial's; no other meter is touched."""
    attempt = _attempt()
    assert attempt.metered(["nvml", "rapl"]) == ("nvml", "rapl")
    attempt.placed = _placed(gpu_uuid=gpu_uuid)
    assert attempt.metered(["nvml", "rapl", "external:csv:f"]) == names


def test_the_accelerator_is_what_was_asked_for_until_the_engine_says_what_it_is() -> None:
    attempt = _attempt()
    assert attempt.accelerator == "auto"
    attempt.placed = _placed(accelerator="cuda")
    assert attempt.accelerator == "cuda"


@pytest.mark.parametrize(
    ("processes", "marks"), [(None, ()), (0, ()), (2, ("not alone: 2 other processes on the GPUs just before",))]
)
def test_processes_on_the_gpus_beforehand_mark_the_trial(processes: int | None, marks: tuple[str, ...]) -> None:
    trial = _attempt(processes).finished().trial
    assert trial.conditions.other_gpu_processes == processes
    assert _marks(trial) == marks


def test_a_sampler_that_ended_by_itself_marks_the_trial_and_keeps_its_samples() -> None:
    attempt = _attempt()
    attempt.recording = _recording(rows=((5, (1.0,)),), fault="the sampler hung")
    finished = attempt.finished()
    assert _marks(finished.trial) == ("the sampler hung",)
    assert (finished.trial.energy_reason, len(finished.traces)) == (None, 1)


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        (None, "no meter"),
        (_recording(), "the sampler saw nothing"),
        (_recording(fault="the sampler ended by itself with code -9"), "the sampler ended by itself with code -9"),
    ],
)
def test_energy_that_is_missing_has_its_reason(recording: Recording | None, reason: str) -> None:
    """The sampler's own fault before anything else that is known."""
    attempt = _attempt()
    attempt.energy_reason = "no meter"
    attempt.recording = recording
    trial = attempt.finished().trial
    assert (trial.energy, trial.energy_reason) == ((), reason)
