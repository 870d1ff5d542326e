"""A trial while it is being made: which meters it reads, and what a reader of it must know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.attempt import Attempt, Plan
from agent.bench import Placed
from agent.cells import Cell, Measure
from agent.host import Host, Observation
from agent.orders import Described
from agent.sampler import Recording
from agent.stopping import Stop
from phasewatt.fields import Reading, Scope
from phasewatt.records import Trial
from phasewatt.traces import Channel
from tests.fixtures.kernel_tree import alerts, devfreq, meminfo, over_current, tree
from tests.fixtures.records import architecture, work

CELL = Cell(prompt_tokens=8, output_tokens=4, engine="fake", accelerator="auto")
CHANNEL = Channel(name="c", source="s", reading=Reading.INSTANT, unit="W", scope=Scope.MODULE)


class Impatient(Stop):
    """Pauses for nobody, so that no CPU time passes."""

    def pause(self, seconds: float) -> None:
        pass


def _attempt(other_gpu_processes: int | None = None, host: Host | None = None) -> Attempt:
    plan = Plan("campaign", "suite", Measure(gate_s=0))
    return Attempt(host or Host("board"), CELL, plan, other_gpu_processes, Impatient())


def _jetson(root: Path, available_kb: int = 30_000_000) -> Path:
    """An Orin in MAXN."""
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1",
        "var/lib/nvpmodel/status": "pmode:0000",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=15W >",
    }
    files |= devfreq("17000000.gpu", 1, 1, 1) | over_current(0, 15, 37) | alerts(gpu=0) | meminfo(available_kb)
    return tree(root, files)


def _between(root: Path, files: dict[str, object]) -> Trial:
    """The trial on a board at `root` whose files became these meanwhile."""
    attempt = _attempt(host=Host("board", root))
    attempt.placed = _placed()
    attempt.observe()
    tree(root, files)
    attempt.observe()
    return attempt.finished().trial


def _placed(**fields: Any) -> Placed:
    described = Described(
        architecture=architecture(),
        accelerator=fields.get("accelerator", "cuda"),
        processor=None,
        gpu_uuid=fields.get("gpu_uuid"),
        other_gpus=fields.get("other_gpus", ()),
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


def test_nvml_is_told_all_gpus_that_share_the_model_and_any_of_them_may_be_held_back() -> None:
    """The clock is the first one's; a pass waits for whichever is slow."""
    seen = {"GPU-7": (1_900_000_000, frozenset[str]()), "GPU-8": (1_500_000_000, frozenset({"software power cap"}))}

    class Several(Host):
        def observe(self, accelerator: str, gpu_uuid: str | None = None) -> Observation:
            clock_hz, throttled = seen[gpu_uuid or ""]
            return Observation(clock_hz=clock_hz, throttled=throttled)

    attempt = _attempt(host=Several("board"))
    attempt.cell = msgspec.structs.replace(CELL, tensor_parallel=2)
    attempt.placed = _placed(gpu_uuid="GPU-7", other_gpus=("GPU-8",))
    assert attempt.metered(["nvml", "rapl"]) == ("nvml:GPU-7+GPU-8", "rapl")
    attempt.observe()
    conditions = attempt.finished().trial.conditions
    assert conditions.clock_hz == (1_900_000_000, 1_900_000_000)
    assert conditions.throttled == ("software power cap",)
    assert conditions.parallelism == "tensor 2"
    assert _attempt().finished().trial.conditions.parallelism == "single"


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


def test_state_mode_and_releases_of_a_board_are_conditions(tmp_path: Path) -> None:
    """State before and after, power mode by name and id; nothing that happened, no mark."""
    trial = _between(_jetson(tmp_path), files=meminfo(20_000_000))
    conditions = trial.conditions
    assert (conditions.power_mode, conditions.power_mode_id) == ("MAXN", 0)
    assert conditions.versions == {"l4t": "36.4.3", "jetpack": "6.2"}
    before, after = conditions.state
    assert before is not None and after is not None
    assert [state.memory_available_bytes for state in (before, after)] == [30_720_000_000, 20_480_000_000]
    assert before.clocks[0].locked
    assert conditions.simulated
    assert (conditions.throttled, _marks(trial)) == ((), ())


@pytest.mark.parametrize(
    ("files", "mark"),
    [
        (over_current(0, 15, 40), "the supply held it back 3 times: instantaneous over-current (oc3)"),
        (over_current(1, 15, 37), "the supply held it back once: under-voltage (oc1)"),
        (alerts(gpu=1), "held back: thermal: gpu"),
        (meminfo(1_500_000), "memory nearly full: 1536 of 65536 MB available"),
        ({"var/lib/nvpmodel/status": "pmode:0001"}, "the power mode changed meanwhile: MAXN -> 15W"),
    ],
)
def test_what_happened_to_the_board_marks_the_trial(tmp_path: Path, files: dict[str, object], mark: str) -> None:
    assert _marks(_between(_jetson(tmp_path), files=files)) == (mark,)


def test_a_small_boards_memory_is_nearly_full_below_500_mb(tmp_path: Path) -> None:
    """5 % of 4 GB would be less than a system needs."""
    marks = _marks(_between(_jetson(tmp_path), files=meminfo(480_000, total_kb=4_000_000)))
    assert [mark.partition(":")[0] for mark in marks] == ["memory nearly full"]


def test_a_large_hosts_memory_is_not_nearly_full_above_two_gigabytes(tmp_path: Path) -> None:
    """5 % of 64 GB is room for another model."""
    assert _marks(_between(_jetson(tmp_path), files=meminfo(2_500_000))) == ()


def test_a_counter_that_began_anew_is_no_event(tmp_path: Path) -> None:
    """A restart of the driver sets it to 0."""
    assert _marks(_between(_jetson(tmp_path), files=over_current(0, 15, 2))) == ()


def test_a_server_has_no_power_mode() -> None:
    attempt = _attempt()
    attempt.placed = _placed(accelerator="cpu")
    attempt.observe()
    conditions = attempt.finished().trial.conditions
    assert (conditions.power_mode, conditions.power_mode_id, conditions.simulated) == (None, None, False)
    assert conditions.state[0] is not None


def test_what_the_meters_said_goes_with_the_trial() -> None:
    attempt = _attempt()
    attempt.said = {"nvml": "no NVIDIA driver here", "ina3221": "reads VDD_IN"}
    assert attempt.finished().trial.meters == {"nvml": "no NVIDIA driver here", "ina3221": "reads VDD_IN"}
