"""The window of a phase: read closely at its edges, alone or said so, and lengthened until its energy is sure."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agent.cells import Cell, Measure
from agent.sampling import ATTENTION_S
from agent.stopping import Stop
from agent.windows import Shape, Windows, shape_of
from phasewatt import energy
from phasewatt.errors import Stopped
from phasewatt.fields import Phase, Scope
from phasewatt.records import PhaseEnergy, PhaseRun
from tests.fixtures.scripted_bench import (
    ScriptedBench,
    ScriptedCompany,
    ScriptedSampler,
    ScriptedSensor,
    ScriptedStop,
    World,
    joules,
    watts,
)
from tests.fixtures.waveforms import counted

SHAPE = Shape(depth=0, steps=0, tokens=8, kv_start=0, kv_end=8)
SURE, WIDE = 0.005, 0.3  # spread of updates


class House:
    """Windows with doubles around them."""

    def __init__(
        self,
        *sensors: ScriptedSensor,
        measure: Measure | None = None,
        accelerator: str = "cuda",
        company: ScriptedCompany | None = None,
        stop: Stop | None = None,
        **bench: Any,
    ) -> None:
        self.world = World()
        self.bench: Any = ScriptedBench(self.world, **bench)
        self.sampler: Any = ScriptedSampler(self.world, *sensors) if sensors else None
        self.told: list[str] = []
        stop = stop or ScriptedStop(self.world)
        others: Any = company or ScriptedCompany()
        self.windows = Windows(
            *(self.bench, measure or Measure(), accelerator, self.sampler, others, stop, self.told.append),
            clock_ns=self.world.clock_ns,
        )

    def phase(self, phase: Phase = Phase.PREFILL) -> PhaseRun:
        return self.windows.phase(phase, SHAPE)

    def energy_of(self, run: PhaseRun) -> PhaseEnergy:
        """The verdict on the first scope, by all that was sampled."""
        return energy.phase_energies(self.sampler.so_far().traces("device", "boot"), [run])[0]


def test_a_window_is_read_closely_at_both_edges() -> None:
    """And is followed by a pause in which its last update shows; warming up asks for neither."""
    house = House(watts(spread=SURE))
    house.phase()
    assert house.world.events == ["warm-up", "attend", "window", "attend", "pause 0.50"]
    assert ATTENTION_S < 0.5


def test_without_a_meter_a_window_is_short_and_nothing_is_waited_for() -> None:
    house = House()
    run = house.phase()
    assert house.world.events == ["warm-up", "window"]
    assert house.bench.windows_s() == [1.0]
    assert run.window_reason is None


def test_a_window_whose_energy_is_sure_is_measured_once() -> None:
    house = House(watts(spread=SURE))
    run = house.phase()
    assert house.bench.windows_s() == [3.0]
    assert run.window_reason is None


def test_a_wide_window_is_measured_again_as_long_as_its_width_asks_for() -> None:
    """The last window alone is evidence; what was measured before is kept as warm-up."""
    house = House(watts(spread=0.08))
    run = house.phase()
    first_s, second_s, *_ = house.bench.windows_s()
    assert first_s == 3.0
    assert 3.9 <= second_s <= 12.2
    found = house.energy_of(run)
    assert found.temporal_uncertainty_j / found.energy_j < 0.02
    assert run.window.duration_s == pytest.approx(house.bench.windows_s()[-1], abs=0.1)
    assert run.window_reason == "lengthened from 3.0 s for its energy"
    assert run.starts_ns == tuple(sorted(run.starts_ns))
    assert run.warmup == sum(house.bench.done[:-1]) > 60
    assert len(run.starts_ns) == sum(house.bench.done)


def test_too_few_updates_lengthen_a_window_until_they_are_enough() -> None:
    """A sensor that looks every 1.5 s has eight of them in the third window."""
    house = House(watts(period_s=1.5, spread=SURE))
    run = house.phase()
    lengths_s = house.bench.windows_s()
    assert [b / a for a, b in itertools.pairwise(lengths_s)] == pytest.approx([2.4, 2.4], rel=0.02)
    assert house.energy_of(run).reason is None
    assert house.told[2:] == ["prefill: measuring 7 s for its energy", "prefill: measuring 17 s for its energy"]


@pytest.mark.parametrize(
    ("longest_s", "last_s"), [(30.0, [3.0, 12.0, 30.0]), (900.0, [3.0, 12.0, 48.0, 192.0]), (3.0, [3.0]), (0.0, [3.0])]
)
def test_no_window_is_longer_than_is_allowed_and_no_more_than_four_are_measured(
    longest_s: float, last_s: list[float]
) -> None:
    measure = Measure(longest_window_s=longest_s, energy_target=1e-5, limit_s=900)
    house = House(watts(spread=WIDE), measure=measure)
    house.phase()
    assert house.bench.windows_s() == pytest.approx(last_s, rel=0.03)


def test_repetitions_that_fill_the_longest_window_are_not_done_again() -> None:
    """Six of 6 s are longer than 30 s, whatever was asked for."""
    house = House(watts(spread=WIDE), measure=Measure(energy_target=1e-5), repetition_s=6.1)
    house.phase()
    assert house.bench.windows_s() == [3.0]


def test_a_longer_window_is_longer_than_the_one_that_was_measured() -> None:
    """Six repetitions of 1 s took 6 s where 3 s were asked for: to ask for 4 s would give the same again."""
    house = House(watts(spread=WIDE), measure=Measure(energy_target=1e-5), repetition_s=1.013)
    house.phase()
    assert house.bench.windows_s()[1] == pytest.approx(4 * 6 * 1.013)


@pytest.mark.parametrize("held_back", [{"most": 80}, {"measure": Measure(limit_s=4.0, energy_target=1e-5)}])
def test_a_window_that_its_limit_ended_is_not_asked_for_again(held_back: dict[str, Any]) -> None:
    """Neither time nor repetitions would be more."""
    house = House(watts(spread=WIDE), **held_back)
    house.phase()
    assert len(house.bench.windows_s()) == 2


def _reset(at_s: float) -> float:
    return counted(100.0)(at_s) if at_s < 1.5 else counted(100.0, start_j=0.0)(at_s)


@pytest.mark.parametrize(
    ("sensor", "code", "repetition_s"),
    [
        (joules(Scope.GPU_BOARD, _reset), "counter_backwards", 0.0473),
        (watts(spread=SURE), "aliased", 0.1),
        (watts(Scope.UNKNOWN), "scope_unknown", 0.0473),
    ],
)
def test_a_refusal_that_length_does_not_help_is_left_as_it_is(
    sensor: ScriptedSensor, code: str, repetition_s: float
) -> None:
    house = House(sensor, repetition_s=repetition_s)
    run = house.phase()
    assert house.energy_of(run).reason.partition(":")[0] == code
    assert house.bench.windows_s() == [3.0]


@pytest.mark.parametrize(
    ("accelerator", "own", "other"),
    [
        ("cuda", Scope.GPU_BOARD, Scope.CPU_PACKAGE),
        ("cpu", Scope.CPU_PACKAGE, Scope.GPU_BOARD),
        ("cuda", Scope.MODULE, Scope.BOARD_INPUT),
        ("cpu", Scope.BOARD_INPUT, Scope.WALL),
        ("cuda", Scope.WALL, Scope.CPU_PACKAGE),
    ],
)
def test_the_scope_around_the_processor_decides(accelerator: str, own: Scope, other: Scope) -> None:
    """Power beside it may be as wide as it is."""
    house = House(watts(other, spread=WIDE), watts(own, spread=SURE), accelerator=accelerator)
    house.phase()
    assert len(house.bench.windows_s()) == 1
    house = House(watts(other, spread=SURE), watts(own, spread=WIDE), accelerator=accelerator)
    house.phase()
    assert len(house.bench.windows_s()) > 1


def test_a_sensor_that_shows_late_is_waited_for() -> None:
    """By its card; else its last update of a window would never be among the samples."""
    house = House(watts(Scope.WALL, period_s=1.0, spread=SURE, lag_s=2.0))
    run = house.phase()
    assert house.world.events[-1] == "pause 4.50"
    assert house.energy_of(run).reason is None
    assert len(house.bench.windows_s()) > 1
    hours = House(watts(Scope.WALL, period_s=1.0, spread=SURE, lag_s=1000.0))
    hours.phase()
    assert hours.world.events[-1] == "pause 11.50"


def test_warming_up_ends_when_repetitions_are_steady() -> None:
    """Four cold ones spoil the first round; both stand before the window as warm-up."""
    house = House(watts(spread=SURE), cold=4)
    run = house.phase()
    assert house.world.events.count("warm-up") == 2
    assert run.warmup == 12
    assert run.steady
    assert "steady: drift" in run.steady_reason


def test_warming_up_ends_with_its_time() -> None:
    """What never gets steady is measured all the same."""
    house = House(cold=10**6, measure=Measure(warmup_limit_s=1.0, repetitions=3))
    house.phase()
    assert [order.limit_s for order in house.bench.asked] == pytest.approx([1.0, 60.0])
    assert House(measure=Measure(warmup_limit_s=0.0)).phase().warmup == 0


def test_a_request_keeps_every_first_token_and_the_gaps_of_its_last_window() -> None:
    """Gaps are of what is evidence, first tokens of every repetition."""
    run = House(watts(period_s=1.0, spread=SURE)).phase(Phase.REQUEST)
    assert len(run.first_token_ns) == len(run.starts_ns)
    assert len(run.gaps_ns) == len(run.starts_ns) - run.warmup
    prefill = House().phase()
    assert (prefill.first_token_ns, prefill.gaps_ns) == (None, None)


@pytest.mark.parametrize(("processes", "most"), [((0, 2), 2), ((2, 0), 2), ((None, 1), 1), ((None,), None), ((0,), 0)])
def test_who_else_was_there_is_noted(processes: tuple[int | None, ...], most: int | None) -> None:
    """The most processes that were seen before or after, and what others' cores did meanwhile."""
    run = House(company=ScriptedCompany(1.5, processes)).phase()
    assert (run.other_cpu_cores, run.other_gpu_processes) == (1.5, most)


def test_who_else_was_there_is_not_known_on_a_host_that_does_not_tell() -> None:
    run = House(company=ScriptedCompany(None, (None,))).phase()
    assert (run.other_cpu_cores, run.other_gpu_processes) == (None, None)


def test_idling_is_one_stretch_and_goes_on_until_its_energy_is_sure() -> None:
    """Nothing is thrown away: the longer one begins where the first did."""
    house = House(watts(period_s=1.0, spread=SURE))
    run = house.windows.idle()
    assert (len(run.starts_ns), run.warmup, run.tokens) == (1, 0, 0)
    assert run.window.duration_s == pytest.approx(17.28, abs=1.5)
    assert run.window_reason == "lengthened from 3.0 s for its energy"
    assert house.bench.asked == []
    assert house.energy_of(run).reason is None


def test_idling_that_is_sure_at_once_takes_its_time_and_no_more() -> None:
    house = House(watts(spread=SURE), company=ScriptedCompany(0.3, (1,)))
    run = house.windows.idle()
    assert house.world.events == ["pause 0.50", "attend", "pause 3.00", "attend", "pause 0.50"]
    assert run.window.duration_s == pytest.approx(3.0)
    assert run.window_reason is None
    assert (run.other_cpu_cores, run.other_gpu_processes) == (0.3, 1)


@pytest.mark.parametrize("idle_s", [0.001, 3.0])
def test_idling_beside_a_sensor_that_never_changes_ends(idle_s: float) -> None:
    """At the longest that a window may be, even where hardly any time was asked for."""
    house = House(watts(spread=0.0), measure=Measure(idle_s=idle_s))
    run = house.windows.idle()
    assert 0 < run.window.duration_s <= 31.0


def test_being_stopped_ends_a_window_and_the_idling_at_once() -> None:
    """By a real pause of an hour that is not waited for."""
    stop = Stop()
    house = House(watts(spread=WIDE), stop=stop, measure=Measure(idle_s=3600))

    def ask(order: Any, answer: type[Any], limit_s: float) -> Any:
        stop.set()
        return answered(order, answer, limit_s)

    answered, house.bench.ask = house.bench.ask, ask
    with pytest.raises(Stopped):
        house.phase()
    assert len(house.bench.windows_s()) == 1
    with pytest.raises(Stopped):
        house.windows.idle()


@pytest.mark.parametrize(
    ("phase", "shape"),
    [
        (Phase.PREFILL, Shape(depth=0, steps=0, tokens=200, kv_start=0, kv_end=100)),
        (Phase.DECODE, Shape(depth=116, steps=8, tokens=16, kv_start=116, kv_end=124)),
        (Phase.REQUEST, Shape(depth=0, steps=41, tokens=282, kv_start=0, kv_end=140)),
    ],
)
def test_a_repetition_has_the_tokens_and_depths_of_its_phase(phase: Phase, shape: Shape) -> None:
    """Of a batch of two; decode stands in the middle of the request's depths."""
    cell = Cell(prompt_tokens=100, output_tokens=41, batch=2)
    assert shape_of(phase, cell, Measure(decode_steps=8)) == shape
