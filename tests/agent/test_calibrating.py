"""Driving the square wave: what is asked of the engine, and what becomes of what the meters show. Time is simulated."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import worker
from agent.calibrating import FAST_S, SLOW_S, Calibrated, Calibration
from agent.cards import CardStore
from agent.orders import Answer, Burn, Burned
from agent.sampler import Recording
from agent.stopping import Stop
from agent.surveying import Surveyed
from phasewatt.errors import EngineFailed, MeterUnavailable, Stopped
from phasewatt.fields import Reading, Scope
from phasewatt.traces import Channel, SensorCard
from tests.fixtures.square_waves import SimulatedSensor, read_at

GPU = SimulatedSensor(0.1, 0.025, 0.01, jitter_s=0.002, resolution=0.001, noise=4.0, off_w=124, on_w=700)
WALL = SimulatedSensor(1.0, 1.0, 1.5, jitter_s=0.02, resolution=0.1, noise=0.3, off_w=80, on_w=200)


class Clock:
    """Time that only the test's parts move on."""

    def __init__(self) -> None:
        self.now_ns = 10**9
        self.loads: list[tuple[int, int]] = []

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


class ClockStop(Stop):
    """Pauses by the clock; is asked to end at `end_ns`."""

    def __init__(self, clock: Clock, end_ns: int = 2**62) -> None:
        super().__init__()
        self._clock, self._end_ns = clock, end_ns

    def pause(self, seconds: float) -> None:
        self._clock.pass_s(seconds)
        if self._clock.now_ns > self._end_ns:
            raise Stopped("stopped")


class Engine:
    """Burns by the clock; refuses the accelerators that it does not have."""

    def __init__(self, clock: Clock, *accelerators: str) -> None:
        self._clock, self._accelerators = clock, accelerators
        self.asked: list[Burn] = []

    def ask(self, question: Any, answer: type[Any], limit_s: float) -> Any:
        self.asked.append(question)
        accelerator = self._accelerators[0] if question.accelerator == "auto" else question.accelerator
        if accelerator not in self._accelerators:
            raise EngineFailed(f"no {accelerator} here")
        start_ns = self._clock.now_ns
        self._clock.pass_s(question.seconds)
        self._clock.loads.append((start_ns, self._clock.now_ns))
        return Burned(start_ns=start_ns, end_ns=self._clock.now_ns, accelerator=accelerator)


class Samplers:
    """Samplers whose meters' channels show what simulated sensors would."""

    def __init__(self, clock: Clock, sensors: dict[str, tuple[Channel, SimulatedSensor]]) -> None:
        self._clock, self._sensors = clock, sensors
        self.read: list[tuple[str, ...]] = []

    def __call__(self, names: Sequence[str]) -> Sampling:
        self.read.append(tuple(names))
        return Sampling(self._clock, [self._sensors[name] for name in names])


class Sampling:
    """One sampler, which reads every 10 ms."""

    def __init__(self, clock: Clock, sensors: list[tuple[Channel, SimulatedSensor]]) -> None:
        self._clock, self._sensors = clock, sensors
        self._start_ns = 0

    def start(self) -> None:
        self._start_ns = self._clock.now_ns

    def stop(self) -> Recording:
        times_ns = read_at([(self._start_ns, self._clock.now_ns)], 0.01, seed=1, margin_s=0.0)
        columns = [sensor.column(self._clock.loads, times_ns, 1) for _, sensor in self._sensors]
        rows = tuple((at, tuple(column[row][1] for column in columns)) for row, at in enumerate(times_ns))
        channels = tuple(channel for channel, _ in self._sensors)
        return Recording(meter="m", simulated=False, channels=channels, rows=rows, fault=None)


def _channel(name: str, card: SensorCard | None = None) -> Channel:
    return Channel(name=name, source=name, reading=Reading.INSTANT, unit="W", scope=Scope.GPU_BOARD, card=card)


def _rail(name: str, source: str) -> Channel:
    return msgspec.structs.replace(_channel(name), source=source, scope=Scope.MODULE)


def _surveyed(name: str, card: SensorCard | None = None, **changes: Any) -> Surveyed:
    plain = Surveyed(name, (_channel(name, card),), (1.0,), (), "580", "700 W", (2e-5,), (), False, None)
    return plain._replace(**changes)


class House:
    """The parts around a calibration, with a GPU's and a wall plug's sensor."""

    def __init__(self, state: Path, *accelerators: str, end_ns: int = 2**62) -> None:
        self.clock = Clock()
        self.engine = Engine(self.clock, *accelerators)
        self.samplers = Samplers(
            self.clock, {"nvml": (_channel("nvml"), GPU), "external": (_channel("external"), WALL)}
        )
        self.store = CardStore(state)
        self.told: list[str] = []
        self.stop = ClockStop(self.clock, end_ns)

    def calibrate(
        self, *found: Surveyed, samplers: Callable[[Sequence[str]], Any] | None = None
    ) -> dict[str, Calibrated]:
        made = Calibration(self.engine, self.store, self.stop, self.told.append, samplers or self.samplers)
        return {outcome.meter: outcome for outcome in made.run(found)}


def test_a_fast_sensor_is_found_by_one_wave_and_kept(tmp_path: Path) -> None:
    house = House(tmp_path, "cuda", "cpu")
    card = house.calibrate(_surveyed("nvml"))["nvml"].card
    assert card is not None
    assert card.update_period_s == pytest.approx(0.1, rel=0.01)
    assert card.averaging_s == pytest.approx(0.025, abs=0.02)
    assert (card.driver, card.mode, card.read_cost_s) == ("580", "700 W", 2e-5)
    assert [order.seconds for order in house.engine.asked if order.seconds > 0.3][:3] == [2.6, 1.03, 1.03]
    assert {order.accelerator for order in house.engine.asked[1:]} == {"cuda"}
    assert CardStore(tmp_path).with_cards("nvml", (_channel("nvml"),), "580", "700 W")[0].card == card


def test_a_slow_sensor_gets_a_slower_wave_of_its_own(tmp_path: Path) -> None:
    """The fast one beside it, which sees the same load, is done with the first."""
    house = House(tmp_path, "cuda")
    found = house.calibrate(_surveyed("nvml"), _surveyed("external"))
    assert house.samplers.read == [("nvml", "external"), ("external",)]
    wall, gpu = found["external"].card, found["nvml"].card
    assert wall is not None and gpu is not None
    assert wall.update_period_s == pytest.approx(1.0, rel=0.02)
    assert wall.lag_s is not None and wall.averaging_s is not None
    assert wall.lag_s + wall.averaging_s / 2 == pytest.approx(2.0, abs=0.15)
    assert gpu.update_period_s == pytest.approx(0.1, rel=0.01)


def test_each_meter_gets_the_load_that_it_sees(tmp_path: Path) -> None:
    """On a host whose work the CPU does, a plug sees the CPU's load; a GPU's meter cannot be driven, and says why."""
    house = House(tmp_path, "cpu")
    found = house.calibrate(_surveyed("nvml"), _surveyed("external"))
    assert found["nvml"].card is None
    assert found["nvml"].reason == "no cuda here"
    assert found["external"].card is not None


def test_an_engine_that_does_not_start_costs_the_cards_and_nothing_else(tmp_path: Path) -> None:
    class Broken(Engine):
        def ask(self, question: Any, answer: type[Any], limit_s: float) -> Any:
            raise EngineFailed("needs torch")

    house = House(tmp_path, "cuda")
    house.engine = Broken(house.clock)
    assert house.calibrate(_surveyed("nvml"))["nvml"].reason == "needs torch"


def test_a_meter_that_vanished_meanwhile_says_so(tmp_path: Path) -> None:
    def vanished(names: Sequence[str]) -> Any:
        raise MeterUnavailable("gone")

    house = House(tmp_path, "cuda")
    assert house.calibrate(_surveyed("nvml"), samplers=vanished)["nvml"].reason == "gone"


def test_a_sampler_that_died_gives_no_card(tmp_path: Path) -> None:
    """What it saw until then may lack the half of the wave."""

    class Dying(Sampling):
        def stop(self) -> Recording:
            return msgspec.structs.replace(super().stop(), fault="the sampler ended by itself with code -9")

    house = House(tmp_path, "cuda")
    found = house.calibrate(_surveyed("nvml"), samplers=lambda names: Dying(house.clock, [(_channel("nvml"), GPU)]))
    assert found["nvml"].card is None
    assert found["nvml"].reason == "the sampler ended by itself with code -9"
    assert house.store.missing("nvml", (_channel("nvml"),), "580", "700 W")


def test_a_rail_that_the_load_hardly_reaches_has_the_timing_of_its_board(tmp_path: Path) -> None:
    """It does not make the board a slow one either; a rail of another source lends nothing."""
    house = House(tmp_path, "cuda")
    reached = SimulatedSensor(0.1, 0.002, 0.005, jitter_s=0.002, resolution=0.4, noise=0.3, off_w=3, on_w=25)
    still = SimulatedSensor(0.1, 0.002, 0.005, resolution=0.4, off_w=0.8, on_w=0.8)
    rails = {name: _rail(name, source) for name, source in (("GPU", "a"), ("CPU", "a"), ("VIN", "b"))}
    sensors = [(rails["GPU"], reached), (rails["CPU"], still), (rails["VIN"], still)]
    made = Calibration(
        house.engine, house.store, house.stop, house.told.append, lambda names: Sampling(house.clock, sensors)
    )
    board = _surveyed("ina3221", channels=tuple(rails.values()), read_costs_s=(None,) * 3)
    found = {outcome.channel.name: outcome for outcome in made.run([board]) if outcome.channel is not None}
    gpu, cpu, vin = (found[name].card for name in ("GPU", "CPU", "VIN"))
    assert gpu is not None and cpu is not None and vin is not None
    assert (cpu.update_period_s, cpu.lag_s) == (gpu.update_period_s, gpu.lag_s)
    assert cpu.reason == "the load hardly reached it: its timing is that of GPU"
    assert (found["CPU"].reason, vin.update_period_s) == (None, None)
    assert found["VIN"].reason is not None
    assert sum(order.seconds for order in house.engine.asked) < sum(FAST_S)


def test_recordings_and_meters_that_do_not_answer_drive_no_load(tmp_path: Path) -> None:
    house = House(tmp_path, "cuda")
    found = house.calibrate(
        _surveyed("replay:f", simulated=True), _surveyed("nvml", channels=(), reason="no driver here")
    )
    assert house.engine.asked == []
    assert found["replay:f"].reason == "it is simulated and shows no load of ours"
    assert "nvml" not in found


def test_a_channel_documented_to_be_faster_than_it_is_read_keeps_its_card(tmp_path: Path) -> None:
    figures = dict.fromkeys(("update_jitter_s", "averaging_s", "lag_s", "resolution", "noise", "read_cost_s"))
    documented = SensorCard(origin="documented", update_period_s=0.001, **figures)
    house = House(tmp_path, "cuda")
    assert house.calibrate(_surveyed("nvml", documented)) == {}


def test_being_stopped_keeps_the_cards_from_before(tmp_path: Path) -> None:
    before = House(tmp_path, "cuda")
    first = before.calibrate(_surveyed("nvml"))["nvml"].card
    house = House(tmp_path, "cuda", end_ns=8 * 10**9)
    with pytest.raises(Stopped):
        house.calibrate(_surveyed("nvml"))
    assert CardStore(tmp_path).with_cards("nvml", (_channel("nvml"),), "580", "700 W")[0].card == first


def test_progress_tells_how_much_of_the_wave_is_done(tmp_path: Path) -> None:
    house = House(tmp_path, "cuda")
    house.calibrate(_surveyed("nvml"))
    assert house.told[0] == "starting the load"
    assert house.told[1] == f"nvml: 0 of {sum(FAST_S):.0f} s"
    assert house.told[-1].startswith(f"nvml: {sum(FAST_S[:-2]):.0f} of")


@pytest.mark.parametrize(("halves_s", "most_s"), [(FAST_S, 25), (SLOW_S, 65)])
def test_a_wave_ends_with_idling_and_takes_no_longer_than_said(halves_s: tuple[float, ...], most_s: float) -> None:
    assert len(halves_s) % 2 == 0
    assert sum(halves_s) < most_s


@pytest.mark.parametrize(
    ("engine", "accelerator"),
    [("fake", "cpu"), ("transformers", "cpu"), pytest.param("transformers", "cuda", marks=pytest.mark.gpu)],
)
def test_an_engine_burns_as_long_as_asked_without_a_model(engine: str, accelerator: str) -> None:
    """The first burn may take its time to start; how long it says that the load ran is right, and sharp to 50 ms."""
    if engine == "transformers":
        pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    orders = (Burn(seconds=0.2, accelerator=accelerator), Burn(seconds=0.3, accelerator=accelerator))
    for _ in range(5):  # a host that is busy with something else is not sharp
        burned = _answers(engine, *orders)
        lengths_s = [(reply.end_ns - reply.start_ns) * 1e-9 for reply in burned]
        if lengths_s == pytest.approx([0.2, 0.3], abs=0.05):
            break
    assert lengths_s == pytest.approx([0.2, 0.3], abs=0.05)
    assert burned[0].end_ns <= burned[1].start_ns


def _answers(engine: str, *orders: Burn) -> list[Any]:
    answers = io.BytesIO()
    worker.serve(engine, io.BytesIO(b"".join(msgspec.json.encode(order) + b"\n" for order in orders)), answers)
    return [msgspec.json.decode(line, type=Answer) for line in answers.getvalue().splitlines()]
